"""Objects below an address, by the packages gcsfs and s3fs, which are imported when one is used."""

import contextlib
import functools
import importlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from gan_jax.buckets.addresses import Address
from gan_jax.errors import UserError
from gan_jax.files import reason

PACKAGES = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}  # the package, and our extra with it
_CREDENTIALS = {
    "gs": "`gcloud auth application-default login` makes them, or GOOGLE_APPLICATION_CREDENTIALS "
    "names a file of them",
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials, hold them",
}
SMALL = 5 * 2**20  # bytes of an object that is sent at once
CONNECTED, ANSWER = 10, 60  # seconds that a server may take for a connection and an answer
# what tells one content of an object from another, whatever the server calls it
_TAGS = ("ETag", "etag", "generation", "md5Hash", "LastModified", "mtime", "created")


class BucketError(UserError):
    """A bucket could not be reached, read or written."""


class Found(NamedTuple):
    """An object: its size in bytes, and a text that changes with its content."""

    size: int
    tag: str


def file_system(scheme: str) -> Any:
    """The file system of fsspec for "gs" or "s3". Raises UserError if its package is missing."""
    package, extra = PACKAGES[scheme]
    try:
        module = importlib.import_module(f"{package}.core")
    except ImportError:
        raise UserError(
            f"{scheme}:// needs the package {package}: pip install 'gan_jax[{extra}]', or pip "
            f"install '.[{extra}]' in a checkout"
        ) from None
    logging.getLogger(package).setLevel(logging.CRITICAL)  # what it raises, it logs at length too
    # by itself, each of them lists from memory what was there before
    common = {"use_listings_cache": False, "skip_instance_cache": True}
    if scheme == "s3":
        retries = {"max_attempts": 3}
        limits = {"connect_timeout": CONNECTED, "read_timeout": ANSWER, "retries": retries}
        return module.S3FileSystem(config_kwargs=limits, **common)
    import aiohttp

    # by itself it waits for an answer for ever
    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECTED, sock_read=ANSWER)
    if os.environ.get("STORAGE_EMULATOR_HOST"):  # as Google's own libraries: a server for tests
        common["token"] = "anon"
    return _google(module.GCSFileSystem)(requests_timeout=limits, **common)


@functools.cache
def _google(usual: type) -> type:
    """gcsfs's file system, which sends small objects as they are.

    By itself it puts them into a MIME message whose lines end with a line feed alone: a server that
    expects a carriage return before it takes one at the end of a binary object for that. The class
    that gcsfs exports is not used: it asks over gRPC first, for a minute if need be, what kind of
    bucket it is.
    """

    class Google(usual):
        async def _put_file(self, lpath: str, rpath: str, **more: Any) -> None:
            if 0 < os.path.getsize(lpath) < SMALL:
                await self._send(rpath, Path(lpath).read_bytes())
            else:
                await super()._put_file(lpath, rpath, **more)

        async def _pipe_file(self, path: str, data: bytes, **more: Any) -> None:
            if 0 < len(data) < SMALL:
                await self._send(path, data)
            else:
                await super()._pipe_file(path, data, **more)

        async def _send(self, path: str, data: bytes) -> None:
            bucket, key, _ = self.split_path(path)
            place = f"{self._location}/upload/storage/v1/b/{quote(bucket, safe='')}/o"
            kind = {"Content-Type": "application/octet-stream"}
            named = {"uploadType": "media", "name": key}
            await self._call("POST", place, headers=kind, data=data, json_out=True, **named)

    return Google


class Bucket:
    """The objects below an address, by their names there; "" is an object at the address itself.

    Every method raises BucketError, in one line, if the server does not do what it is asked.
    """

    def __init__(self, address: Address):
        """Raises UserError if the package for the address is missing."""
        self.address = address
        with self._explained("cannot be reached"):
            self._system = file_system(address.scheme)

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except FileNotFoundError as error:
            raise BucketError(f"{self.address} {what} (there is no such bucket)") from error
        except Exception as error:  # each of the packages below has classes of its own
            why = reason(error)
            how = f"; {_CREDENTIALS[self.address.scheme]}" if "credentials" in why.lower() else ""
            raise BucketError(f"{self.address} {what} ({why}){how}") from error

    def _path(self, name: str) -> str:
        return f"{self.address.path}/{name}" if name else self.address.path

    def listing(self) -> dict[str, Found]:
        """All objects, {} if there are none."""
        with self._explained("cannot be listed"):
            found = self._system.find(self.address.path, detail=True)
        objects = {}
        for path, about in found.items():
            if about.get("type") != "file" or path.endswith("/"):  # a marker of an empty folder
                continue
            name = path.lstrip("/").removeprefix(self.address.path)
            if name and not name.startswith("/"):  # beside the address, and not below it
                continue
            name = name.removeprefix("/")
            tag = next((str(about[key]) for key in _TAGS if about.get(key)), "")
            objects[name] = Found(int(about.get("size") or 0), tag)
        return objects

    def read(self, name: str) -> bytes | None:
        """The content of a small object, None if there is none."""
        with self._explained("cannot be read"):
            try:
                return self._system.cat_file(self._path(name))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Makes or replaces a small object."""
        with self._explained("cannot be written"):
            self._system.pipe_file(self._path(name), content)

    def upload(self, file: Path, name: str) -> None:
        """Makes or replaces an object with the content of a file, which must not change."""
        with self._explained(f"cannot be written: {name}"):
            self._system.put_file(str(file), self._path(name))

    def download(self, name: str, file: Path, progress: Callable[[int], None]) -> bool:
        """Writes the content of an object into a file that exists; False if there is no such object
        any more. `progress` is called with numbers of bytes that have come."""
        from fsspec.callbacks import Callback

        class Counter(Callback):
            def relative_update(self, inc: int = 1) -> None:
                progress(inc)

        with self._explained(f"cannot be read: {name}"):
            try:
                self._system.get_file(self._path(name), str(file), callback=Counter())
            except FileNotFoundError:
                return False
        return True

    def remove(self, name: str) -> None:
        """Removes an object, if it is there."""
        with (
            self._explained(f"cannot be removed from: {name}"),
            contextlib.suppress(FileNotFoundError),
        ):
            self._system.rm_file(self._path(name))
