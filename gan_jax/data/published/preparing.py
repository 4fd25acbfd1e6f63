"""Prepares a published set: fetches its files, or takes them from a person, and unpacks them."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from gan_jax.data.progress import Progress
from gan_jax.data.published import places
from gan_jax.data.published.description import PublishedSet, RemoteFile, sha256
from gan_jax.data.published.fetching import FetchError, fetch
from gan_jax.errors import ArgumentError, UserError
from gan_jax.files import amount, check_folder, open_own, writing

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there, two processes at once go unnoticed
    fcntl = None

logger = logging.getLogger(__name__)

WORK = ".prepare"  # a folder in --out for what is not finished


def prepare(
    wanted: PublishedSet,
    out: str | Path,
    by_hand: str = "",
    progress: Progress | None = None,
) -> Path:
    """Makes the set's file or folder in the folder `out`, and returns its path.

    The target appears when it is complete and has been checked, so a call that was interrupted can
    be repeated, and goes on with what it has fetched. If the target exists already and is whole,
    nothing is done.

    Args:
        by_hand: a file that a person has got, or a folder that holds all files of the set; "" to
            fetch them.
        progress: makes progress bars; see gan_jax.data.progress.

    Raises UserError in one line: for a target that exists and is not whole, files that cannot be
    fetched, that are missing or not the published ones, and a folder that cannot be written.
    """
    target = Path(out) / wanted.target
    if os.path.lexists(target):
        if flaw := wanted.flaw(target):
            raise ArgumentError(
                "out",
                f": {target} exists and is not whole: {flaw}; move it away, or name another folder",
            )
        logger.info(f"{target}: already there and whole, nothing to do")
        return target
    folder = check_folder(out)
    given = _given(wanted, by_hand) if by_hand else {}
    logger.info(f"{wanted.title}. Licence: {wanted.licence}")
    work = folder / WORK / wanted.name
    with writing(target), _working(work, wanted):
        files = given or _fetched(wanted, work, progress)
        _make(wanted, files, work, target)
        _log_checksums(wanted, files)
        for file in wanted.files:
            (work / file.name).unlink(missing_ok=True)
    logger.info(f"wrote {target}, {amount(wanted.disk)}: {_use(wanted, target)}")
    return target


def _use(wanted: PublishedSet, target: Path) -> str:
    """How the next command finds the target."""
    named = wanted.use.format(target)
    if places.find(wanted.target) != str(target):
        return f"add {named}"
    return f"configs that read it find it there; in all others add {named}"


def how_to_get(wanted: PublishedSet, file: RemoteFile) -> str:
    """What a person can do who has to get a file by hand, for a message."""
    address = file.addresses[0] if file.addresses else wanted.page
    several = len(wanted.files) > 1
    name = "put all files of the set into one folder and name it by --from=DIR"
    return (
        f"get {file.name} by hand from {address} ({file.facts}), "
        f"{f'then {name}' if several else 'then name it by --from=FILE'}"
    )


def _given(wanted: PublishedSet, by_hand: str) -> dict[str, Path]:
    """The files that a person has got, by their published names. Raises ArgumentError for one that
    is missing, and for one with another checksum."""
    place, found = Path(by_hand), {}
    for file in wanted.files:
        path = place / file.name if os.path.isdir(place) or len(wanted.files) > 1 else place
        if not os.path.isfile(path):
            raise ArgumentError("from", f": {path} is not there; {how_to_get(wanted, file)}")
        try:
            checksum = sha256(path) if file.sha256 else ""
        except OSError as error:
            raise ArgumentError("from", f": {path} cannot be read ({error.strerror})") from None
        if checksum != file.sha256:
            raise ArgumentError(
                "from",
                f": {path} has the SHA-256 {checksum}, so it is damaged or another file; "
                f"{how_to_get(wanted, file)}",
            )
        found[file.name] = path
    return found


def _fetched(wanted: PublishedSet, work: Path, progress: Progress | None) -> dict[str, Path]:
    """Fetches the files into `work`. Raises UserError for one that cannot be fetched."""
    for file in wanted.files:
        if not file.addresses:
            raise UserError(
                f"{wanted.name}: {file.name} cannot be fetched by a program; "
                f"{how_to_get(wanted, file)}"
            )
    needed = sum(file.size for file in wanted.files)
    free = shutil.disk_usage(work).free
    if needed + wanted.disk > free + _size(work):
        raise ArgumentError(
            "out",
            f": {amount(needed + wanted.disk)} are needed there for {wanted.name}, and "
            f"{amount(free)} are free; name another folder",
        )
    found = {}
    for file in wanted.files:
        logger.info(f"fetching {file.name}, {amount(file.size)}, from {file.addresses[0]}")
        try:
            found[file.name] = fetch(file, work, progress)
        except FetchError as error:
            raise UserError(
                f"{wanted.name}: {file.name} was not fetched ({error}); try again, or "
                f"{how_to_get(wanted, file)}"
            ) from None
    return found


def _make(wanted: PublishedSet, files: Mapping[str, Path], work: Path, target: Path) -> None:
    """Makes the target of the files, checks it, and moves it to its place.

    Raises UserError if the files do not contain what they should. Fetched files without a published
    checksum are then removed, so that the next call fetches them again.
    """
    unfinished = work / "unfinished"
    _remove(unfinished)
    unfinished.mkdir()
    made = unfinished / wanted.target
    try:
        wanted.make(files, made)
        if flaw := wanted.flaw(made):
            named = ", ".join(str(path) for path in files.values())
            raise UserError(f"{named}: not what was published: {flaw}; get it again")
        os.replace(made, target)
    except UserError:
        for file in wanted.files:
            if not file.sha256:
                (work / file.name).unlink(missing_ok=True)
        raise
    finally:
        _remove(unfinished)


def _log_checksums(wanted: PublishedSet, files: Mapping[str, Path]) -> None:
    """Tells the checksums of files for which none is published."""
    for file in wanted.files:
        if not file.sha256:
            logger.info(
                f"no checksum is published for {file.name}: its content has been checked, and its "
                f"SHA-256 is {sha256(files[file.name])}"
            )


@contextlib.contextmanager
def _working(work: Path, wanted: PublishedSet) -> Iterator[None]:
    """Makes the folder for unfinished files; only one process at a time may be in the block."""
    work.mkdir(parents=True, exist_ok=True)
    with open_own(work / ".lock", "a") as lock:
        try:
            if fcntl:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another process is preparing {wanted.name} in {work.parent.parent}; wait for it"
            ) from None
        except OSError:
            pass  # a file system without locks
        try:
            yield
        finally:
            (work / ".lock").unlink(missing_ok=True)
            _leave(work)


def _size(folder: Path) -> int:
    """The number of bytes in the files of a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _leave(work: Path) -> None:
    """Removes the folders for unfinished files as far as they are empty."""
    with contextlib.suppress(OSError):
        work.rmdir()
        work.parent.rmdir()
