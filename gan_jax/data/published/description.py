"""The description of a published set: its files, and how they become what gan_jax reads."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gan_jax.files import amount, opened

SLACK = 2  # a file without a published checksum may be this many times larger than expected


@dataclass(frozen=True)
class RemoteFile:
    """A file that its publisher offers.

    Attributes:
        name: the name under which it is published, which is also its name here.
        size: its length in bytes; without a checksum, roughly.
        addresses: the URLs at which it is offered, tried in this order; () if only a person can
            get it, for instance behind a form.
        sha256: its SHA-256 in hexadecimal; "" if no checksum is published.
    """

    name: str
    size: int
    addresses: tuple[str, ...] = ()
    sha256: str = ""

    @property
    def most(self) -> int:
        """The largest number of bytes that is accepted for it."""
        return self.size if self.sha256 else SLACK * self.size

    @property
    def facts(self) -> str:
        """What a person needs in order to recognise the file: its length and its checksum."""
        if not self.sha256:
            return f"about {amount(self.size)}, no checksum is published"
        return f"{self.size:,} bytes, SHA-256 {self.sha256}"


@dataclass(frozen=True)
class PublishedSet:
    """A data set, or the weights of a network, in one or several files.

    Attributes:
        name: what `--name` calls it.
        title: what people call it, and what it contains.
        licence: the terms of use, in a few words.
        page: where its publisher describes it, or how a person gets it.
        target: the name of the file or folder that is made of it, in the folder `--out`.
        disk: the size of that file or folder in bytes, roughly.
        files: what is fetched.
        make: make(paths by the names of the files, target) writes the target. Raises UserError for
            files that do not contain what they should.
        flaw: flaw(target) says what is wrong with an existing target; "" if it is whole.
        use: how a command names the target; "{}" stands for its path.
    """

    name: str
    title: str
    licence: str
    page: str
    target: str
    disk: int
    files: tuple[RemoteFile, ...]
    make: Callable[[Mapping[str, Path], Path], None]
    flaw: Callable[[Path], str]
    use: str = "--config.data.path={}"


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
