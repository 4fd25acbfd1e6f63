"""A copy on this machine of what lies below an address, brought up to date in both directions."""

import contextlib
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from gan_jax.buckets import claim, copies
from gan_jax.buckets.addresses import Address, is_plain
from gan_jax.buckets.bucket import Bucket, BucketError, Found
from gan_jax.buckets.copies import SUMS, state_of
from gan_jax.errors import UserError, short
from gan_jax.files import amount, reason, replacing

try:
    import fcntl
except ImportError:  # Windows has no fcntl
    fcntl = None

logger = logging.getLogger(__name__)

AT_ONCE = 8  # files that are copied at the same time
TRIES = 5  # how often a copy is begun again because the other side has changed meanwhile
HOLDING = 100  # tries of 0.01 s to lock a file that another command looks at
LARGE = 10**7  # bytes that may take long, so that a line is logged first


class Mirror:
    """An address and its copy on this machine.

    Args:
      address: where the objects are.

    Attributes:
      local: the copy, a folder or a file, which need not exist yet.

    Raises UserError if the package for the address is missing.
    """

    def __init__(self, address: Address):
        self.address, self.local, self.bucket = address, address.local, Bucket(address)
        self.tokens = address.home / ".tokens.json"
        self._index: copies.Index  # read whenever this process is alone with the copy
        self._known: set[str] = set()  # objects that were fetched or uploaded here
        self._writing = threading.Lock()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time changes a copy, where the disk has locks."""
        try:
            self.address.home.mkdir(parents=True, exist_ok=True)
            with open(self.address.home / ".lock", "a") as file, self._writing:
                if fcntl:
                    with contextlib.suppress(OSError):
                        fcntl.flock(file, fcntl.LOCK_EX)
                # other processes may have copied meanwhile
                self._index = copies.Index(self.address.home / ".index.jsonl")
                yield
                self._index.save()
        except OSError as error:
            raise BucketError(
                f"{self.address}: {error.filename or self.local} cannot be written "
                f"({reason(error)}); GAN_JAX_CACHE names another folder for copies"
            ) from error

    def fetch(
        self,
        newest: bool | None = None,
        begin: Callable[[], None] | None = None,
        only: Iterable[str] = (),
    ) -> bool:
        """Brings the copy up to date, unless a run is trained in it; returns whether there is
        anything.

        Args:
          newest: the copy is newer than the bucket: only files that it lacks are fetched. None: if
            `is_newest` says so.
          begin: called when the copy is up to date, before other commands may use it: a training
            begins in it. Files that were never in the bucket are removed first.
          only: names of files and folders; nothing else is fetched or removed. (): everything.

        Raises BucketError, and UserError for objects whose names cannot be those of files here.
        """
        with self._alone():
            if begin is None and self.is_trained():
                return True
            newest = self.is_newest() if newest is None else newest
            found = self._fetch(newest, begin is not None, tuple(only))
            if begin is not None:
                begin()
            return found

    def _fetch(self, newest: bool, strict: bool, only: tuple[str, ...]) -> bool:
        def asked(names: dict[str, Any]) -> dict[str, Any]:
            return {k: v for k, v in names.items() if not only or _is_within(k, only)}

        for _ in range(TRIES):
            objects = self.bucket.listing()
            _check_names(self.address, objects)
            wanted = asked(copies.whole(objects))
            self._known |= {*objects}
            here = asked(copies.files(self.local))
            if not newest:
                self._remove_others(wanted, here, strict)
            self._forget_all_but(objects)
            lacking = {
                name: found
                for name, found in wanted.items()
                if name not in here or not (newest or self._is_same(name, found, here[name]))
            }
            if self._download(lacking):
                return bool(wanted) or (newest and bool(here))
        raise BucketError(f"{self.address} changes faster than it can be copied")

    def _forget_all_but(self, objects: dict[str, Found]) -> None:
        """Forgets what the bucket does not have any more, so that it is copied there again."""
        for name in {*self._index.entries} - {*objects}:
            self._index.drop(name)

    def has_state(self, step: int) -> bool:
        """Whether the bucket had a whole state of the run when the copy was brought up to date."""
        return f"checkpoints/{step}/{SUMS}" in self._known

    def _is_same(self, name: str, found: Found, about) -> bool:
        return self._index.is_same(name, about) and self._index.entries[name].found == found

    def _remove_others(self, wanted: dict[str, Found], here: dict, strict: bool) -> None:
        """Removes what the bucket does not have any more, and states that it never had."""
        lost = [
            name
            for name in here
            if name not in wanted and (strict or state_of(name) or name in self._index.entries)
        ]
        never = sum(name not in self._index.entries for name in lost)
        if never:
            logger.warning(
                f"{self.address}: another machine has written there since; what was made in "
                f"{self.local} and never copied is removed ({never:,} in all)"
            )
        self._remove(lost)

    def _remove(self, names: Iterable[str]) -> None:
        """Removes files of the copy, first what makes a state of a folder."""
        for name in sorted(names, key=lambda name: not name.endswith(SUMS)):
            copies.remove(self.local, name)
            self._index.drop(name)

    def _download(self, lacking: dict[str, Found]) -> bool:
        """Fetches objects; False if one of them is not there any more, or another one by now."""
        size = sum(found.size for found in lacking.values())
        if size >= LARGE:
            count = f"{len(lacking):,} files" if len(lacking) > 1 else "a file"
            logger.info(f"fetching {count}, {amount(size)}, from {self.address} to {self.local}")
        with _bar(size, self.local.name) as progress:

            def fetched(name: str) -> bool:
                path = self.local / name if name else self.local
                path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(_Other), replacing(path) as temporary:
                    complete = self.bucket.download(name, temporary, progress)
                    if not complete or temporary.stat().st_size != lacking[name].size:
                        raise _Other
                    about = temporary.stat()
                    self._index.add(name, lacking[name], about)
                    return True
                return False

            # pictures are newer than the summary, and last comes what makes a state of a folder
            first = [name for name in lacking if name.rpartition("/")[2] == "summary.json"]
            seals = [name for name in lacking if state_of(name) and name.endswith(f"/{SUMS}")]
            others = [name for name in lacking if name not in {*first, *seals}]
            return all(all(_together(fetched, names)) for names in (first, others, seals))

    def drop_states_beside(self, state: str) -> None:
        """Removes, of the states in the folder of one, the others that were ever in the bucket.

        It does nothing for the name of anything else, nor while a run is trained in the copy.
        """
        if not state_of(f"{state}/"):
            return
        with self._alone():
            if self.is_trained():
                return
            place = state.rpartition("/")[0]
            self._remove(
                name
                for name in copies.files(self.local)
                if state_of(name).rpartition("/")[0] == place
                and state_of(name) != state
                and name in self._index.entries
            )

    def push(
        self,
        everything: bool = True,
        check: Callable[[], None] = lambda: None,
        again: bool = False,
    ) -> int:
        """Copies files that are new or have changed to the bucket; returns how many.

        Args:
          everything: copies the run's states, too, and removes objects whose files are gone here.
          check: called before each group of changes; raises an error if there may be no more.
          again: asks the bucket what it has, and copies again what it has lost since.

        States come after all that they refer to, each sealed last, and objects are removed when
        everything is there: whenever it is cut off, the bucket holds a whole state if it did
        before. Raises BucketError, also if the whole copy is gone.
        """
        with self._alone():
            for _ in range(TRIES):
                if again:
                    self._forget_all_but(self.bucket.listing())
                here = copies.files(self.local)
                changed = self._changed(here, everything)
                with contextlib.suppress(copies.Changing):
                    return self._push(here, changed, everything, check)
        raise BucketError(f"{self.address}: states are removed faster than they can be copied")

    def _changed(self, here: dict, everything: bool) -> list[str]:
        """The files that are not as they are in the bucket; of a state all of them, or none."""
        changed = {name for name, about in here.items() if not self._index.is_same(name, about)}
        # those of a run beside this one, such as a classifier's, have no other way there
        own = () if everything else ("checkpoints/", "best/")
        states = {s for s in map(state_of, changed) if s and not s.startswith(tuple(own))}
        return [
            name
            for name in here
            if (state_of(name) in states if state_of(name) else name in changed)
        ]

    def _push(
        self, here: dict, changed: list[str], everything: bool, check: Callable[[], None]
    ) -> int:
        if changed:
            with copies.staged(self.local, changed, self.address.home / ".staged") as files:
                self._upload(files, check)
                listing = self.bucket.listing()
                for name, file in files.items():
                    if name not in listing:  # removed meanwhile
                        continue
                    arrived, sent = listing[name].size, file.stat().st_size
                    if arrived != sent:
                        raise BucketError(
                            f"{self.address}: {arrived:,} of {sent:,} bytes of {name} are there"
                        )
                    self._index.add(name, listing[name], here[name])
        if everything:
            if not os.path.lexists(self.local):
                raise BucketError(
                    f"{self.local} is not there any more; nothing is removed from {self.address}"
                )
            check()
            gone = [name for name in self._known if name not in here and self._may_go(name, here)]
            # no checkpoint outlives a best state that it refers to, nor its seal its files
            seals = [name for name in gone if state_of(name) and name.endswith(f"/{SUMS}")]
            for seal in sorted(seals, key=lambda name: _order(state_of(name)), reverse=True):
                self.bucket.remove(seal)
            _together(self.bucket.remove, [name for name in gone if name not in {*seals}])
            self._known -= {*gone}
            for name in gone:
                self._index.drop(name)
        return len(changed)

    def _may_go(self, name: str, here: dict) -> bool:
        """Whether an object without a file here is removed: no checkpoint goes before another one
        is whole, and none whose file here was damaged."""
        state = state_of(name)
        if not state.startswith("checkpoints/"):
            return copies.is_copied(name)
        damaged = f"damaged-{state.rpartition('/')[2]}"
        sealed = any(n.startswith("checkpoints/") and n.endswith(f"/{SUMS}") for n in here)
        return sealed and not any(re.match(rf"{damaged}(-\d+)?/", n) for n in here)

    def _upload(self, files: dict[str, Path], check: Callable[[], None]) -> None:
        def upload(names: list[str]) -> None:
            if names:
                check()
            _together(lambda name: self.bucket.upload(files[name], name), names)

        states: dict[str, list[str]] = {}
        for name in files:
            states.setdefault(state_of(name), []).append(name)
        self._known |= {*files}
        other = states.pop("", [])
        # that a run beside this one has ended, such as that of a classifier, is read there
        last = [name for name in other if name.rpartition("/")[2] == "summary.json"]
        upload([name for name in other if name not in {*last}])
        # the best states first, which checkpoints refer to; the newest checkpoint last
        for state in sorted(states, key=_order):
            seal = f"{state}/{SUMS}"
            if any(name in self._index.entries for name in states[state]):
                self.bucket.remove(seal)  # it was there with another content
            upload([name for name in states[state] if name != seal])
            upload([name for name in states[state] if name == seal])
        upload(last)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Says to other commands on this machine that a run is trained in the copy, as long as the
        block lasts. The copy is a folder then."""
        self.local.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            with contextlib.suppress(OSError):  # then they read what may change meanwhile
                self.address.home.mkdir(parents=True, exist_ok=True)
                file = opened.enter_context(open(self.address.home / ".training", "a"))
                _hold(file)
            yield

    def is_trained(self) -> bool:
        """Whether a run is trained in the copy at this moment."""
        try:
            with open(self.address.home / ".training") as file:
                if fcntl:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def is_newest(self) -> bool:
        """Whether the copy is as new as the bucket, or newer, because a run was trained in it and
        nowhere else since."""
        return self.local.is_dir() and claim.is_newest(self.bucket, self.tokens)


def _hold(file: IO[str]) -> None:
    """Locks a file that other commands lock for moments only; gives up after a second."""
    if fcntl is None:
        return
    for _ in range(HOLDING):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.01)


def _is_within(name: str, places: Iterable[str]) -> bool:
    return any(name == place or name.startswith(f"{place}/") for place in places)


class _Other(Exception):
    """An object is not the one that was listed."""


def _order(state: str) -> tuple[bool, str, int]:
    """The order in which states are copied: those of the run itself last."""
    place, _, step = state.rpartition("/")
    return place == "checkpoints", place, int(step)


def _together(function: Callable[[str], object], names: Iterable[str]) -> list:
    """The results of a function of each name, some of which are computed at the same time."""
    names = list(names)
    if not names:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(names)), "copy") as pool:
        works = [pool.submit(function, name) for name in names]
        try:
            return [work.result() for work in works]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextlib.contextmanager
def _bar(size: int, name: str) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, for what may take long, that counts bytes."""
    from tqdm import tqdm

    off = True if size < LARGE else None  # None: where there is no terminal
    with tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=off) as bar:
        yield bar.update


def _check_names(address: Address, objects: Iterable[str]) -> None:
    for name in objects:
        if name and not all(map(is_plain, name.split("/"))):
            raise UserError(
                f"{address}: the object {short(name)!r} cannot be copied, because its name would "
                "be no file of that folder; remove it, or name another address"
            )
