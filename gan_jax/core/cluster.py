"""What the processes of a cluster decide and do together.

They talk through the key-value store of jax's coordination service, not through devices, so nothing
here depends on meshes or waits for steps that are in flight. Every process has to call these
functions in the same order, from its main thread.
"""

import contextlib
import ctypes
import itertools
import json
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from jax._src import distributed  # the store has no public name

from gan_jax.core import bond
from gan_jax.errors import ArgumentError, UserError

T = TypeVar("T")

LOOK = 1000  # milliseconds after which a process that waits can be interrupted
LONGEST = 30 * 24 * 3600 * 1000  # milliseconds; a process that will never come ends all, see `bond`
_numbers = itertools.count()


def is_first() -> bool:
    """Whether this process is the one that prints and writes. No device is opened for that."""
    return distributed.global_state.process_id == 0


def rank() -> int:
    """The number of this process among those that compute together, from 0 on."""
    return distributed.global_state.process_id


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


def all_agree(what: str, value: bool) -> bool:
    """Whether the value is true in every process; `what` names it."""
    if count() == 1:
        return value
    key = f"gan_jax/all_agree/{next(_numbers)}"
    if not is_first():
        _write(f"{key}/{rank()}", value)
    others = range(1, count())
    return decided(what, lambda: all([value, *(json.loads(_read(f"{key}/{n}")) for n in others)]))


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


def check_same(what: str, value: Any) -> None:
    """Raises UserError in a process whose value, one of JSON, is not that of process 0: with other
    settings a process would compute something else, or wait where the others do not."""
    own = json.dumps(value, sort_keys=True)
    if decided(f"the {what}", lambda: own) != own:
        raise UserError(
            f"process {rank()} on {socket.gethostname()} was given "
            f"another {what} than process 0; give all processes the same command"
        )
