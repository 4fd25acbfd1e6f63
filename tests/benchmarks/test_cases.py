"""The registry of the benchmark: every case can be built and trained, every name is found."""

import functools
import operator
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import cases, commands, pictures
from benchmarks.cases import CASES
from gan_jax import config as configs
from gan_jax.errors import UserError
from gan_jax.modes import parsing
from tests.helpers.shell import ROOT, python

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@each_case
def test_a_case_is_built_in_both_sizes(case):
    """From a shipped config, without its data; the small form has the same sections."""
    assert case.config in configs.shipped()
    config = case.load()
    assert config.system == case.system
    small = case.experiment(small=True)
    assert cases.stage_of(small).resolution == small.facts.resolution
    assert cases.stage_of(small).batch_size <= cases.stage_of(case.experiment()).batch_size
    agreeing = case.agreeing().config
    assert {section.schedule.name for section in agreeing.optim.values()} == {"constant"}


@each_case
def test_a_case_has_a_contender(case):
    assert (ROOT / "benchmarks" / "contenders" / f"{case.contender}.py").is_file()
    assert case.losses


@each_case
def test_the_command_of_a_case_is_accepted(case, tmp_path, monkeypatch):
    """launch.py knows every key, and all values have the right types."""
    monkeypatch.setattr(pictures, "like", lambda config, folder: {"path": str(folder)})
    _, *words = commands.command(case, False, tmp_path, tmp_path)
    config = parsing.parse(words).general.config.value
    configs.check(config)
    assert config.run.sample_every == "0"
    for key, value in case.values().items():
        found = functools.reduce(operator.getitem, key.split("."), config)
        assert tuple(found) == value if isinstance(value, tuple) else found == value, key


def test_every_system_has_a_case():
    assert {case.system for case in CASES} == {*configs.SYSTEMS}


def test_names_are_unique():
    entries = (*CASES, *bench.DETAILS)
    assert len({entry.name for entry in entries}) == len(entries)
    # a word that is a system of cases and of details would mean both
    assert not {case.system for case in CASES} & {detail.system for detail in bench.DETAILS}


def test_choosing_by_system_and_by_name():
    def named(words: str) -> list[str]:
        return [case.name for case in cases.chosen(words)]

    assert named("pix2pix") == ["pix2pix_256", "pix2pix_256_b4"]
    assert named("warpgan, dcgan_28,warpgan_64") == ["warpgan_64", "dcgan_28"]
    assert named("all") == named("") == [case.name for case in CASES]
    with pytest.raises(UserError, match="did you mean progan"):
        named("prgan")


@pytest.mark.parametrize("words", ["--parts=stap", "--system=prgan"])
def test_wrong_words_end_in_one_line(words, capsys):
    assert bench.main([words, "--small"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {words}")


def test_all_that_can_be_measured_is_listed(capsys):
    assert bench.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [e.name for e in (*CASES, *bench.DETAILS)]


def test_a_reader_of_the_list_may_leave():
    """As `| head -1` does: here it is gone from the start."""
    reader, writer = os.pipe()
    os.close(reader)
    code = "import runpy, sys; sys.argv = ['benchmarks', '--list']; "
    code += "runpy.run_module('benchmarks', run_name='__main__')"
    done = python(code, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_pictures_are_as_their_configs_read_them(tmp_path):
    config = configs.load_file("dcgan_cifar10")
    values = pictures.like(config, tmp_path)
    with np.load(values["path"]) as found:
        assert found["x_train"].shape[1:] == (32, 32, 3)
    assert pictures.like(configs.load_file("dcgan_mnist"), tmp_path) == {}
    small = pictures.photos(tmp_path / "few", 20, 30, count=2)
    assert len([*Path(small).iterdir()]) == 2
