"""`tiny`: every variant of every config opens at that size and trains what it trains in full."""

import ast
import re

import pytest

from gan_jax import api
from gan_jax import config as configs
from gan_jax.run.experiment import Experiment
from tests.helpers import contract

ALONE = contract.alone()
SIZES = {
    "batch_size",
    "microbatches",
    "loss.disc_steps",
    "model.attention_resolutions",
    "model.blocks",
    "model.bottleneck",
    "model.channel_mult",
    "model.control_width",
    "model.disc.layers",
    "model.disc.width",
    "model.disc_width",
    "model.dtype",
    "model.fmap_base",
    "model.fmap_max",
    "model.gen.width",
    "model.norm_groups",
    "model.num_channels",
    "model.num_head_channels",
    "model.num_res_blocks",
    "model.palette",
    "model.width",
    "model.z_dim",
    "optim.unet.schedule.warmup",
    "sampling.steps",
}
SECTIONS = ("data.", "growth.", "quality.", "run.")  # of another data set, a shorter run
KEPT = {"data.pairs", "growth.reset"}


@pytest.mark.parametrize("program", ALONE)
def test_every_variant_opens_and_keeps_what_it_trains(program):
    full, tiny = contract.load(program, tiny=False), contract.load(program)
    changed = configs.differences(configs.plain(full), configs.plain(tiny))
    others = {k for k in changed if k not in SIZES and not k.startswith(SECTIONS)}
    assert others == set()
    assert not KEPT & set(changed)
    assert Experiment(tiny).system.stages


def test_tiny_ends_in_a_variant_that_changes_objectives():
    """The check above would not see a variant that `tiny` replaces by the base."""
    base, variant = (
        configs.plain(contract.load(p)) for p in ("diffusion_mnist", "diffusion_mnist:v")
    )
    assert set(configs.differences(base, variant)) == {
        "discrete.min_snr",
        "discrete.target",
        "discrete.variance",
    }


def test_the_contract_covers_every_setting_of_every_variant():
    covered = set().union(*(contract.settings(contract.load(p)) for p in contract.PROGRAMS))
    missing = {p: contract.settings(contract.load(p)) - covered for p in ALONE}
    assert {p: sorted(found) for p, found in missing.items() if found} == {}
    systems = {contract.load(p).system for p in contract.FLOAT32}
    assert systems == {contract.load(p).system for p in contract.PROGRAMS} == set(configs.SYSTEMS)
    assert {*contract.FLOAT32, *contract.SAME_IMAGES} <= set(contract.PROGRAMS)


@pytest.mark.parametrize("program", contract.SAME_IMAGES)
def test_programs_whose_images_are_not_compared_differ_in_the_discriminator(program):
    same = contract.SAME_IMAGES[program]
    assert same in contract.PROGRAMS
    assert same not in contract.SAME_IMAGES
    one, other = (configs.plain(contract.load(p)) for p in (program, same))
    parts = ("model.disc.", "loss.", "optim.disc.", "run.", "quality.", "best.")
    assert [k for k in configs.differences(one, other) if not k.startswith(parts)] == []


@pytest.mark.parametrize("file", sorted(contract.FOLDER.glob("*.py")), ids=lambda f: f.stem)
def test_docstrings_name_the_variants(file):
    text = ast.get_docstring(ast.parse(file.read_text()))
    accepted = contract.accepted(file)
    assert set(accepted) <= set(re.findall(r"\w+", text))
    listed = text.partition("Variants")[2]
    names = re.findall(r"^ {4}(\w+(?:, ?\w+)*,?)(?:  |$)", listed, re.M)
    named = {name for line in names for name in re.findall(r"\w+", line)}
    assert named <= {*accepted, "tiny"}


def shrunk_twice(name: str, variant: str, resolution: int, shrink) -> dict:
    """A config file of an earlier revision: `tiny`, then what its system had beside it."""
    config = configs.load_file(str(contract.FOLDER / f"{name}.py"), variant)
    api.tiny(config, resolution=resolution, channels="rgb")
    assert shrink(config) is config
    assert Experiment(config).system.stages
    return configs.plain(config)


@pytest.mark.parametrize(
    ("name", "variant", "resolution", "shrink"),
    [
        ("diffusion_mnist", "edm", 8, api.tiny_diffusion),
        ("noisy_classifier_mnist", "", 8, api.tiny_diffusion),
        ("warpgan_drawn", "faithful", 32, api.tiny_warpgan),
        ("progan_celebahq", "paper", 16, api.tiny_growth),
    ],
)
def test_config_files_of_earlier_revisions(name, variant, resolution, shrink):
    program = f"{name}:{variant}".rstrip(":")
    twice = shrunk_twice(name, variant, resolution, shrink)
    assert twice == configs.plain(contract.load(program))


def test_a_section_of_a_unet_shrinks_alone():
    config = configs.defaults("diffusion")
    assert api.tiny_unet(config.model) is config.model
    assert config.model.num_channels == 8


def test_a_config_that_was_copied_alone_says_what_it_needs(tmp_path):
    copy = tmp_path / "mine.py"
    copy.write_text((contract.FOLDER / "diffusion_imagenet64.py").read_text())
    with pytest.raises(configs.UserError, match=r"needs shared/imagenet.py beside it"):
        configs.load_file(str(copy))


def test_systems_are_imported_when_asked_for():
    assert "gan" in configs.SYSTEMS
    assert "nope" not in configs.SYSTEMS
    assert len(configs.SYSTEMS) == len(list(configs.SYSTEMS)) == 7
    assert configs.SYSTEMS["gan"].__name__ == "gan_jax.systems.gan"
    with pytest.raises(KeyError):
        configs.SYSTEMS["nope"]
    with pytest.raises(configs.UserError, match=r"config.system='nope': accepted are gan, "):
        configs.defaults("nope")
