"""Which operations on a run's files are struck, and how: by a preloaded library, or in Python.

The library is tests/soak/faults.c, compiled when it is first needed. Where there is no C compiler,
functions of Python are replaced instead; that reaches all but what tensorstore writes.
"""

import ctypes
import dataclasses
import errno
import fnmatch
import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
# as in faults.c
KINDS = ("create", "open", "read", "write", "sync", "rename", "mkdir", "unlink", "rmdir")
KINDS += ("truncate", "stat", "list", "lock")
ACTIONS = ("trace", "fail", "short", "kill_before", "kill_after", "signal", "power")
WRITES = ("create", "write", "sync", "rename", "mkdir", "truncate")
CHANGES = (*WRITES, "unlink", "rmdir")
# what may fail in which way; a short write or read is none of them
ERRORS = {
    "ENOSPC": ("create", "write", "mkdir", "rename", "truncate"),
    "EDQUOT": ("create", "write", "mkdir", "truncate", "sync"),
    "EIO": (*CHANGES, "open", "read", "stat", "list"),
    "ESTALE": (*CHANGES, "open", "read", "stat", "list"),
    "EMFILE": ("create", "open", "list"),
    "ENFILE": ("create", "open", "list"),
    "EROFS": ("create", "mkdir", "rename", "unlink", "rmdir"),
}


Strike = tuple[int, str, int, str]  # number, kind, errno, path below the folder


@dataclasses.dataclass(frozen=True)
class Rule:
    """Operations that are struck, and what happens to them.

    Attributes:
      folder: only paths below it, without links in it.
      action: one of ACTIONS. "trace" strikes nothing and reports every operation; "short" writes or
        reads half; "kill_after" ends the process when half of a write, or all of anything else, is
        done; "signal" sends `number` and lets the operation go on; "power" kills before and reports
        what the disk was given, see `lose_power`; without the library it only kills.
      kinds: of KINDS.
      pattern: what the path below the folder must match, as fnmatch does; * includes slashes.
      errors: names of errno, taken in turn.
      first: the first operation that is struck, counted from 1 among those that fit.
      every: after it, each of so many.
      most: how many are struck at most; 0: there is no end.
    """

    folder: str
    action: str = "fail"
    kinds: tuple[str, ...] = KINDS
    pattern: str = "*"
    errors: tuple[str, ...] = ("EIO",)
    first: int = 1
    every: int = 1
    most: int = 1
    number: int = signal.SIGTERM

    def __str__(self) -> str:
        what = "/".join(self.errors) if self.action == "fail" else self.action
        often = {0: f"and each {self.every}. after it", 1: "once"}.get(
            self.most, f"{self.most} times"
        )
        usual = self.kinds in (KINDS, CHANGES, *ERRORS.values())
        kinds = "operation" if usual else ",".join(self.kinds)
        return f"{what} at {kinds} {self.first} of {self.pattern} {often}"


def compiled() -> Path | None:
    """The compiled library; None if there is no compiler for it."""
    compiler = shutil.which("cc")
    if not compiler or not Path("/proc/self/fd").exists():
        return None
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    made = Path(tempfile.gettempdir()) / f"gan_jax_soak_{os.getuid()}_{digest}.so"
    if not made.exists():
        raw = made.with_suffix(f".{os.getpid()}-{threading.get_ident()}")  # workers are threads
        flags = ["-O1", "-fPIC", "-shared", "-fno-builtin"]
        subprocess.run([compiler, *flags, "-o", raw, SOURCE, "-ldl"], check=True)
        os.replace(raw, made)
    return made


def arm(rule: Rule, report: Path) -> None:
    """Installs a rule in this process; `report` gets a line for each operation that is struck."""
    strike = getattr(ctypes.CDLL(None), "soak_arm", None)
    if strike is None:
        _Patched(rule, report).install()
        return
    numbers = [getattr(errno, name) for name in rule.errors]
    failed = strike(
        rule.folder.encode(),
        rule.pattern.encode(),
        sum(1 << KINDS.index(kind) for kind in rule.kinds),
        (ctypes.c_long * 4)(rule.first, rule.every, rule.most, rule.number),
        (ctypes.c_int * len(numbers))(*numbers),
        len(numbers),
        ACTIONS.index(rule.action),
        os.fsencode(report),
    )
    if failed:
        raise OSError(f"{rule} cannot be installed")


def lose_power(folder: Path, before: dict[str, int], strikes: list[Strike]) -> int:
    """Takes from the files of a killed process what it had not synchronised; returns how many lost
    something.

    A file shrinks to its size when it was last synchronised. `before` holds the sizes of the files
    when the process started, and `strikes` what the action "power" has reported.
    """
    safe, open_ones = dict(before), set()
    for number, kind, value, path in strikes:
        if number:
            continue
        if kind == "sync":
            safe[path] = value
            open_ones.discard(path)
        elif kind == "rename":
            old, new = path.split("\t")
            safe = {_moved(name, old, new): size for name, size in safe.items()}
            open_ones = {_moved(name, old, new) for name in open_ones}
        elif kind == "unlink":
            safe.pop(path, None)
            open_ones.discard(path)
        else:
            open_ones.add(path)
    lost = 0
    for path in open_ones:
        file = folder / path
        if file.is_file() and file.stat().st_size > safe.get(path, 0):
            os.truncate(file, safe.get(path, 0))
            lost += 1
    return lost


def _moved(name: str, old: str, new: str) -> str:
    """The path of a file after the path `old`, its own or that of a folder, has become `new`."""
    inside = name == old or name.startswith(f"{old}/")
    return new + name[len(old) :] if inside else name


class _Patched:
    """The rule in Python: functions of os, and what opens files, are replaced in this process."""

    NAMES = {  # noqa: RUF012  never changed
        "mkdir": "mkdir", "unlink": "unlink", "remove": "unlink", "rmdir": "rmdir",
        "rename": "rename", "replace": "rename", "stat": "stat", "lstat": "stat",
        "listdir": "list", "scandir": "list", "fsync": "sync", "truncate": "truncate",
        "write": "write", "read": "read",
    }  # fmt: skip

    def __init__(self, rule: Rule, report: Path):
        self.rule, self._lock = rule, threading.Lock()
        self._seen, self._struck = itertools.count(1), itertools.count(1)
        self._report = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._write = os.write

    def install(self) -> None:
        """Replaces the functions, for the rest of the process."""
        import builtins
        import io

        for name, kind in self.NAMES.items():
            setattr(os, name, self._guarded(getattr(os, name), lambda *a, kind=kind: kind, name))
        os.open = self._guarded(os.open, _kind_of_flags)
        io.open = builtins.open = self._guarded(io.open, _kind_of_mode)

    def _guarded(self, function, kind_of, name: str = ""):
        def call(path=".", *rest, **named):
            kind = kind_of(*rest, **named)
            place = rest[0] if name in ("rename", "replace") else path
            hit = self._hit(kind, place)
            if hit > 0:
                raise OSError(hit, os.strerror(hit), place if isinstance(place, str) else None)
            if hit == -1 and name == "write":
                rest = (rest[0][: max(len(rest[0]) // 2, 1)], *rest[1:])
            result = function(path, *rest, **named)
            if hit == -2:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    def _below(self, place) -> str | None:
        try:
            path = os.readlink(f"/proc/self/fd/{place}") if isinstance(place, int) else place
            path = os.path.join(os.getcwd(), os.fsdecode(path))
        except (OSError, TypeError):
            return None
        inside = path == self.rule.folder or path.startswith(self.rule.folder + os.sep)
        return path[len(self.rule.folder) + 1 :] if inside else None

    def _hit(self, kind: str, place) -> int:
        """What happens to an operation: 0 nothing, an error, -1 it falls short, -2 the end after
        it."""
        rule, rest = self.rule, self._below(place)
        if kind not in rule.kinds or rest is None or not fnmatch.fnmatchcase(rest, rule.pattern):
            return 0
        with self._lock:
            seen = next(self._seen)
            if rule.action == "trace":
                self._note(seen, kind, 0, rest)
                return 0
            if seen < rule.first or (seen - rule.first) % rule.every:
                return 0
            count = next(self._struck)
            if rule.most and count > rule.most:
                return 0
            error = getattr(errno, rule.errors[(count - 1) % len(rule.errors)])
            self._note(seen, kind, error, rest)
        if rule.action in ("kill_before", "power"):
            os.kill(os.getpid(), signal.SIGKILL)
        if rule.action == "signal":
            os.kill(os.getpid(), rule.number)
        return {"fail": error, "short": -1, "kill_after": -2}.get(rule.action, 0)

    def _note(self, number: int, kind: str, error: int, rest: str) -> None:
        self._write(self._report, f"{number} {kind} {error} {rest}\n".encode())


def _kind_of_flags(flags: int, *rest, **named) -> str:
    changing = os.O_CREAT | os.O_WRONLY | os.O_RDWR | os.O_TRUNC
    return "create" if flags & changing else "open"


def _kind_of_mode(mode: str = "r", *rest, **named) -> str:
    return "create" if set(mode) & set("wax+") else "open"
