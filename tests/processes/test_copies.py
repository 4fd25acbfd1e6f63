"""Two processes, as on two machines that share no disk, train a run in a bucket."""

import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from gan_jax.buckets import claim, copies, syncing
from gan_jax.buckets.addresses import parse
from gan_jax.buckets.bucket import Bucket
from tests.helpers import bucket_servers
from tests.helpers.processes import started
from tests.helpers.shell import arrays, assert_same, rows
from tests.processes import copying

# a classifier is trained first, and the best state is another one than the last
RUN = (
    "--config=configs/mlpgan_mnist.py:tiny",
    "--distributed",
    "--config.quality.metrics=classes",
    "--config.best.metric=class_confidence",
    "--config.best.mode=max",
    "--config.run.steps=12",
    "--config.run.log_every=1",
    "--config.run.save_every=2",
    "--config.mesh.fsdp=8",
    "--config.mesh.least_mb=0",
)


@pytest.fixture(scope="module")
def server():
    """The address of a bucket."""
    with pytest.MonkeyPatch.context() as patch, bucket_servers.s3(patch) as address:
        yield address


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The same run in a folder that both processes see."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with started([[*RUN, f"--workdir={folder}"]] * 2) as group:
        ended = group.wait()
    assert [process.status for process in ended] == [0, 0], [process.err for process in ended]
    return folder


def on_machines(*caches: Path, words: Sequence[str] = RUN, **flags: str):
    """Two processes, each with the disk of a machine of its own."""
    words = [*words, *(f"--{name}={value}" for name, value in flags.items())]
    # processes are forked from one that may be older than the server
    reached = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    own = [{"GAN_JAX_CACHE": str(cache), **reached} for cache in caches]
    return started([words] * len(caches), f"{copying.__name__}:main", own)


def test_a_run_in_a_bucket_is_stopped_and_goes_on_with_other_machines(
    server, undisturbed, tmp_path, monkeypatch
):
    address = f"{server}/runs/a"

    def at(cache: Path) -> Path:
        monkeypatch.setenv("GAN_JAX_CACHE", str(cache))
        return parse(address).local

    first = [tmp_path / "first", tmp_path / "second"]
    with on_machines(*first, workdir=address) as group:
        group.until_step(at(first[0]), 5)
        group.send(signal.SIGTERM, 1)
        ended = group.wait()
    assert [process.status for process in ended] == [75, 75], [process.err for process in ended]
    copy = at(first[1])
    assert (copy / "classifier" / "summary.json").exists()
    assert not (copy / "metrics.jsonl").exists()  # it reads what it needs

    shutil.rmtree(first[0])
    after = [tmp_path / "third", first[1]]
    with on_machines(*after, workdir=address) as group:
        ended = group.wait()
    assert [process.status for process in ended] == [0, 0], [process.err for process in ended]
    assert "resuming from step" in ended[0].out
    assert ended[1].out == ""
    assert len(list((at(first[1]) / "checkpoints").iterdir())) == 1

    at(tmp_path / "fourth")
    found = Path(syncing.fetched(address))
    assert rows(found) == rows(undisturbed)
    assert_same(arrays(found), arrays(undisturbed))
    assert_same(arrays(found, "best"), arrays(undisturbed, "best"))


def test_several_machines_read_a_run_in_a_bucket_and_the_first_one_writes(
    server, undisturbed, tmp_path, monkeypatch
):
    address = f"{server}/runs/b"
    for path in undisturbed.rglob("*"):
        if path.is_file() and copies.is_copied(path.relative_to(undisturbed).as_posix()):
            Bucket(parse(address)).upload(path, path.relative_to(undisturbed).as_posix())
    caches = [tmp_path / "first", tmp_path / "second"]
    for mode in (["--mode=evaluate"], ["--mode=sample", "--seeds=0-7", f"--out={server}/out"]):
        with on_machines(*caches, words=[*mode, "--distributed"], workdir=address) as group:
            ended = group.wait()
        assert [process.status for process in ended] == [0, 0], [process.err for process in ended]
        assert ended[1].out == ""
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "third"))
    assert json.loads(Bucket(parse(address)).read("evaluate.json"))["step"] == 12
    assert len(Bucket(parse(f"{server}/out")).listing()) > 0


def test_a_place_in_which_somebody_trains_is_refused_in_both(server, tmp_path, monkeypatch):
    address = f"{server}/runs/c"
    monkeypatch.setattr(claim, "BEAT", 0.1)
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "other"))
    with (
        syncing.trained(address, 60),
        on_machines(*[tmp_path / "same"] * 2, workdir=address) as two,
    ):
        ended = two.wait()
    assert [process.status for process in ended] == [1, 1], ended
    for process in ended:
        (line,) = process.errors
        assert f"--workdir={address}: process {os.getpid()} on " in line
        assert "trains there" in line


def test_machines_that_share_their_cache_share_the_copy(server, tmp_path, monkeypatch):
    address = f"{server}/runs/d"
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path))
    words = [*RUN, "--config.run.steps=2", "--config.run.quality_every=0"]
    words.append("--config.best.metric=val/gen")
    with on_machines(tmp_path, tmp_path, words=words, workdir=address) as group:
        ended = group.wait()
    assert [process.status for process in ended] == [0, 0], [process.err for process in ended]
    assert [row["step"] for row in rows(parse(address).local) if row["kind"] == "train"] == [1, 2]
