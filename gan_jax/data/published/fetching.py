"""Fetches a published file by pooch, and goes on where an earlier transfer was cut off."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from gan_jax.data.progress import Progress
from gan_jax.data.published.description import RemoteFile
from gan_jax.errors import UserError
from gan_jax.files import open_own

CHUNK = 2**16  # bytes; what a cut-off transfer has beyond a multiple of it is lost
TIMEOUT = 30  # seconds without an answer
MEGABYTE = 10**6
WHOLE, NO_SUCH_RANGE = 200, 416  # statuses of answers after which a part is of no use


class FetchError(UserError):
    """A file could be fetched from none of its addresses; the message says why, in a few words."""


class _SizeError(ValueError):
    """A server sends more or fewer bytes than the file has."""


def fetch(file: RemoteFile, folder: Path, progress: Progress | None = None) -> Path:
    """Fetches a file into `folder` unless it is there already, whole, and returns its path.

    A transfer that is cut off goes on from where it was, at once or in a later call, if the server
    allows it; otherwise it begins anew. What was received so far lies beside the file under the
    ending .part. A file gets its name only when it is complete and its checksum is right.

    Raises FetchError if none of the addresses gives the file, and OSError if it cannot be written.
    """
    import pooch

    pooch.get_logger().setLevel("ERROR")  # what happens is said by our own messages
    known = f"sha256:{file.sha256}" if file.sha256 else None
    reasons = []
    for address in file.addresses:
        transfer = _Transfer(file, folder / f"{file.name}.part", progress)
        try:
            return Path(pooch.retrieve(address, known, file.name, folder, downloader=transfer))
        except (OSError, ValueError) as error:
            # requests' errors are OSErrors without a number; those of the disk have one
            if isinstance(error, OSError) and error.errno:
                raise
            reasons.append(f"{_host(address)}: {_reason(error)}")
        finally:
            transfer.close()
    raise FetchError("; ".join(reasons))


class _CutOffError(OSError):
    """A transfer ended too early, and the server did not say so."""


class _Transfer:
    """A downloader as pooch calls it: transfer(address, output_file, pooch)."""

    def __init__(self, file: RemoteFile, part: Path, progress: Progress | None) -> None:
        self.file, self.part = file, part
        megabytes = file.size // MEGABYTE
        self.bar = progress(megabytes, f"MB of {file.name}") if progress and megabytes else None

    def __call__(self, address: str, output_file: str, pooch) -> None:
        """Fetches the file to `output_file`. As long as each try brings more, it tries again."""
        while True:
            before = self._received()
            try:
                self._receive(address)
            except OSError as error:
                useless = before and _status(error) == NO_SUCH_RANGE
                if error.errno or not (useless or self._received() > before):
                    raise
            else:
                break
        os.replace(self.part, output_file)

    def _received(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, address: str) -> None:
        """Appends what is missing to the part. Raises OSError if the transfer is cut off."""
        import pooch

        with open_own(self.part, "ab") as part:
            begun = part.tell()
            headers = {"Accept-Encoding": "identity"}  # the bytes as they are stored
            if begun:
                headers["Range"] = f"bytes={begun}-"

            def answered(response, *args, **kwargs) -> None:
                if response.status_code in (WHOLE, NO_SUCH_RANGE):
                    _empty(part)

            meter = _Meter(part, self.file.most, self._show)
            download = pooch.HTTPDownloader(
                meter, CHUNK, headers=headers, timeout=TIMEOUT, hooks={"response": answered}
            )
            download(address, part, None)
            size = part.tell()
        if self.file.sha256 and size < self.file.size:
            raise _CutOffError(f"{size:,} of {self.file.size:,} bytes came")

    def _show(self, received: int) -> None:
        if self.bar and received >= MEGABYTE:
            self.bar(min(received // MEGABYTE, self.file.size // MEGABYTE))

    def close(self) -> None:
        """Ends the bar, and removes the part if nothing is in it."""
        if self.bar:
            self.bar.close()
        if self.part.exists() and not self._received():
            self.part.unlink()


class _Meter:
    """A progress bar as pooch's downloader uses it, which stops a transfer that is too long."""

    def __init__(self, part: BinaryIO, most: int, show: Callable[[int], None]) -> None:
        self.part, self.most, self.show = part, most, show
        self.total = 0  # set by pooch to the length that the server announces

    def update(self, count: int) -> None:
        """Called after every chunk. Raises _SizeError if more came than the file has."""
        size = self.part.tell()
        if size > self.most or self.total > self.most:
            _empty(self.part)
            raise _SizeError(f"it sends more than the {self.most:,} bytes of the file")
        self.show(size)

    def reset(self) -> None:
        """Part of pooch's protocol."""

    def close(self) -> None:
        """Part of pooch's protocol; the bar may go on with a further try."""


def _host(address: str) -> str:
    return address.split("/")[2]


def _empty(part: BinaryIO) -> None:
    part.seek(0)
    part.truncate()


def _status(error: Exception) -> int:
    """The status of the answer that an error is about; 0 if there was none."""
    return getattr(getattr(error, "response", None), "status_code", 0)


def _reason(error: Exception) -> str:
    """What went wrong, in a few words."""
    if status := _status(error):
        return f"it answers with status {status}"
    if isinstance(error, _CutOffError | _SizeError):
        return str(error)
    if isinstance(error, OSError):
        return f"no connection, or it was cut off ({type(error).__name__})"
    return "what it sends has another checksum"
