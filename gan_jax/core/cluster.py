"""What the processes of a cluster decide and do together.

They talk through the key-value store of jax's coordination service, not through devices, so nothing
here depends on meshes or waits for steps that are in flight. Every process has to call these
functions in the same order, from its main thread.
"""

import contextlib
import ctypes
import itertools
import json
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
from jax._src import distributed  # the store has no public name

from gan_jax.buckets.addresses import is_address
from gan_jax.core import bond
from gan_jax.errors import ArgumentError, UserError

T = TypeVar("T")

SEEING = 10.0  # seconds until a file that one host has written is seen by the others
LOOK = 1000  # milliseconds after which a process that waits can be interrupted
LONGEST = 30 * 24 * 3600 * 1000  # milliseconds; a process that will never come ends all, see `bond`
_numbers = itertools.count()


def is_first() -> bool:
    """Whether this process is the one that prints and writes. No device is opened for that."""
    return distributed.global_state.process_id == 0


def count() -> int:
    """How many processes compute together. No device is opened for that."""
    state = distributed.global_state
    return 1 if state.client is None else state.num_processes


def join() -> None:
    """Binds this process to the others, see `gan_jax.core.bond`, if there are others.

    It is called when jax.distributed has been initialised, and does nothing the second time. Raises
    UserError if processes cannot connect.
    """
    state = distributed.global_state
    if count() == 1 or bond.current is not None:
        return
    bound = bond.Bond(state.process_id, state.num_processes)
    bond.bind(bound)  # so that an error from here on ends all whom it reaches
    if bound.rank == 0:
        port, word = bound.listen()
        state.client.key_value_set("gan_jax/bond", json.dumps([port, word, bound.host]))
        bound.wait_for_all()
    else:
        address = state.coordinator_address.rpartition(":")[0].strip("[]")
        bound.connect(address, *json.loads(_read("gan_jax/bond")))
        _delay_abort()
    if threading.current_thread() is threading.main_thread():
        # jax has put a handler of its own in its place, which keeps a signal for later
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM) or signal.SIG_DFL)


def _delay_abort() -> None:
    """Lets `abort` sleep before it ends this process.

    When process 0 is killed, jax's client aborts the others within milliseconds, in a thread of its
    own. The bond hears of it as soon, but needs Python to end the process with a line.
    """
    with contextlib.suppress(OSError, AttributeError):  # not a system with such a library
        library = ctypes.CDLL(None)
        # the number of the signal is what `sleep` takes for its seconds
        library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))


def decided(what: str, decide: Callable[[], T]) -> T:
    """What `decide()` returns in process 0, in every process; `what` names it.

    Only process 0 calls the function. Its result has to be a value of JSON, and arrives with the
    types that JSON has. A UserError that it raises is raised by every process, with the same line
    and exit status.
    """
    if count() == 1:
        return decide()
    key = f"gan_jax/decided/{next(_numbers)}"
    if not is_first():
        found = json.loads(_read(key))
        if found["what"] != what:
            raise RuntimeError(f"process 0 decides {found['what']!r}, this process waits: {what!r}")
        if "error" in found:
            raise _error(**found["error"])
        return found["result"]
    try:
        result = decide()
    except UserError as error:
        error.shared = True
        told = {"text": str(error), "status": error.status, "name": getattr(error, "name", "")}
        _write(key, {"what": what, "error": told})
        raise
    _write(key, {"what": what, "result": result})
    return result


def same(what: str, values: dict[str, float]) -> dict[str, float]:
    """The numbers of process 0 by name, in every process; `what` names them."""
    if count() == 1:
        return values
    return decided(what, lambda: {name: float(value) for name, value in values.items()})


def together(what: str) -> None:
    """Waits until every process has come here; `what` names the place."""
    if count() > 1:
        key = f"gan_jax/together/{next(_numbers)}/{what}"
        distributed.global_state.client.wait_at_barrier(key, LONGEST)


def _write(key: str, value: Any) -> None:
    distributed.global_state.client.key_value_set(key, json.dumps(value))


def _read(key: str) -> str:
    """Waits for a value. It returns to Python now and then, so that Ctrl-C is heard."""
    while True:
        try:
            return distributed.global_state.client.blocking_key_value_get(key, LOOK)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _error(text: str, status: int, name: str) -> UserError:
    """An error of process 0, as this process raises it."""
    error = ArgumentError(name, text.removeprefix(name)) if name else UserError(text)
    error.status, error.shared = status, True
    return error


def check_shared(folder: Path) -> None:
    """Raises ArgumentError, naming `workdir`, in a process that does not see what process 0 writes
    into the folder, which exists there."""
    if count() == 1:
        return
    host, file = decided("a file in the run's folder", lambda: _left_in(folder))
    if not is_first() and not _sees(folder / file):
        raise ArgumentError(
            "workdir",
            f"={folder}: process {distributed.global_state.process_id} on {socket.gethostname()} "
            f"does not see what process 0 on {host} writes there; name a folder on a file system "
            "that all hosts share",
        )
    together("the run's folder is shared")
    if is_first():
        (folder / file).unlink(missing_ok=True)


def check_on_disk(name: str, place: str | Path) -> None:
    """Raises ArgumentError of the parameter `name` for an address in a bucket, of which each of
    several processes would have a copy of its own."""
    if count() > 1 and is_address(place):
        error = ArgumentError(
            name,
            f"={place}: several processes need one folder that all of them see; name a shared one, "
            "and copy it to the bucket afterwards",
        )
        error.shared = True
        raise error


def check_same(what: str, value: Any) -> None:
    """Raises UserError in a process whose value, one of JSON, is not that of process 0: with other
    settings a process would compute something else, or wait where the others do not."""
    own = json.dumps(value, sort_keys=True)
    if decided(f"the {what}", lambda: own) != own:
        raise UserError(
            f"process {distributed.global_state.process_id} on {socket.gethostname()} was given "
            f"another {what} than process 0; give all processes the same command"
        )


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
