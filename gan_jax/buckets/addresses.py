"""Addresses of objects in buckets, gs://bucket/path and s3://bucket/path, and where they are kept.

Nothing big is imported here, because every opening of a run or of data asks.
"""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from gan_jax import caches
from gan_jax.errors import UserError, short
from gan_jax.files import reason

_ADDRESS = re.compile(r"(gs|s3)://?(.*)", re.DOTALL)  # pathlib makes one slash of two
_LONGEST_NAME = 100  # characters of the name of a local copy
_MOST_BYTES = 255  # of it, which file systems allow


class Address(NamedTuple):
    """A place in a bucket: "gs" or "s3", and "bucket/path" without slashes at its ends."""

    scheme: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.path}"

    @property
    def home(self) -> Path:
        """The folder of this machine's cache that is this address's own. It need not exist.

        Raises UserError where there is no folder for caches.
        """
        digest = hashlib.sha256(str(self).encode(errors="surrogateescape")).hexdigest()
        try:
            return caches.folder() / "buckets" / digest[:16]
        except OSError as error:
            raise UserError(f"{self}: {reason(error)}") from None

    @property
    def local(self) -> Path:
        """Where the copy on this machine is, under the last name of the address, whose ending says
        what kind of file it is. It need not exist."""
        name = re.sub(r"[^\w.+=,@-]", "_", self.path.rpartition("/")[2])[-_LONGEST_NAME:]
        # a letter that is cut through is left out
        name = name.encode()[-_MOST_BYTES:].decode(errors="ignore")
        return self.home / (name.lstrip(".") or "copy")


def is_address(place: str | os.PathLike[str]) -> bool:
    """Whether a place is in a bucket."""
    return bool(_match(place))


def _match(place: str | os.PathLike[str]) -> re.Match | None:
    text = os.fspath(place)
    return _ADDRESS.fullmatch(text) if isinstance(text, str) else None


def parse(place: str | os.PathLike[str]) -> Address:
    """The address that `place` is. Raises UserError for one that could not be copied to a disk."""
    found = _match(place)
    if found is None:
        raise UserError(f"{short(place)}: addresses are gs://bucket/path and s3://bucket/path")
    path = found[2].strip("/")
    if not path or any(not is_plain(part) for part in path.split("/")):
        raise UserError(
            f"{short(place)}: write an address as gs://bucket/path or s3://bucket/path, without "
            "empty parts, . and .."
        )
    return Address(found[1], path)


def is_plain(part: str) -> bool:
    """Whether a part of the name of an object can be the name of a file or folder."""
    wrong = "\0/\\:" if os.name == "nt" else "\0/"
    return part not in ("", ".", "..") and not any(sign in part for sign in wrong)


def local(place: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """Where the copy of an address on this machine is; any other place as it is. Nothing is
    fetched."""
    return parse(place).local if is_address(place) else place
