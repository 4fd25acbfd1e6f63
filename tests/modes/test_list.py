"""--mode=list: what it says about each config is what the config builds."""

import pytest

from gan_jax import config as configs
from gan_jax.modes.actions import config_facts, list_configs
from tests.helpers.contract import accepted
from tests.helpers.shell import ROOT, heavy_modules, launch_here

SHIPPED = configs.shipped()


def test_every_file_is_shipped():
    assert {*SHIPPED.values()} == {*(ROOT / "configs").glob("*.py")}


@pytest.mark.parametrize("name", SHIPPED)
def test_facts_are_those_of_the_config(name):
    facts, config = config_facts.read(SHIPPED[name]), configs.load_file(name)
    assert (facts.name, facts.system) == (name, config.system)
    assert facts.resolution == config.data.resolution
    assert facts.length == config.run.steps
    assert [v for v in facts.variants if v != "tiny"] == [*accepted(SHIPPED[name])]
    assert "tiny" in facts.variants
    assert 20 < len(facts.about) < 120
    assert "\n" not in facts.about + facts.cost


def test_a_line_for_each_config():
    done = launch_here("--mode=list")
    assert done.returncode == 0, done.stderr
    lines, _, end = done.stdout.partition("\n\n")
    lines = {line.split()[0]: line for line in lines.splitlines()}
    assert [*lines] == [*SHIPPED]
    assert lines["dcgan_mnist"].split("  ")[0] == "dcgan_mnist"
    assert "  gan  " in lines["dcgan_mnist"]
    assert "  28 px  60 epochs  " in lines["dcgan_mnist"]
    assert lines["dcgan_mnist"].endswith("unconditional. Variants: pytorch_gan, labels.")
    assert "200,000 steps  " in lines["dcgan_cifar10"]
    assert lines["quickstart"].endswith("Cost: two minutes on two CPU cores.")
    assert "553.8 million parameters" in lines["diffusion_imagenet256"]
    assert "tiny" in end
    assert "--config=NAME" in end


def test_a_system_alone():
    found = [line.split()[:2] for line in list_configs.lines("pix2pix")[:-3]]
    assert found == [["pix2pix_facades", "pix2pix"], ["pix2pix_photos", "pix2pix"]]


def test_a_file_that_is_being_written_does_not_hide_the_others(tmp_path, monkeypatch):
    files = {"good": SHIPPED["quickstart"], "bad": tmp_path / "bad.py"}
    files["bad"].write_text('"""Half a config."""\n\ndef get_config(')
    monkeypatch.setattr(configs, "shipped", lambda: files)
    good, bad, *_ = list_configs.lines()
    assert good.startswith("quickstart")
    assert bad.startswith("bad ")
    assert "cannot be read (SyntaxError: " in bad


def test_the_list_needs_no_jax():
    code = (
        "from gan_jax.modes import door\n"
        "assert door.run(door.parse(['launch.py', '--mode=list'])) == 0"
    )
    assert heavy_modules(code) == "loaded []"
