"""What binds the processes of a cluster: none goes on without the others.

Process 0 listens on a port, and every other process keeps a connection to it. A process that fails
says so there, and all end with its line. A process that is killed closes its connection: the kernel
does that at once, however busy the others are, and finds out within SILENCE seconds if a whole
machine is gone. A signal to one process becomes a step after which all of them stop.

Nothing here needs jax, so that a command can end without having loaded it.
"""

import atexit
import json
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

from gan_jax.errors import STOPPED, UserError, one_line, short

logger = logging.getLogger(__name__)

MEETING = 60.0  # seconds until all processes have to be connected
DOUBT = 3.0  # seconds in which the cause of an error that may come from another process is told
LEAVING = 5.0  # seconds in which the others may leave before process 0, whose end jax takes badly
SILENCE = 10  # seconds until a machine that does not answer counts as gone
_LONGEST = 2**16  # bytes of a message
_KEEPALIVE = dict(
    TCP_KEEPIDLE=SILENCE - 6, TCP_KEEPINTVL=2, TCP_KEEPCNT=3, TCP_USER_TIMEOUT=1000 * SILENCE
)
_GONE = "it ended without a word: it was killed, or its machine is gone"

current: "Bond | None" = None  # of this process; None: it computes alone


@dataclass(frozen=True)
class Failure:
    """Why a process ended: its line and exit status."""

    rank: int
    host: str
    line: str
    status: int

    def __str__(self) -> str:
        return f"process {self.rank} on {self.host}: {self.line}"


class _Peer:
    """The connection to another process, over which messages go as lines of JSON."""

    def __init__(self, connection: socket.socket):
        self._connection, self._lock = connection, threading.Lock()
        self.rank, self.host, self.leaves = -1, "", False
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):  # not everywhere
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._file = connection.makefile("rb")

    def send(self, **message: Any) -> None:
        """Sends a message, as far as the other one still listens."""
        with self._lock:
            try:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
            except OSError:
                return  # whoever reads from this connection notices its end

    def receive(self) -> dict[str, Any] | None:
        """The next message; None at the end of the connection."""
        try:
            message = json.loads(self._file.readline(_LONGEST))
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def finish(self) -> None:
        """Says that nothing more will be sent; what was sent still arrives."""
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has ended already


class Bond:
    """The connections of one process to the others.

    Args:
      rank: the number of this process.
      size: how many processes there are.
      end: ends this process with a status; it does not return.
    """

    def __init__(self, rank: int, size: int, end: Callable[[int], Any] = os._exit):
        self.rank, self.size, self._end = rank, size, end
        self.host = socket.gethostname()
        self.stopping = False  # whether a signal has asked one of the processes to stop
        self._changed = threading.Condition()
        self._peers: dict[int, _Peer] = {}
        self._failure: Failure | None = None  # of another process
        self._fails = False  # this process ends by itself
        self._ended = False
        self._parted = False  # what happens to the others does not matter any more
        self._calls, self._counts, self._stop_at = 0, {}, None
        self._halted = False

    def listen(self) -> tuple[int, str]:
        """Process 0 begins to accept the others; returns the port and the word that they say."""
        family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
        server = socket.create_server(
            ("", 0), family=family, dualstack_ipv6=family == socket.AF_INET6, backlog=self.size
        )
        word = secrets.token_hex(16)
        self._run(self._accept, server, word)
        return server.getsockname()[1], word

    def _accept(self, server: socket.socket, word: str) -> None:
        with server:
            while len(self._peers) < self.size - 1:
                self._run(self._admit, server.accept()[0], word)

    def _admit(self, connection: socket.socket, word: str) -> None:
        connection.settimeout(MEETING)
        peer = _Peer(connection)
        hello = peer.receive() or {}
        rank = hello.get("rank")
        if hello.get("word") != word or rank not in range(1, self.size) or rank in self._peers:
            connection.close()  # some other program
            return
        connection.settimeout(None)
        self._greet(peer, rank, str(hello.get("host")))

    def _greet(self, peer: _Peer, rank: int, host: str) -> None:
        peer.rank, peer.host = rank, host
        with self._changed:
            self._peers[rank] = peer
            self._changed.notify_all()
        self._run(self._attend, peer)

    def wait_for_all(self) -> None:
        """Process 0 waits for the others. Raises UserError if one does not come."""
        with self._changed:
            if self._changed.wait_for(lambda: len(self._peers) == self.size - 1, MEETING):
                return
            missing = sorted({*range(1, self.size)} - self._peers.keys())
        raise UserError(
            f"processes {missing} have joined the cluster, but have not connected to {self.host} "
            f"within {MEETING:.0f} s; let the hosts open connections to each other on any port"
        )

    def connect(self, address: str, port: int, word: str, host: str) -> None:
        """Connects to process 0, whose machine calls itself `host`. Raises UserError if it cannot
        be reached."""
        try:
            connection = socket.create_connection((address, port), MEETING)
        except OSError as error:
            raise UserError(
                f"process {self.rank} on {self.host} cannot connect to port {port} of {address} "
                f"({error.strerror or error}), over which processes tell each other that they "
                "fail; let the hosts open connections to each other on any port"
            ) from None
        connection.settimeout(None)
        peer = _Peer(connection)
        peer.send(word=word, rank=self.rank, host=self.host)
        self._greet(peer, 0, host)

    def _run(self, work: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, name="bond", daemon=True).start()

    def _attend(self, peer: _Peer) -> None:
        """Reads what another process says, until its connection ends."""
        while (message := peer.receive()) is not None:
            match message:
                case {"failure": dict(told)}:
                    self._hear(Failure(**told))
                case {"leaves": True}:
                    peer.leaves = True
                case {"stop": str(asked)}:
                    self._stop_all(asked)
                case {"halt": True}:
                    self._halt(peer)
                case {"calls": int(calls)}:
                    self._counted(peer.rank, calls)
                case {"stop_at": int(call)}:
                    self._released(call)
        with self._changed:
            del self._peers[peer.rank]
            self._changed.notify_all()
        if not (peer.leaves or self._parted):
            line = f"{_GONE}; give the same command again"
            self._hear(Failure(peer.rank, peer.host, line, STOPPED))

    # failures

    def tell(self, line: str, status: int, sure: bool = True) -> None:
        """Ends the other processes, with this line about the present one, which ends by itself.

        If another process has failed before, this one ends here, with the line of the other.
        `sure` is false for an error that may be the consequence of such a failure, of which the
        news may still come.
        """
        with self._changed:
            if self._fails and self._failure is None:
                return
            self._changed.wait_for(lambda: self._failure is not None, 0.0 if sure else DOUBT)
            if self._failure is not None:
                # `_end_with` is about to end this process, whatever happens meanwhile
                self._changed.wait_for(lambda: self._ended, 2 * LEAVING)
                return
            self._fails = True
        self._spread(Failure(self.rank, self.host, short(one_line(line)), status))

    def _hear(self, failure: Failure) -> None:
        with self._changed:
            if self._failure is not None or self._fails:
                return
            self._failure = failure
            self._changed.notify_all()
        if self.rank == 0:
            self._spread(failure)
        self._run(self._end_with, failure)

    def _spread(self, failure: Failure) -> None:
        for peer in list(self._peers.values()):
            peer.send(failure=vars(failure))

    def _end_with(self, failure: Failure) -> None:
        print(f"error: {failure}", file=sys.stderr, flush=True)
        self.leave(failure.status)

    def leave(self, status: int) -> None:
        """Ends this process at once, process 0 after the others."""
        with self._changed:
            self._fails = True
        self.part()
        for peer in list(self._peers.values()):
            peer.finish()
        with self._changed:
            self._changed.wait_for(lambda: not self._peers, LEAVING)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        self._end(status)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def part(self) -> None:
        """Tells the others that the end of this process is none that they have to answer, and does
        not answer theirs any more."""
        self._parted = True
        for peer in list(self._peers.values()):
            peer.send(leaves=True)

    # one step after which all stop

    def ask(self, asked: str = "") -> None:
        """A signal has asked this process to stop: all of them will."""
        asked = asked or f"process {self.rank} on {self.host}"
        if self.rank == 0:
            self._stop_all(asked)
        elif first := self._peers.get(0):
            first.send(stop=asked)

    def now(self) -> bool:
        """Whether to stop, for a question that every process asks equally often.

        The answer becomes true at the same question for all of them, and stays true. To agree on
        it, every process says how often it has asked, and does not go on until all have said it.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._halted)
            self._calls += 1
            return self._stop_at is not None and self._calls >= self._stop_at

    def _stop_all(self, asked: str) -> None:
        with self._changed:
            if self.stopping:
                return
            self.stopping = self._halted = True
            calls = self._calls
        if asked != f"process 0 on {self.host}":
            logger.info(
                f"{asked} was asked to stop: all stop after this step, with the state saved"
            )
        for peer in list(self._peers.values()):
            peer.send(halt=True)
        self._counted(0, calls)

    def _halt(self, peer: _Peer) -> None:
        with self._changed:
            self.stopping = self._halted = True
            calls = self._calls
        peer.send(calls=calls)

    def _counted(self, rank: int, calls: int) -> None:
        with self._changed:
            self._counts[rank] = calls
            if len(self._counts) < self.size:
                return
            call = max(self._counts.values()) + 1
        for peer in list(self._peers.values()):
            peer.send(stop_at=call)
        self._released(call)

    def _released(self, call: int) -> None:
        with self._changed:
            self._stop_at, self._halted = call, False
            self._changed.notify_all()


def bind(bond: Bond) -> None:
    """Makes `bond` that of this process: an error that ends the process reaches the others."""
    global current
    current = bond
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        tell_error(error)
        before(kind, error, trace)
        bond.leave(getattr(error, "status", 1))

    sys.excepthook = hook
    atexit.register(bond.part)  # before jax's own, which waits for the other processes


def tell(line: str, status: int, sure: bool = True) -> None:
    """`Bond.tell`, if there are other processes."""
    if current is not None:
        current.tell(line, status, sure)


def tell_error(error: BaseException) -> None:
    """Tells other processes, if there are any, that an error ends this one, unless all have met it
    (`shared`)."""
    known = isinstance(error, UserError)
    if current is None or (known and error.shared):
        return
    line = str(error) if known else f"{type(error).__name__}: {' '.join(str(error).split())}"
    current.tell(line, getattr(error, "status", 1), sure=known)


def leave(status: int) -> NoReturn:
    """Ends the process at once, without the teardown of Python, after telling the others."""
    if current is not None:
        current.leave(status)
    os._exit(status)
