"""Terminals that lack characters, readers that leave, platforms that are not there."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax import training
from gan_jax.data.inputs import Inputs
from gan_jax.evaluation import comparison
from gan_jax.modes import caricature, devices, door, parsing
from tests.helpers.one_line import assert_refused, refused_argument
from tests.helpers.shell import ROOT, TINY, command, error_line, launch, one_device, python

QUIET = ("--config.run.quality_every=0", "--config.best.metric=val/gen")
ASCII = {
    "ioencoding": {"PYTHONIOENCODING": "ascii"},
    "locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


def printed(code: str, environment: dict | None = None, **options) -> subprocess.CompletedProcess:
    """A short program behind `make_lasting`, with stdout and stderr as bytes."""
    start = "from gan_jax.modes.streams import make_lasting; make_lasting(); import sys\n"
    return python(start + code, environment=environment, text=False, **options)


@pytest.mark.parametrize("kind", ASCII)
def test_characters_that_cannot_be_shown_are_replaced(kind):
    code = r"print('0.5 \xb1 0.1 \xb7 \xe9\udcff'); print('\xe9', file=sys.stderr)"
    done = printed(code, ASCII[kind])
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"0.5 ? 0.1 ? ??\n"
    assert done.stderr == b"?\n"


def test_other_terminals_show_everything():
    done = printed(r"print('0.5 \xb1 0.1 \xb7')", {"PYTHONIOENCODING": "utf-8"})
    assert done.stdout.decode() == "0.5 ± 0.1 ·\n"


@pytest.mark.parametrize("broken", ["stdout", "stderr"])
def test_a_reader_that_has_left_does_not_end_the_program(broken):
    read, write = os.pipe()
    os.close(read)
    code = f"for i in range(10000): print(i, file=sys.{broken}, flush=i % 2 == 0)\nsys.exit(7)"
    other = {"stdout": "stderr", "stderr": "stdout"}[broken]
    try:
        done = printed(code, **{broken: write, other: subprocess.PIPE})
    finally:
        os.close(write)
    assert done.returncode == 7
    assert getattr(done, other) == b""


@pytest.mark.parametrize("closed", [1, 2])
def test_a_stream_that_was_closed_from_the_start(closed):
    start = "from gan_jax.modes.streams import make_lasting; make_lasting(); import sys\n"
    code = start + "print('é'); print('x', file=sys.stderr); sys.stderr.isatty(); sys.exit(7)"
    shell = f'"{sys.executable}" -c "$CODE" {closed}>&-'
    done = subprocess.run(shell, shell=True, cwd=ROOT, env={**os.environ, "CODE": code}, timeout=60)
    assert done.returncode == 7


def piped(*arguments: str, environment: dict | None = None, lines: int = 1) -> tuple[int, str]:
    """Status and stderr of launch.py whose reader leaves after some lines."""
    process = subprocess.Popen(
        command(*arguments), cwd=ROOT, env={**one_device(), **(environment or {})},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    return process.wait(timeout=400), errors


def test_training_goes_on_without_its_console(tmp_path):
    """`launch.py … | head -1`, on a terminal of ASCII: all steps are made, the status is 0."""
    workdir = tmp_path / "run"
    status, errors = piped(TINY, f"--workdir={workdir}", *QUIET, environment=ASCII["locale"])
    assert status == 0, errors
    assert "Traceback" not in errors
    assert (workdir / "summary.json").exists()
    assert (workdir / "checkpoints" / "6").is_dir()


def test_help_needs_no_config_and_may_be_cut_off():
    done = launch("--help")
    assert done.returncode == 0
    assert "Trains image generators" in done.stdout
    assert "--workdir" in done.stdout
    assert done.stderr == ""
    assert piped("--help") == (0, "")


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_platform_of_the_environment_that_is_not_there(platform):
    line = error_line(launch(TINY, "--dry_run", environment={"JAX_PLATFORMS": platform}))
    assert f"JAX_PLATFORMS={platform} in the environment" in line
    assert "choose cpu" in line


PLATFORM, CACHE = ("jax_platforms", "cpu"), ("jax_compilation_cache_dir", "/a/cache")
NO_CACHE = ("jax_enable_compilation_cache", False)
GLOO = ("jax_cpu_collectives_implementation", "gloo")
CLUSTER = "--distributed --coordinator=node1:61440 --num_processes=2 --process_id=1"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ["devices"]),
        ("--platform=cpu", [PLATFORM, "devices"]),
        ("--compilation_cache=/a/cache", [CACHE, "devices"]),
        ("--compilation_cache=off", [NO_CACHE, "devices"]),
        ("--nopreallocate", ["devices"]),
        # jax refuses to join a cluster after it was asked for its devices
        (CLUSTER, [GLOO, "joined", "devices"]),
        (
            f"--compilation_cache=/a/cache {CLUSTER} --platform=cpu --nopreallocate",
            [PLATFORM, GLOO, "joined", CACHE, "devices"],
        ),
    ],
)
def test_what_the_flags_ask_of_jax(monkeypatch, words, expected):
    """Each flag reaches its own setting, and jax is asked in an order that works."""
    asked = []
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "as it was")
    monkeypatch.setenv("no_grpc_proxy", "")  # joining a cluster changes it
    monkeypatch.setattr(jax.config, "update", lambda name, value: asked.append((name, value)))
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: asked.append("joined"))
    monkeypatch.setattr(jax, "devices", lambda: asked.append("devices"))
    command = parsing.parse(["launch.py", "--mode=report", *words.split()])
    devices.prepare(command.general)
    assert asked == expected
    preallocate = "false" if "--nopreallocate" in words else "as it was"
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == preallocate


# ---------------------------------------------------------------- values


def test_blanks_in_lists():
    assert configs.words("fid, kid ,,is") == ("fid", "kid", "is")
    assert configs.words(" ") == ()
    assert caricature.factors("0, 1") == (0.0, 1.0)
    from gan_jax.run import sampler_settings

    assert sampler_settings.parse("clip=none, churn = 4") == {"clip": "none", "churn": "4"}
    config = configs.defaults("gan")
    config.augment, config.quality.metrics = ("color, cutout",), (" swd", "ms_ssim,fid ")
    configs.prepare(config)
    assert config.augment == ("color", "cutout")
    assert config.quality.metrics == ("swd", "ms_ssim", "fid")


@pytest.mark.parametrize(
    ("system", "key", "value"),
    [
        ("gan", "augment", None),
        ("gan", "augment", (None,)),
        ("gan", "augment", (5,)),
        ("gan", "optim.gen.ema", ("a",)),
        ("gan", "optim.gen.ema", None),
        ("gan", "optim.gen.schedule.boundaries", (0.5, None)),
        ("gan", "quality.metrics", (1,)),
        ("gan", "restore.gen", (None, "*")),
        ("gan", "data.path", None),
        ("gan", "batch_size", None),
        ("gan", "best.metric", None),
        ("gan", "run.save_minutes", None),
        ("gan", "run.compile_ahead", None),
        ("diffusion", "model.channel_mult", ("1",)),
        ("classifier", "model.palette", (None,)),
    ],
)
def test_none_and_other_types(tmp_path, system, key, value):
    config = configs.defaults(system)
    section = config
    *path, name = key.split(".")
    for part in path:
        section = section[part]
    section[name] = value
    message = assert_refused("config", training.train, config, tmp_path / "run")
    assert message.startswith(f"config.{key}={value!r}: a ")
    assert "is expected, such as the default" in message
    assert not (tmp_path / "run").exists()


def test_defaults_and_their_like_are_accepted():
    for system in configs.SYSTEMS:
        config = configs.defaults(system)
        configs.prepare(config)
        assert configs.plain(config) == configs.plain(configs.defaults(system))
    config.model.update(config.model)
    config.restore.gen = ["runs/a", "*"]
    configs.prepare(config)


def test_none_on_the_command_line():
    line = error_line(launch(TINY, "--dry_run", "--config.augment=None"))
    assert "config.augment=(None,)" in line


# ---------------------------------------------------------------- an .npy where an .npz is wanted


def test_an_array_file_where_one_of_named_arrays_is_wanted(tmp_path):
    images = np.zeros((12, 16, 16, 3), np.uint8)
    array, renamed = tmp_path / "images.npy", tmp_path / "renamed.npz"
    np.save(array, images)
    np.save(renamed.with_suffix(".npy"), images)
    renamed.with_suffix(".npy").rename(renamed)
    good = tmp_path / "good.npz"
    np.savez(good, images=images)
    for wrong in map(str, (array, renamed)):
        for key, words in (("real", (wrong, str(good))), ("fake", (str(good), wrong))):
            unreadable = f"^={wrong}: not a readable npz.* is an .npy.*numpy.savez"
            refused_argument(key, unreadable, comparison.compare, *words, ["swd"])
        config = configs.load_file(str(ROOT / "configs/dcgan_mnist.py"), "tiny")
        assert_refused("^input=.* is an .npy", Inputs, wrong, config.data, 3, 3)
        config.data.update(source="npz", path=wrong)
        unreadable = f"^config.data.path={wrong}.* is an .npy"
        assert_refused(unreadable, training.train, config, tmp_path / "run")


def test_a_run_that_was_stopped_ends_without_teardown(monkeypatch):
    """The soak saw Python's teardown crash on threads that still worked: status -6 for 75."""
    ends, kept = [], []

    def ended(status):
        def run(main, flags_parser):
            raise SystemExit(status)

        return run

    monkeypatch.setattr(door, "make_lasting", lambda: None)
    monkeypatch.setattr(door.heaps, "keep_few", lambda: kept.append(True))
    monkeypatch.setattr(door.os, "_exit", ends.append)
    for status, cluster in ((75, False), (0, False), (75, True)):
        monkeypatch.setattr(door.app, "run", ended(status))
        monkeypatch.setattr(door.bond, "current", object() if cluster else None)
        with pytest.raises(SystemExit):
            door.enter()
    assert ends == [75]
    assert kept == [True] * 3  # threads share heaps in every command
