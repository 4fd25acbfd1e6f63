"""Archives that somebody made in order to do harm: all are refused, and nothing is left behind."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from gan_jax.data.published import archives, preparing
from gan_jax.errors import UserError
from tests.helpers import published_sets as tiny
from tests.helpers.one_line import assert_refused


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


def with_sizes(size: int) -> bytes:
    """An archive whose header announces a size that does not follow."""
    out = io.BytesIO()
    found = member("cifar-10-batches-bin/data_batch_1.bin")
    found.size = size
    out.write(found.tobuf())
    return gzip.compress(out.getvalue())


def with_long_header() -> bytes:
    """An archive whose first header is a name of megabytes, which readers keep in memory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(member("x" * 2**23))
    return out.getvalue()


GOOD = tiny.cifar_members()
TARS = {
    "above": (tiny.tar(GOOD | {"../evil": b"x"}), "leads out"),
    "above inside": (tiny.tar(GOOD | {"cifar-10-batches-bin/../../evil": b"x"}), "leads out"),
    "absolute": (tiny.tar(GOOD | {"/evil": b"x"}), "leads out"),
    "backslash": (tiny.tar(GOOD | {"..\\evil": b"x"}), "leads out"),
    "drive": (tiny.tar(GOOD | {"C:/evil": b"x"}), "leads out"),
    "symlink": (
        tiny.tar(GOOD, [member("cifar-10-batches-bin/a", tarfile.SYMTYPE, "/etc")]),
        "not a plain file",
    ),
    "hard link": (tiny.tar(GOOD, [member("a", tarfile.LNKTYPE, "/etc/passwd")]), "not a plain"),
    "pipe": (tiny.tar(GOOD, [member("a", tarfile.FIFOTYPE)]), "not a plain file"),
    "device": (tiny.tar(GOOD, [member("a", tarfile.CHRTYPE)]), "not a plain file"),
    "twice": (tiny.tar(GOOD, [member(next(iter(GOOD)))]), "comes twice"),
    "many": (tiny.tar({f"{n}": b"" for n in range(200)}), "more than 100 members"),
    "bomb": (tiny.tar({"zeros": bytes(2**23)}), "unpacks to more than"),
    "long header": (with_long_header(), "unpacks to more than"),
    "huge size": (with_sizes(2**32), "has 4,294,967,296 bytes"),
    "cut off": (tiny.tar(GOOD)[:-200], "damaged"),
    "no gzip": (b"\x80\x04 a pickle, perhaps", "damaged"),
    "empty": (b"", "damaged"),
    "no tar": (gzip.compress(b"text" * 500), "damaged"),
    "missing": (tiny.tar({n: d for n, d in GOOD.items() if "test" not in n}), "test_batch.bin"),
    "short": (tiny.tar(GOOD | {"cifar-10-batches-bin/test_batch.bin": b"1"}), "has 1 bytes"),
    "label": (
        tiny.tar(GOOD | {"cifar-10-batches-bin/test_batch.bin": b"\xff" * 2 * 3073}),
        "a label is 255",
    ),
    "names": (tiny.tar(GOOD | {"cifar-10-batches-bin/batches.meta.txt": b"cat"}), "1 names"),
}


@pytest.mark.parametrize("kind", TARS)
def test_a_hostile_tar_is_refused(tmp_path, kind):
    """Even with the right checksum: the check of names and sizes stands by itself."""
    content, complaint = TARS[kind]
    file = tmp_path / "in" / "given.tar.gz"
    file.parent.mkdir()
    file.write_bytes(content)
    wanted = tiny.cifar10(tiny.remote("given.tar.gz", content))
    with pytest.raises(UserError, match=complaint) as caught:
        preparing.prepare(wanted, tmp_path / "out", str(file))
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [file]
    assert not (tmp_path / "out" / "cifar10.npz").exists()


@pytest.mark.parametrize("hostile", ["facades/train/../../evil.jpg", "/evil.jpg"])
def test_pictures_are_written_below_their_folder_alone(tmp_path, hostile):
    members = tiny.facade_members()
    content = tiny.tar(members | {hostile: members["./facades/train/1.jpg"]})
    file = tmp_path / "given.tar.gz"
    file.write_bytes(content)
    wanted = tiny.facades_set(tiny.remote("facades.tar.gz", content, checksum=False))
    with pytest.raises(UserError, match="leads out"):
        preparing.prepare(wanted, tmp_path / "out", str(file))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes], packed: bool = False) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else 0) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def unzip(file: Path, target: Path) -> None:
    with archives.reading(file):
        for name, size, stream in archives.zip_members(file, 1000, 10):
            archives.write(stream, size, target / name)


def symlink(name: str) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name)
    found.create_system, found.external_attr = 3, 0o120777 << 16
    return found


ZIPS = {
    "above": (zipped(("CelebA-HQ-img/../../1.jpg", b"x")), "leads out"),
    "absolute": (zipped(("/1.jpg", b"x")), "leads out"),
    "symlink": (zipped((symlink("CelebA-HQ-img/1.jpg"), b"/etc/passwd")), "not a plain file"),
    "bomb": (zipped(("zeros", bytes(2**20)), packed=True), "more than 1,000 bytes"),
    "many": (zipped(*((f"{n}", b"") for n in range(20))), "more than 10 members"),
    "one place": (zipped(("a", b"x"), ("./a", b"y")), "would be written as a"),
    "cut off": (zipped(("a", b"x"))[:-10], "damaged"),
    "no zip": (b"text", "damaged"),
}


@pytest.mark.parametrize("kind", ZIPS)
def test_a_hostile_zip_is_refused(tmp_path, kind):
    content, complaint = ZIPS[kind]
    file = tmp_path / "given.zip"
    file.write_bytes(content)
    assert_refused(complaint, unzip, file, tmp_path / "out")


def test_a_zip_with_other_bytes_than_it_announces_is_refused(tmp_path):
    content = bytearray(zipped(("a", b"the content of a file")))
    content[content.index(b"content")] ^= 1
    file = tmp_path / "given.zip"
    file.write_bytes(content)
    assert_refused("damaged", unzip, file, tmp_path / "out")
