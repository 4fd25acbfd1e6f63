"""The folder of a run for all processes of a cluster: one that all of them see or, where the run
lives in a bucket, a copy on each host.

Process 0 alone writes there. What another process reads is brought to its copy before, by way of
the bucket.
"""

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gan_jax.buckets import syncing
from gan_jax.buckets.addresses import is_address, parse
from gan_jax.buckets.mirror import Mirror
from gan_jax.core import cluster
from gan_jax.core.preemption import Finishing
from gan_jax.errors import ArgumentError

SEEING = 10.0  # seconds until a file that one host has written is seen by the others
Place = str | os.PathLike[str]


class _Copies:
    """The copies of a run's folder on several hosts."""

    def __init__(self, mirror: Mirror, is_first_ones: bool):
        self._mirror, self._folder = mirror, mirror.local.resolve()
        self._is_first_ones = is_first_ones  # this process sees what process 0 writes

    def hold(self, path: Path) -> bool:
        """Whether the path is in the copy of this host."""
        return Path(path).resolve().is_relative_to(self._folder)

    def bring(self, paths: list[Path]) -> bool:
        """As the function `bring`."""
        names = [Path(path).resolve().relative_to(self._folder).as_posix() for path in paths]
        cluster.decided("the run is copied", lambda: syncing.copy_now(self._mirror.local))
        if not self._is_first_ones:
            for name in names:
                self._mirror.drop_states_beside(name)
            syncing.fetch_now(self._mirror, names)
        cluster.together("the copies are read")  # which process 0 may change from now on
        return not self._is_first_ones


_open: list[_Copies] = []
_ends: dict[Path, Finishing] = {}  # of the copies that this process has opened


def trained(workdir: Place, seconds: float) -> contextlib.AbstractContextManager[Place]:
    """Yields the folder in which a run is trained, as `syncing.trained` does; each of several
    processes gets that of its host.

    All of them return when the bucket has everything. Raises what `syncing.trained` raises, in
    every process.
    """
    return _on_all_hosts(workdir, lambda: syncing.trained(workdir, seconds), _with_copies)


def used(workdir: Place) -> contextlib.AbstractContextManager[Place]:
    """The same for a run that is read, and into whose folder small files may be written, as
    `syncing.used` has it."""

    def with_whole_copies(mirror: Mirror) -> contextlib.AbstractContextManager[None]:
        return _with_copies(mirror, whole=True)

    return _on_all_hosts(workdir, lambda: syncing.used(workdir), with_whole_copies)


def made(place: Place) -> contextlib.AbstractContextManager[Place]:
    """The same for a place into which process 0 alone writes, and that nobody reads."""
    return _on_all_hosts(place, lambda: syncing.used(place, needed=False))


@contextlib.contextmanager
def _on_all_hosts(
    place: Place,
    on_disk: Callable[[], contextlib.AbstractContextManager[Place]],
    shared: Callable[[Mirror], contextlib.AbstractContextManager[None]] | None = None,
) -> Iterator[Place]:
    """Yields the copy of an address on the host of this process, or any other place as it is.

    Process 0 opens it by `on_disk`, and all close it together. Where there are several processes,
    the block is within `shared`.
    """
    if not is_address(place):
        with on_disk() as same:
            yield same
        return
    mirror = Mirror(parse(place))
    with contextlib.ExitStack() as opened:

        def begin() -> None:
            opened.enter_context(on_disk())

        cluster.decided("the copy", begin)
        several = shared is not None and cluster.count() > 1
        with contextlib.ExitStack() as end:
            _ends[mirror.local] = Finishing()
            end.push(_ends[mirror.local])  # which `finish` enters
            end.callback(_ends.pop, mirror.local, None)
            with shared(mirror) if several else contextlib.nullcontext():
                yield str(mirror.local)
            finish(mirror.local)
            cluster.decided("everything is in the bucket", opened.close)


@contextlib.contextmanager
def _with_copies(mirror: Mirror, whole: bool = False) -> Iterator[None]:
    """In this block `bring` serves the copies of the hosts that do not see that of process 0; they
    begin with all that is in the bucket if they are to be `whole`."""
    seen, _ = _sees_what_is_written(mirror.local)
    if cluster.all_agree("all see the copy", seen):
        yield
        return
    copies = _Copies(mirror, seen)
    _open.append(copies)
    try:
        if whole:
            if not seen:
                mirror.fetch()
            cluster.together("the copies are there")  # two processes of a host may share one
        yield
    finally:
        _open.remove(copies)


def finish(folder: Path) -> None:
    """From here on, until what is in the copy `folder` of an address is in the bucket, a first
    signal changes nothing."""
    if folder in _ends:
        _ends[folder].__enter__()


def bring(*paths: Path) -> bool:
    """Brings files and folders of the run's folder, as process 0 has them at this moment, to the
    copies of the other hosts; returns whether this process has such a copy, and not the files of
    process 0.

    All processes take part. Where all of them see one folder there is nothing to do. Of the states
    that were in the bucket a copy keeps the one that is brought. Raises NotCopied if the bucket
    does not take the files, BucketError if it does not give them, each after minutes.
    """
    fetched = False
    for copies in list(_open):
        if held := [path for path in paths if copies.hold(path)]:
            fetched = copies.bring(held)
    return fetched


def check_shared(folder: Path) -> None:
    """Raises ArgumentError, naming `workdir`, in a process that does not see what process 0 writes
    into the folder, which exists there, unless each host has a copy."""
    if cluster.count() == 1 or any(copies.hold(folder) for copies in _open):
        return
    seen, host = _sees_what_is_written(folder)
    if not seen:
        raise ArgumentError(
            "workdir",
            f"={folder}: process {cluster.rank()} on {socket.gethostname()} does not see what "
            f"process 0 on {host} writes there; name a folder that all hosts share, or gs://… or "
            "s3://…",
        )


def _sees_what_is_written(folder: Path) -> tuple[bool, str]:
    """Whether this process sees what process 0 writes into the folder, which exists there, and the
    name of that one's host."""
    host, file = cluster.decided("a file in the run's folder", lambda: _left_in(folder))
    seen = cluster.is_first() or _sees(folder / file)
    cluster.together("the run's folder is seen")
    if cluster.is_first():
        (folder / file).unlink(missing_ok=True)
    return seen, host


def _left_in(folder: Path) -> tuple[str, str]:
    """Writes a file into a folder; returns the name of this host, and that of the file."""
    name = f".shared.{secrets.token_hex(8)}.tmp"  # swept if a kill leaves it
    try:
        (folder / name).touch()
    except OSError as error:
        reason = error.strerror or error
        raise ArgumentError("workdir", f"={folder} cannot be written ({reason})") from None
    return socket.gethostname(), name


def _sees(file: Path) -> bool:
    """Whether a file is there; network file systems may show it a little later."""
    end = time.monotonic() + SEEING
    while not file.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
