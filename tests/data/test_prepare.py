"""Published sets: fetched from a server on this machine, or taken from a person's hand."""

import errno
import fcntl
import shutil

import numpy as np
import pytest

from gan_jax import data, log
from gan_jax.data.published import preparing, weights
from gan_jax.data.published.description import RemoteFile, sha256
from gan_jax.errors import ArgumentError, UserError
from gan_jax.files import amount
from tests.helpers import published_sets as tiny
from tests.helpers.file_server import serving
from tests.helpers.one_line import assert_refused

CIFAR = "cifar-10-binary.tar.gz"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("gan_jax.data.published.fetching.CHUNK", 1024)
    with serving() as found:
        yield found


@pytest.fixture
def cifar(server):
    """The tiny CIFAR-10 of the server."""
    server.files[CIFAR] = tiny.tar(tiny.cifar_members())
    return tiny.cifar10(tiny.remote(CIFAR, server.files[CIFAR], server.address(CIFAR)))


@pytest.fixture
def mnist(server):
    server.files |= tiny.idx_contents()
    files = [tiny.remote(n, d, server.address(n)) for n, d in tiny.idx_contents().items()]
    return tiny.mnist(tuple(files))


def leftovers(folder):
    """Everything below a folder that is not a result."""
    return sorted(path.name for path in (folder / preparing.WORK).rglob("*"))


def half_of(server):
    """What is kept of half a file: whole chunks."""
    return len(server.files[CIFAR]) // 2 // 1024 * 1024


def lines_of(*args):
    """What `prepare` says."""
    lines = []
    with log.sent_to(lines.append):
        preparing.prepare(*args)
    return lines


# ---------------------------------------------------------------- fetched


def test_cifar10_becomes_the_file_that_configs_read(tmp_path, server, cifar):
    lines = lines_of(cifar, tmp_path / "data")
    target = tmp_path / "data" / "cifar10.npz"
    members = tiny.cifar_members()
    with np.load(target) as stored:
        first = np.frombuffer(members["cifar-10-batches-bin/data_batch_1.bin"], np.uint8)
        assert stored["y_train"][0] == first[0]
        # the first 1024 bytes of an image are its red pixels, row by row
        np.testing.assert_array_equal(stored["x_train"][0, :, :, 0].ravel(), first[1:1025])
        np.testing.assert_array_equal(stored["x_train"][0, :, :, 2].ravel(), first[2049:3073])
        assert stored["x_train"].shape == (10, 32, 32, 3)
        assert stored["x_test"].shape == (2, 32, 32, 3)
    section = data.config.Options(source="npz", path=str(target), resolution=32, channels="rgb")
    made = data.make(section)
    assert made.sizes == {"train": 10, "validation": 2}
    assert made.class_names[3] == "cat"
    assert leftovers(tmp_path / "data") == []
    # what it is, and its terms, come before the first byte
    assert "Krizhevsky" in lines[0]
    assert CIFAR in lines[1]
    assert amount(len(server.files[CIFAR])) in lines[1]
    assert f"--config.data.path={target}" in lines[-1]


def test_what_is_there_and_whole_is_left_alone(tmp_path, server, cifar):
    target = preparing.prepare(cifar, tmp_path)
    before, asked = target.stat().st_mtime_ns, len(server.asked)
    assert lines_of(cifar, tmp_path) == [f"{target}: already there and whole, nothing to do"]
    assert target.stat().st_mtime_ns == before
    assert len(server.asked) == asked


def test_what_is_there_and_not_whole_is_never_replaced(tmp_path, server, cifar):
    target = tmp_path / "cifar10.npz"
    np.savez(target, images=np.zeros((3, 4, 4, 3), np.uint8))
    before = target.read_bytes()
    with pytest.raises(ArgumentError, match=r"exists and is not whole.*x_train.*move it away") as e:
        preparing.prepare(cifar, tmp_path)
    assert e.value.name == "out"
    assert target.read_bytes() == before
    target.write_bytes(b"not an npz")
    assert_refused("cannot be read as an .npz", preparing.prepare, cifar, tmp_path)
    np.savez(target, **{n: np.zeros((3, 32, 32, 3), np.uint8) for n in ("x_train", "x_test")})
    assert_refused(r"its x_train is uint8 \[3, 32", preparing.prepare, cifar, tmp_path)
    assert server.asked == []


def test_a_redirect_is_followed(tmp_path, server, cifar):
    server.files["elsewhere"] = server.files[CIFAR]
    server.conduct[CIFAR] = ["to:elsewhere"]
    assert preparing.prepare(cifar, tmp_path).is_file()


def test_a_transfer_that_is_cut_off_goes_on_where_it_was(tmp_path, server, cifar):
    server.conduct[CIFAR] = ["half"]
    assert preparing.prepare(cifar, tmp_path).is_file()
    assert server.asked == [(CIFAR, 0), (CIFAR, half_of(server))]


def test_a_later_call_goes_on_where_an_earlier_one_was(tmp_path, server, cifar):
    server.conduct[CIFAR] = ["half", "503"]
    message = assert_refused("was not fetched", preparing.prepare, cifar, tmp_path, "")
    assert "status 503" in message
    assert f"{CIFAR}.part" in leftovers(tmp_path)
    assert not (tmp_path / "cifar10.npz").exists()
    preparing.prepare(cifar, tmp_path)
    assert server.asked[-1] == (CIFAR, half_of(server))
    assert leftovers(tmp_path) == []


def test_a_server_that_knows_no_parts_begins_anew(tmp_path, server, cifar):
    server.conduct[CIFAR] = ["half", "deaf"]
    assert preparing.prepare(cifar, tmp_path).is_file()


def test_a_part_that_is_longer_than_the_file_is_forgotten(tmp_path, server, cifar):
    work = tmp_path / preparing.WORK / "cifar10"
    work.mkdir(parents=True)
    (work / f"{CIFAR}.part").write_bytes(bytes(len(server.files[CIFAR]) + 1))
    assert preparing.prepare(cifar, tmp_path).is_file()
    assert [first for _, first in server.asked][-1] == 0


def test_other_bytes_than_the_published_ones_are_refused(tmp_path, server, cifar):
    right = server.files[CIFAR]
    server.files[CIFAR] = right[:-1] + bytes([right[-1] ^ 1])
    message = assert_refused("another checksum", preparing.prepare, cifar, tmp_path, "")
    assert cifar.files[0].sha256 in message
    assert leftovers(tmp_path) == []
    server.files[CIFAR] = right
    assert preparing.prepare(cifar, tmp_path).is_file()


def test_a_server_that_never_ends_is_stopped(tmp_path, server, cifar):
    server.conduct[CIFAR] = ["endless"]
    assert_refused("it sends more than", preparing.prepare, cifar, tmp_path, "")
    assert leftovers(tmp_path) == []


def test_a_file_that_is_absent_is_looked_for_at_its_other_address(tmp_path, server, cifar):
    (file,) = cifar.files
    both = RemoteFile(file.name, file.size, (server.address("gone"), *file.addresses), file.sha256)
    assert preparing.prepare(tiny.cifar10(both), tmp_path).is_file()
    assert [name for name, _ in server.asked] == ["gone", CIFAR]


def test_without_a_network_one_line_says_what_to_get_by_hand(tmp_path, server, cifar):
    (file,) = cifar.files
    nobody = "http://127.0.0.1:1/x"
    away = RemoteFile(file.name, file.size, (nobody,), file.sha256)
    message = assert_refused("no connection", preparing.prepare, tiny.cifar10(away), tmp_path, "")
    for part in (file.name, nobody, f"{file.size:,} bytes", file.sha256, "--from=FILE"):
        assert part in message
    assert leftovers(tmp_path) == []


def test_only_the_files_that_are_missing_are_fetched_again(tmp_path, server, mnist):
    server.conduct["t10k-labels-idx1-ubyte.gz"] = ["404"]
    message = assert_refused("status 404", preparing.prepare, mnist, tmp_path, "")
    assert "--from=DIR" in message
    server.asked.clear()
    target = preparing.prepare(mnist, tmp_path)
    assert server.asked == [("t10k-labels-idx1-ubyte.gz", 0)]
    made = data.make(data.config.Options(source="idx", path=str(target)))
    assert made.sizes == {"train": 5, "validation": 3}
    assert "already there" in lines_of(mnist, tmp_path)[0]
    (target / "train-labels-idx1-ubyte.gz").unlink()
    assert_refused("no file train-labels", preparing.prepare, mnist, tmp_path)


def test_a_set_without_a_checksum_is_known_by_its_content(tmp_path, server):
    name = "facades.tar.gz"
    archive = tiny.tar(tiny.facade_members())
    facades = tiny.facades_set(tiny.remote(name, archive, server.address(name), checksum=False))
    for members, complaint in (
        (tiny.facade_members({"train": 3, "val": 2}), "folder test has 0 pictures and not 1"),
        (tiny.facade_members(size=(64, 32)), "train/1.jpg is 64x32 and not 512x256"),
        (dict.fromkeys(tiny.facade_members(), b"no picture"), "1.jpg cannot be read"),
    ):
        server.files[name] = tiny.tar(members)
        assert_refused(complaint, preparing.prepare, facades, tmp_path, "")
        assert leftovers(tmp_path) == []
    server.files[name] = archive
    lines = lines_of(facades, tmp_path)
    assert any(tiny.remote(name, archive).sha256 in line for line in lines)
    assert "already there" in lines_of(facades, tmp_path)[0]
    section = dict(source="folder", path=str(tmp_path / "facades"), pairs="side_by_side")
    made = data.make(data.config.Options(**section, labels="none", resolution=256))
    assert made.sizes == {"train": 3, "validation": 2}


def test_an_interrupted_fetch_is_not_lost(tmp_path, server, monkeypatch):
    """As by Ctrl-C, which may come at any moment."""
    data_of = bytes(3 * 10**6)
    file = tiny.remote("big.pth", data_of, server.address("big.pth"))
    server.files["big.pth"] = data_of
    bars = []

    class Bar:
        def __init__(self, total, label):
            bars.append((total, label))

        def __call__(self, done):
            bars.append(done)
            if len(bars) == 3:
                raise KeyboardInterrupt

        def close(self):
            bars.append("closed")

    wanted = weights.inception(file)
    with pytest.raises(KeyboardInterrupt):
        preparing.prepare(wanted, tmp_path, "", Bar)
    assert bars[0] == (3, "MB of big.pth")
    assert bars[-1] == "closed"
    preparing.prepare(wanted, tmp_path, "", Bar)
    assert server.asked[-1][1] > 0
    assert (tmp_path / "big.pth").read_bytes() == data_of


def test_a_disk_without_room_is_noticed_first(tmp_path, server, cifar, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 9))
    assert_refused("are needed there for cifar10", preparing.prepare, cifar, tmp_path, "")
    assert server.asked == []


def test_a_disk_that_fills_up_is_reported_as_such(tmp_path, server, cifar, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gan_jax.data.published.fetching._Meter.update", full)
    with pytest.raises(ArgumentError, match="No space left") as caught:
        preparing.prepare(cifar, tmp_path)
    assert caught.value.name == "out"


def test_two_at_once_are_kept_apart(tmp_path, server, cifar):
    work = tmp_path / preparing.WORK / "cifar10"
    work.mkdir(parents=True)
    with (work / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_refused("another process is preparing", preparing.prepare, cifar, tmp_path)
    assert preparing.prepare(cifar, tmp_path).is_file()


# ---------------------------------------------------------------- by hand


def test_a_file_from_a_person(tmp_path, server, cifar):
    file = tmp_path / "renamed.tgz"
    file.write_bytes(server.files[CIFAR])
    assert preparing.prepare(cifar, tmp_path / "a", str(file)).is_file()
    file.rename(tmp_path / CIFAR)
    assert preparing.prepare(cifar, tmp_path / "b", str(tmp_path)).is_file()
    assert (tmp_path / CIFAR).is_file()
    assert server.asked == []


def test_another_file_from_a_person_is_refused(tmp_path, server, cifar):
    file = tmp_path / "cifar-10-python.tar.gz"
    file.write_bytes(b"pickles")
    with pytest.raises(ArgumentError, match="damaged or another file") as caught:
        preparing.prepare(cifar, tmp_path, str(file))
    assert caught.value.name == "from"
    for part in (sha256(file), cifar.files[0].sha256, CIFAR, server.address(CIFAR)):
        assert part in str(caught.value)
    assert_refused("is not there", preparing.prepare, cifar, tmp_path, "/no/where")
    assert not (tmp_path / "cifar10.npz").exists()


def test_a_folder_of_files_from_a_person(tmp_path, mnist):
    for name, content in tiny.idx_contents().items():
        (tmp_path / name).write_bytes(content)
    assert preparing.prepare(mnist, tmp_path / "a", str(tmp_path)).is_dir()
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    message = assert_refused(
        "is not there", preparing.prepare, mnist, tmp_path / "b", str(tmp_path)
    )
    assert "train-images-idx3-ubyte.gz" in message
    assert "--from=DIR" in message


def test_what_no_program_can_fetch(tmp_path):
    content = tiny.celeba_zip()
    faces = tiny.celeba(tiny.remote("CelebAMask-HQ.zip", content, checksum=False))
    message = assert_refused(
        "cannot be fetched by a program", preparing.prepare, faces, tmp_path, ""
    )
    assert "CelebAMask-HQ.zip" in message
    assert "https://github.com/switchablenorms/CelebAMask-HQ" in message
    file = tmp_path / "mine.zip"
    file.write_bytes(content)
    target = preparing.prepare(faces, tmp_path, str(file))
    assert sorted(path.name for path in target.iterdir()) == ["00000.jpg", "00001.jpg"]
    assert "already there" in lines_of(faces, tmp_path)[0]
    file.write_bytes(tiny.celeba_zip(side=4))
    assert_refused("is 4x4 and not 8x8", preparing.prepare, faces, tmp_path / "b", file)


def test_checkpoints_from_an_archive(tmp_path, server):
    members = {"x-1/w/vgg16.ckpt": b"\x80 one", "x-1/w/alexnet.ckpt": b"\x80 two", "x-1/a.py": b""}
    archive = tiny.tar(members)
    server.files["x-1.tar.gz"] = archive
    checksums = {n: tiny.remote(n, d).sha256 for n, d in members.items() if n.endswith("ckpt")}
    file = tiny.remote("x-1.tar.gz", archive, server.address("x-1.tar.gz"))
    target = preparing.prepare(weights.lpips(file, checksums), tmp_path)
    assert sorted(path.name for path in target.iterdir()) == ["alexnet.ckpt", "vgg16.ckpt"]
    (target / "vgg16.ckpt").write_bytes(b"other")
    wanted = weights.lpips(file, checksums)
    assert_refused("vgg16.ckpt has the SHA-256", preparing.prepare, wanted, tmp_path)


def test_a_folder_that_cannot_be_written_is_noticed_first(tmp_path, server, cifar):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        preparing.prepare(cifar, tmp_path / "file" / "data")
    assert server.asked == []
