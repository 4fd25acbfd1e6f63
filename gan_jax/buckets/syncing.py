"""A run whose folder, or data that, lie in a bucket: fetched, used on the disk, and copied back."""

import contextlib
import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from gan_jax.buckets import copies
from gan_jax.buckets.addresses import is_address, parse
from gan_jax.buckets.bucket import BucketError
from gan_jax.buckets.claim import Claim, Lost, read
from gan_jax.buckets.mirror import Mirror
from gan_jax.errors import NOT_SAVED, ArgumentError, UserError, at_least

logger = logging.getLogger(__name__)

Place = str | os.PathLike[str]
T = TypeVar("T")
LONGEST_PAUSE = 600.0  # seconds between tries to copy to a bucket that fails
LAST_TRIES = (1.0, 5.0)  # seconds between the tries at the end
TRIES = (1.0, 5.0, 15.0, 60.0, 120.0)  # the same while a run goes on, which waits for it
# of the copies that this process changes; those in which it trains have a claim
_open: dict[Path, tuple[Mirror, Claim | None]] = {}


class NotCopied(UserError):
    """What was made could not be copied to a bucket; the exit status is that of a failed save."""

    status = NOT_SAVED


def fetched(place: Place) -> Place:
    """What `place` names, as something on the disk: an address is fetched into the cache, unless
    the copy there is the same; any other place is returned as it is.

    Raises UserError if nothing is there, or it cannot be read.
    """
    if not is_address(place):
        return place
    mirror = Mirror(parse(place))
    _fetch(mirror, needed=True)
    return str(mirror.local)


def _fetch(mirror: Mirror, needed: bool) -> None:
    if mirror.is_trained():  # it is newer than the bucket. `fetch` would wait while it is copied
        return
    if not mirror.fetch() and needed:
        raise BucketError(f"{mirror.address}: there is nothing there")


@contextlib.contextmanager
def used(place: Place, needed: bool = True, writes: bool = True) -> Iterator[Place]:
    """Yields `place` as something on the disk, as `fetched` does; files that are written there in
    the block are copied back when it ends, whether by an error or not, if this process `writes`.

    With `needed`, something has to be there. Saved states are never copied back, and nothing is
    removed. Raises UserError as `fetched`, and NotCopied.
    """
    if not is_address(place):
        yield place
        return
    mirror = Mirror(parse(place))
    _fetch(mirror, needed)
    if not writes:
        with _explained(mirror):
            yield str(mirror.local)
        return
    own = mirror, None
    _open.setdefault(mirror.local, own)
    try:
        with _copied_back(mirror), _explained(mirror):
            yield str(mirror.local)
    finally:
        if _open.get(mirror.local) is own:
            del _open[mirror.local]


@contextlib.contextmanager
def trained(workdir: Place, seconds: float) -> Iterator[Place]:
    """Yields the folder in which a run is trained: `workdir` itself or, for an address, a copy of
    what is there, which is copied back every `seconds` and at the end.

    Raises ArgumentError that names `workdir` if another machine trains there, UserError if the
    bucket cannot be reached at the start, and NotCopied if what was trained could not be copied at
    the end.
    """
    if not is_address(workdir):
        yield workdir
        return
    at_least("config.run.sync_seconds", seconds, 1)
    mirror = Mirror(parse(workdir))
    _check_run(mirror)
    claim = Claim(mirror.bucket, mirror.tokens)
    try:
        newest = claim.take() and mirror.local.is_dir()
        with contextlib.ExitStack() as opened:
            mirror.fetch(newest, begin=lambda: opened.enter_context(mirror.training()))
            claim.fetched()
            if (step := copies.newest_step(mirror.local)) is not None:
                where = _where(mirror, step, newest)
                logger.info(f"{mirror.address}: the newest state is that of step {step:,}, {where}")
            logger.info(
                f"{mirror.address}: the run is trained in {mirror.local} and copied every "
                f"{seconds:g} s"
            )
            _open[mirror.local] = mirror, claim
            opened.enter_context(_copied_back(mirror, claim))
            opened.enter_context(_Copying(mirror, claim, seconds))
            opened.enter_context(_explained(mirror))
            yield str(mirror.local)
    finally:
        _open.pop(mirror.local, None)
        claim.close()


def _check_run(mirror: Mirror) -> None:
    """Raises ArgumentError that names `workdir` if something else than a run is at the address."""
    if read(mirror.bucket) is not None:
        return
    found = mirror.bucket.listing()
    if found and "config.json" not in found:
        raise ArgumentError(
            "workdir",
            f"={mirror.address}: there are {len(found):,} objects and no run; name a place of its "
            "own",
        )


def _where(mirror: Mirror, step: int, newest: bool) -> str:
    """Where the newest state of a copy is that has just been brought up to date."""
    if not newest:
        return "from the bucket"
    return "here and in the bucket" if mirror.has_state(step) else "of this machine's own copy"


@contextlib.contextmanager
def _explained(mirror: Mirror) -> Iterator[None]:
    """An error of the block that names a file of a copy says of which address it is the copy."""
    try:
        yield
    except UserError as error:
        text = str(error)
        if str(mirror.local) in text and str(mirror.address) not in text:
            error.args = (f"{text}; {mirror.local} is the copy of {mirror.address}",)
        raise


def lost(folder: Path) -> str:
    """Why this process may not train in a folder any more, in a line; "" if it may, or if the
    folder is the copy of no address."""
    _, claim = _open.get(folder, (None, None))
    return claim.lost if claim else ""


def copy_now(folder: Path) -> None:
    """Copies what this process has changed, in a folder of `trained` or `used`, to its address.

    Raises NotCopied.
    """
    if problem := _copied(*_open[folder], tries=TRIES):
        raise NotCopied(problem)


def fetch_now(mirror: Mirror, names: Iterable[str]) -> None:
    """Brings files and folders of a copy up to date. Raises BucketError, after TRIES."""
    _tried(lambda: mirror.fetch(newest=False, only=names), TRIES)


def _tried(action: Callable[[], T], pauses: Sequence[float]) -> T:
    """What `action` returns; where the bucket fails it is tried again after each of the pauses."""
    for pause in pauses:
        try:
            return action()
        except BucketError:
            time.sleep(pause)
    return action()


@contextlib.contextmanager
def _copied_back(mirror: Mirror, claim: Claim | None = None) -> Iterator[None]:
    """Copies to the bucket when the block ends; an error of the block goes first.

    Raises NotCopied.
    """
    try:
        yield
    except KeyboardInterrupt:
        logger.warning(
            f"{mirror.address} has what had been copied before; the rest is in {mirror.local}"
        )
        raise
    except Exception:
        if problem := _copied(mirror, claim, log=True):
            logger.warning(problem)
        raise
    if problem := _copied(mirror, claim, log=True):
        raise NotCopied(problem)


def _copied(
    mirror: Mirror, claim: Claim | None, log: bool = False, tries: Sequence[float] = LAST_TRIES
) -> str:
    """Copies to the bucket, and tries again if that fails; returns what is wrong then, else "".

    Without a claim no states are copied, and nothing is removed.
    """

    at_the_end = log and claim is not None

    def copy() -> int:
        if claim is None:
            return mirror.push(everything=False)
        claim.renew()
        return mirror.push(check=claim.renew, again=at_the_end)

    if at_the_end:
        logger.info(f"copying to {mirror.address} what it does not have yet")
    try:
        count = _tried(copy, tries)
    except UserError as error:
        return f"{error}; what could not be copied is in {mirror.local}" + (
            "" if isinstance(error, Lost) else ", and the same command copies it"
        )
    if at_the_end:
        logger.info(f"{mirror.address} has everything that is in {mirror.local}")
    elif log and count:
        logger.info(f"{mirror.address}: what was written in {mirror.local} is copied there")
    return ""


class _Copying:
    """Copies a folder to its address now and then, in a thread, as long as a `with` block lasts.

    What fails is a line, and is tried again, each time after a pause that is twice as long.
    """

    def __init__(self, mirror: Mirror, claim: Claim, seconds: float):
        self._mirror, self._claim, self._seconds = mirror, claim, seconds
        self._over = threading.Event()

    def __enter__(self) -> None:
        work = contextvars.copy_context().run  # lines go where those of this thread go
        self._thread = threading.Thread(target=work, args=(self._copy,), name="bucket", daemon=True)
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        if kind is None or issubclass(kind, Exception):
            self._thread.join()

    def _copy(self) -> None:
        pause, failed = self._seconds, False
        while not self._over.wait(pause):
            try:
                self._claim.renew()
                self._mirror.push(check=self._claim.renew, again=failed)
                if failed:
                    logger.info(
                        f"{self._mirror.address} can be written again, and has what it lacked"
                    )
                pause, failed = self._seconds, False
            except Lost as error:
                logger.warning(f"{error}; nothing more is copied there")
                return
            except Exception as error:  # training goes on whatever happens to the copy
                pause, failed = max(self._seconds, min(2 * pause, LONGEST_PAUSE)), True
                said = error if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
                logger.warning(f"{said}; copying again in {pause:g} s, and the run goes on")
