"""Connects the processes that train together, before jax is asked for any device."""

import contextlib
import errno
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator

from gan_jax.errors import OUTSIDE, STOPPED, UserError, one_line
from gan_jax.modes.cluster import Member

DIRECT = ("no_grpc_proxy", "no_proxy")  # hosts that gRPC reaches without a proxy
BIND = "JAX_COORDINATOR_BIND_ADDRESS"  # where the first process listens, if not everywhere


def join(jax, member: Member | None, seconds: int) -> None:
    """Connects this process with the others, or ends it with one line after `seconds`.

    A signal ends the process while it waits. `member` is None on a TPU, whose hosts jax finds by
    itself. Raises UserError if this is the first process and its port is taken.
    """
    if member is None:
        where, settings = "the other hosts of this TPU", {}
    else:
        where, listening = f"the coordinator {member.coordinator}", None
        if member.index == 0:
            where = f"all of the {member.count} processes at {member.coordinator}"
            listening = os.environ.get(BIND) or _listening(member.coordinator)
        settings = dict(
            coordinator_address=member.coordinator,
            coordinator_bind_address=listening,
            num_processes=member.count,
            process_id=member.index,
            local_device_ids=member.devices and list(member.devices),
            cluster_detection_method="deactivate",
        )
        _without_proxy(member.coordinator)
    # jax ends a process that waited in vain by SIGABRT and a trace of C++
    late = f"no answer from {where} within {seconds} s"
    with _bounded(seconds, late):
        try:
            jax.distributed.initialize(**settings, initialization_timeout=seconds + 600)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"--distributed: cannot join {where} ({error})") from None


def _without_proxy(address: str) -> None:
    """Makes gRPC reach an address directly, where the environment names a proxy for the rest of the
    world."""
    known = next(filter(None, map(os.environ.get, DIRECT)), "")
    host = address.rpartition(":")[0].strip("[]")
    os.environ[DIRECT[0]] = ",".join(filter(None, (known, host)))
    # jax warns of every variable that speaks of proxies, this one included
    logging.getLogger("jax._src.distributed").addFilter(_not_of_proxies)


def _not_of_proxies(record: logging.LogRecord) -> bool:
    return "proxy variable" not in record.getMessage()


def _listening(address: str) -> str:
    """Where the first process listens: the port of its address, on every interface.

    Raises UserError if the port is taken. jax would end with a segmentation fault or not, as
    threads happen to run.
    """
    port = int(address.rpartition(":")[2])
    try:
        try:
            _listen(socket.AF_INET6, "::", port)
            return f"[::]:{port}"
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            _listen(socket.AF_INET, "0.0.0.0", port)  # a machine without IPv6
            return f"0.0.0.0:{port}"
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--distributed: nothing can listen for the other processes at {address} ({error}); "
            "name another port by --coordinator"
        ) from None


def _listen(family: int, host: str, port: int) -> None:
    with socket.socket(family) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind((host, port))


@contextlib.contextmanager
def _bounded(seconds: float, message: str) -> Iterator[None]:
    """Ends the process with one line if the block takes longer, or if a signal asks it to stop.

    Python's own handlers wait until jax comes back, and jax cannot be asked which process this is
    before, as logging does.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        before = signal.set_wakeup_fd(writing)
    except ValueError:  # not the main thread, which alone gets signals
        before = None
    thread = threading.Thread(target=_watch, args=(reading, seconds, message), daemon=True)
    thread.start()
    try:
        yield
    finally:
        if before is not None:
            signal.set_wakeup_fd(before)
        os.close(writing)
        thread.join()
        os.close(reading)


def _watch(reading: int, seconds: float, message: str) -> None:
    """Reads the numbers of signals from a pipe, until it is closed or `seconds` are over."""
    end = time.monotonic() + seconds
    while select.select([reading], [], [], max(end - time.monotonic(), 0))[0]:
        numbers = os.read(reading, 64)
        if not numbers:
            return
        if {signal.SIGTERM, signal.SIGINT} & {*numbers}:
            os.write(1, f"{OUTSIDE}\n".encode())
            os._exit(STOPPED)
    line = f"error: --distributed: {one_line(message)}; --join_seconds makes it longer\n"
    os.write(2, line.encode())
    os._exit(1)
