"""Contenders in a process of their own: what one library does to its process, such as beginning
threads or filling the heap, is not to change the times of another.

A process apart waits for a line while the other one computes, and times its own calls.
"""

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

from benchmarks.timing import Contender
from gan_jax.errors import UserError, one_line
from gan_jax.ops import onednn

# of contenders, and of what else is to be known about them
Made = tuple[Mapping[Any, Contender], Any]

LONGEST = 300  # characters of an error
# of the process of PyTorch's contenders: ours compute in another one
PYTORCH = {onednn.SWITCH: "0"}

_here = False


class Failure(str):
    """The message of an error."""


def inside() -> bool:
    """Whether this is a process apart."""
    return _here


@dataclass(frozen=True)
class Distant:
    """A contender of another process, for `timing.race`."""

    name: Any
    ask: Callable[..., Any]
    repeats: int = 0

    def warm(self) -> None:
        """As `Contender.warm`, over there."""
        self.ask("warm", self.name)

    def sample(self, count: int) -> tuple[float, float]:
        """As `Contender.sample`: times of the other process."""
        return self.ask("sample", self.name, count)


class Apart:
    """The process in which `make(*arguments)` makes contenders: both are sent there by pickle.

    It begins at once, with the variables of `environment` in place of ours, and ends with this
    process or with `close`.
    """

    def __init__(
        self,
        make: Callable[..., Made],
        *arguments: Any,
        environment: Mapping[str, str] = PYTORCH,
    ):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, make, arguments), daemon=True, name="contenders"
        )
        with mock.patch.dict(os.environ, environment):
            self._process.start()
        theirs.close()

    def contenders(self) -> tuple[dict[Any, Distant], Any]:
        """(the contenders by name, what else `make` returned), as soon as they are made.

        Raises UserError with the message of an error in `make`, or if the process ended.
        """
        names, more, repeats = self._ask("made")
        return {n: Distant(n, self._ask, repeats[n]) for n in names}, more

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(timeout=5)
        self._process.kill()
        self._process.join()

    def _ask(self, *words: Any) -> Any:
        try:
            self._pipe.send(words)
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(timeout=5)
            raise UserError(
                "the process of other contenders ended with status "
                f"{self._process.exitcode}: {one_line(str(error)) or 'it said nothing'}"
            ) from None
        if isinstance(answer, Failure):
            raise UserError(answer)
        return answer


def _serve(pipe: Connection, make: Callable[..., Made], arguments: tuple[Any, ...]) -> None:
    """Makes the contenders, then answers until the other process has closed its end."""
    global _here
    _here = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that process is told, and ends this one
    made: Mapping[Any, Contender] = {}
    try:
        made, more = make(*arguments)
        about = [*made], more, {name: contender.repeats for name, contender in made.items()}
    except Exception as error:  # of any kind: the other process has to say it
        about = _failure(error)
    # EOFError: the other process has closed its end, OSError: while this one was at work
    with contextlib.suppress(EOFError, OSError):
        while True:
            word, *rest = pipe.recv()
            answer = about if word == "made" else _answer(made, word, *rest)
            pipe.send(answer)


def _answer(made: Mapping[Any, Contender], word: str, name: Any, *count: int) -> Any:
    """What a method of a contender returns, or why it does not."""
    try:
        return getattr(made[name], word)(*count)
    except Exception as error:  # of any kind, as above
        return _failure(error)


def _failure(error: Exception) -> Failure:
    """An error as a line for the other process; here its traceback, if it is not a person's."""
    if not isinstance(error, UserError):
        traceback.print_exc()
    return Failure(one_line(str(error))[:LONGEST] or type(error).__name__)
