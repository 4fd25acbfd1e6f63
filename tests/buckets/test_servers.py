"""Against servers that speak the protocols: the packages s3fs and gcsfs are what they are."""

from pathlib import Path

import numpy as np
import pytest

import gan_jax
from gan_jax import training
from gan_jax.buckets import claim, syncing
from gan_jax.buckets.addresses import parse
from gan_jax.buckets.bucket import Bucket, BucketError
from gan_jax.errors import ArgumentError, UserError
from tests.helpers import bucket_servers, contract
from tests.helpers.shell import arrays, assert_same


@pytest.fixture(scope="module", params=["s3", "gs"])
def server(request):
    """The address of a bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in (("SETTLED", 0.0), ("BEAT", 0.2), ("LOOKING", 0.1)):
            patch.setattr(claim, name, seconds)
        with getattr(bucket_servers, request.param)(patch) as address:
            yield address


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Goes to another machine, whose cache is empty."""

    def go(name: str):
        monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / name))

    go("first")
    return go


def config(steps: int):
    made = contract.load("mlpgan_mnist")
    made.run.update(steps=str(steps), devices=1, sample_every="0", eval_every="0", save_every="1")
    made.run.update(quality_every="0", log_every="1")
    return made


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n", b"\n\r", b" ", b"\0", b"\n--==0==--"])
def test_every_byte_arrives(server, end, tmp_path):
    """Line ends at the end of binary files are part of them."""
    bucket, content = Bucket(parse(f"{server}/bytes")), b"\x80\n\r\n" + end
    (tmp_path / "file").write_bytes(content)
    bucket.upload(tmp_path / "file", "a/uploaded +ä%.bin")
    bucket.write("written", content)
    assert bucket.read("a/uploaded +ä%.bin") == bucket.read("written") == content
    assert {found.size for found in bucket.listing().values()} == {len(content)}


def test_objects(server, tmp_path):
    """All that is asked of a server, on names and sizes of all kinds."""
    bucket = Bucket(parse(f"{server}/objects"))
    beside = Bucket(parse(f"{server}/objects2"))
    beside.write("x", b"beside")
    assert bucket.listing() == {}
    assert bucket.read("none") is None
    contents = {
        "a b+ü.txt": b"x",
        "deep/er/0": b"",
        "large": np.random.default_rng(0).bytes(7 * 10**6),
    }
    for name, content in contents.items():
        (tmp_path / "up").write_bytes(content)
        bucket.upload(tmp_path / "up", name)
    bucket.write("small", b"1")
    found = bucket.listing()
    assert {name: about.size for name, about in found.items()} == {
        **{name: len(content) for name, content in contents.items()},
        "small": 1,
    }
    for name, content in contents.items():
        (tmp_path / "down").write_bytes(b"what was there")
        came = []
        assert bucket.download(name, tmp_path / "down", came.append)
        assert (tmp_path / "down").read_bytes() == content
        assert sum(came) == len(content)
    assert not bucket.download("none", tmp_path / "down", came.append)
    bucket.write("small", b"2")
    assert bucket.read("small") == b"2"
    assert bucket.listing()["small"].tag != found["small"].tag
    bucket.remove("small")
    bucket.remove("none")
    assert set(bucket.listing()) == set(contents)
    assert set(Bucket(parse(f"{server}/objects/large")).listing()) == {""}


def test_a_bucket_that_does_not_exist_is_a_line(server, elsewhere):
    scheme = server.partition("://")[0]
    with pytest.raises(BucketError, match=rf"^{scheme}://none/a cannot be \w+ \(.*bucket.*\)$"):
        training.train(config(1), f"{scheme}://none/a")
    with pytest.raises(UserError, match=rf"{server}/none: there is nothing there"):
        gan_jax.load(f"{server}/none")


def test_a_run_goes_on_elsewhere(server, elsewhere, tmp_path, lines):
    """Train, lose the machine, go on, sample; a second machine at the same time is refused."""
    address = f"{server}/runs/a"
    training.train(config(2), address)
    elsewhere("second")
    with syncing.trained(address, 60):
        elsewhere("third")
        with pytest.raises(ArgumentError, match=r"process \d+ on .* trains there"):
            training.train(config(4), address)
    elsewhere("fourth")
    assert training.train(config(4), address)["reason"] == "finished"
    training.train(config(4), tmp_path / "straight")
    elsewhere("fifth")
    images = gan_jax.load(address).sample(range(3))
    np.testing.assert_array_equal(images, gan_jax.load(tmp_path / "straight").sample(range(3)))
    assert_same(arrays(parse(address).local), arrays(tmp_path / "straight"))
    names = set(Bucket(parse(address)).listing())
    assert {"config.json", "metrics.jsonl", "summary.json", claim.NAME} <= names
    assert {name.split("/")[1] for name in names if name.startswith("checkpoints/")} == {"3", "4"}


def test_data(server, elsewhere, tmp_path):
    """A folder is fetched once; what has changed is fetched again."""
    bucket = Bucket(parse(f"{server}/images"))
    for name in ("a/0", "a/1", "b/2"):
        bucket.write(name, name.encode())
    folder = Path(syncing.fetched(f"{server}/images"))
    before = {p: p.stat().st_ino for p in folder.rglob("*") if p.is_file()}
    assert sorted(p.relative_to(folder).as_posix() for p in before) == ["a/0", "a/1", "b/2"]
    bucket.write("a/1", b"A/1")
    bucket.remove("b/2")
    syncing.fetched(f"{server}/images")
    after = {p: p.stat().st_ino for p in folder.rglob("*") if p.is_file()}
    assert sorted(p.relative_to(folder).as_posix() for p in after) == ["a/0", "a/1"]
    assert {p for p in after if after[p] == before[p]} == {folder / "a/0"}
    assert (folder / "a/1").read_bytes() == b"A/1"
