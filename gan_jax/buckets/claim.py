"""The claim to an address: two machines never train one run at the same time.

The object `.claim.json` names the process. Its owner writes it anew every BEAT seconds; one that
has not been renewed for STALE seconds belongs to nobody any more. The token in it also says whose
copy is the newest: as long as it is that of this machine, nobody else has trained the run since.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from pathlib import Path

from gan_jax.buckets.bucket import Bucket, BucketError
from gan_jax.errors import NOT_SAVED, ArgumentError, UserError
from gan_jax.files import parse_json, read_json, write_json

logger = logging.getLogger(__name__)

NAME = ".claim.json"
BEAT = 60.0  # seconds
STALE = 300.0
LOOKING = 5.0  # seconds between looks at a claim whose owner may live
SETTLED = 1.0  # seconds after which a second one that claimed at the same moment can be seen


class Lost(UserError):
    """Another machine trains the run by now."""

    status = NOT_SAVED


class Claim:
    """The claim of this process to an address, kept alive from `take` until `close`.

    Args:
      bucket: the address.
      tokens: a file of this machine with the tokens for which its copy is the newest.
    """

    def __init__(self, bucket: Bucket, tokens: Path):
        self._bucket, self._tokens = bucket, tokens
        self._host = socket.gethostname()
        self._token, self._over = secrets.token_hex(8), threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self.lost, self._made = "", False

    def take(self) -> bool:
        """Claims the address; returns whether this machine's copy is the newest.

        Where it is not clear whether the process that has claimed it still lives, it waits for its
        next sign of life, at most until the claim is STALE. Raises ArgumentError that names
        `workdir` if another process has claimed it.
        """
        found, newest = self._found()
        if found and _is_held(found, newest):
            self._await_end(found, newest)
            found, newest = self._found()  # somebody may have been there meanwhile
        if newest:  # a kill between here and `fetched` leaves one of the two in the bucket
            write_json(self._tokens, [found["token"], self._token])
        self._write()
        self._made = True
        time.sleep(SETTLED)
        found = read(self._bucket) or {}
        if found.get("token") != self._token:
            raise self._refused(found)
        # from now on, since fetching may take long
        self._thread = threading.Thread(target=self._beat, name="claim", daemon=True)
        self._thread.start()
        return newest

    def _found(self) -> tuple[dict | None, bool]:
        """What the claim says, and whether this machine's copy is the newest."""
        found = read(self._bucket)
        return found, bool(found) and found.get("token") in _known(self._tokens)

    def _await_end(self, found: dict, own: bool) -> None:
        """Waits until a claim belongs to nobody any more; raises ArgumentError if its owner lives.

        A machine that was lost gives nothing back, and the same command given again, by a scheduler
        for example, has to go on.
        """
        if own and _is_alive(found):
            raise self._refused(found)
        began = time.monotonic()
        logger.info(
            f"{self._bucket.address}: {found.get('who', 'another process')} has not said that it "
            f"has ended; waiting for a sign of life, at most {STALE / 60:.0f} minutes"
        )
        # clocks may differ: a process that lives shows it within two beats, whatever they say
        while (passed := time.monotonic() - began) < STALE:
            if passed > 2 * BEAT and not _is_held(found, own):
                return
            time.sleep(LOOKING)
            with contextlib.suppress(BucketError):  # one that fails now and then: the next look
                now = read(self._bucket) or {"over": True}
                if any(now.get(key) != found.get(key) for key in ("token", "renewed")):
                    if not now.get("over"):
                        raise self._refused(now)
                    return

    def fetched(self) -> None:
        """Says that this machine's copy is the newest from now on. Raises Lost if another process
        has taken the address over meanwhile."""
        self.renew()
        write_json(self._tokens, [self._token])

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(UserError):  # a bucket that fails: the next beat tries again
                self.renew()

    def renew(self) -> None:
        """Writes the claim anew. Raises Lost if another process has taken the address over,
        BucketError if the bucket does not answer."""
        with self._lock:
            found = read(self._bucket)
            if found is not None and found.get("token") != self._token:
                self.lost = (
                    f"{self._bucket.address}: {found.get('who', 'another process')} trains there "
                    "by now, because this process had not shown any life for a while"
                )
            if self.lost:
                raise Lost(self.lost)
            if not self._over.is_set():
                self._write()

    def _write(self, over: bool = False) -> None:
        values = {
            "who": f"process {os.getpid()} on {self._host}",
            "token": self._token,
            "host": self._host,
            "pid": os.getpid(),
            "renewed": time.time(),
            "over": over,
        }
        self._bucket.write(NAME, json.dumps(values).encode())

    def _refused(self, found: dict) -> ArgumentError:
        return ArgumentError(
            "workdir",
            f"={self._bucket.address}: {found.get('who', 'another process')} trains there; wait "
            "for it, or name another address. A claim that is not renewed for "
            f"{STALE / 60:.0f} minutes ends",
        )

    def close(self) -> None:
        """Gives the address back, as far as the bucket lets it."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(BEAT)
        if self._made:
            with contextlib.suppress(UserError):
                self.renew()
                self._write(over=True)


def read(bucket: Bucket) -> dict | None:
    """What the claim of an address says; None if there is none, {} if it is no claim."""
    content = bucket.read(NAME)
    if content is None:
        return None
    with contextlib.suppress(ValueError):
        found = parse_json(content)
        return found if isinstance(found, dict) else {}
    return {}


def _known(tokens: Path) -> list[str]:
    """The tokens for which the copy beside the file is the newest."""
    try:
        found = read_json(tokens)
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def is_newest(bucket: Bucket, tokens: Path) -> bool:
    """Whether nobody but this machine has trained the run since it was copied here."""
    known = _known(tokens)
    return bool(known) and (read(bucket) or {}).get("token") in known


def _is_held(found: dict, own: bool) -> bool:
    """Whether the process that a claim names may still be at work; `own` says that it has trained
    in this machine's copy."""
    renewed = found.get("renewed")
    if found.get("over") or not isinstance(renewed, int | float):
        return False
    if own and _is_alive(found) is False:
        return False
    return time.time() - renewed < STALE


def _is_alive(found: dict) -> bool | None:
    """As `is_alive`, but for a claim of this process: it is of an earlier run, whose folder has a
    lock besides."""
    alive = is_alive(found)
    return False if alive and found["pid"] == os.getpid() else alive


def is_alive(found: dict) -> bool | None:
    """Whether the process with the `pid` and on the `host` that a file names runs on this machine;
    None if that cannot be said."""
    pid = found.get("pid") if os.name == "posix" else None
    if found.get("host") != socket.gethostname() or not (isinstance(pid, int) and pid > 0):
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return None
    return True
