"""Tiny editions of the published sets, in the layout of the real ones."""

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image

from gan_jax.data.published import celeba_hq, cifar, facades, idx_files
from gan_jax.data.published.description import PublishedSet, RemoteFile

PER_BATCH = 2
PARTS = {"train": 3, "val": 2, "test": 1}
NAMES = b"airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n"


def remote(name: str, data: bytes, *addresses: str, checksum: bool = True) -> RemoteFile:
    """The description of a file with this content."""
    digest = hashlib.sha256(data).hexdigest() if checksum else ""
    return RemoteFile(name, len(data), addresses, digest)


def tar(members: dict[str, bytes], extra: list[tarfile.TarInfo] = ()) -> bytes:
    """A .tar.gz of these files, then the members `extra`, which have no content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in extra:
            archive.addfile(member)
    return out.getvalue()


def cifar_members() -> dict[str, bytes]:
    """The files of CIFAR-10's archive; the images are random."""
    rng = np.random.default_rng(0)
    found = {"cifar-10-batches-bin/readme.html": b"<html>", cifar.NAMES: NAMES}
    for name in (*cifar.TRAIN, *cifar.TEST):
        rows = rng.integers(0, 256, (PER_BATCH, cifar.RECORD), np.uint8)
        rows[:, 0] %= 10
        found[name] = rows.tobytes()
    return found


def cifar10(file: RemoteFile) -> PublishedSet:
    """CIFAR-10 of 10 and 2 images."""
    return cifar.cifar10(file, PER_BATCH)


def idx_contents() -> dict[str, bytes]:
    """The four packed files of MNIST, with 5 and 3 digits."""
    found = {}
    for part, count in (("train", 5), ("t10k", 3)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            header = struct.pack(f">I{len(shape)}I", 0x0800 + len(shape), *shape)
            data = header + bytes(int(np.prod(shape)))
            found[f"{part}-{kind}-ubyte.gz"] = gzip.compress(data, mtime=0)
    return found


def mnist(files: tuple[RemoteFile, ...]) -> PublishedSet:
    """MNIST of 5 and 3 digits."""
    return idx_files.mnist(files, 5, 3)


def facade_members(parts: dict[str, int] = PARTS, size: tuple[int, int] = (512, 256)):
    """The files of the facades' archive."""
    out = io.BytesIO()
    Image.new("RGB", size, (20, 120, 220)).save(out, "JPEG")
    return {
        f"./facades/{part}/{number + 1}.jpg": out.getvalue()
        for part, count in parts.items()
        for number in range(count)
    }


def facades_set(file: RemoteFile) -> PublishedSet:
    """The facades with 3, 2 and 1 pairs."""
    return facades.facades(file, PARTS)


def celeba_zip(count: int = 2, side: int = 8) -> bytes:
    """CelebAMask-HQ.zip of a few small faces, with a mask and a list beside them."""
    out, picture = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (side, side)).save(picture, "JPEG")
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("CelebAMask-HQ/CelebA-HQ-to-CelebA-mapping.txt", "idx orig_idx")
        archive.writestr("CelebAMask-HQ/CelebAMask-HQ-mask-anno/0/00000_hair.png", b"a mask")
        for number in range(count):
            archive.writestr(f"CelebAMask-HQ/CelebA-HQ-img/{number}.jpg", picture.getvalue())
    return out.getvalue()


def celeba(file: RemoteFile) -> PublishedSet:
    """CelebA-HQ of two faces of 8 pixels."""
    return celeba_hq.celeba_hq(file, 2, 8)
