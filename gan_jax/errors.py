"""The exception for what a user can get wrong, and the checks that every room needs."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import Any

# exit statuses that a program that starts the command again can tell from others
STOPPED = 75  # by SIGTERM or Ctrl-C, with the state saved (EX_TEMPFAIL of sysexits.h)
NOT_SAVED = 74  # since the state could not be saved (EX_IOERR)
# what a person is told who stops a command while nothing is in memory alone
OUTSIDE = "stopped outside training: nothing is lost, run the same command again"
LONGEST_SHOWN = 200  # characters of a name or value out of a file


def one_line(text: str) -> str:
    """Text without line breaks, control characters and halves of characters."""
    if text.isprintable():
        return text
    halves = "\ud800", "\udfff"
    return "".join(
        c if c.isprintable() else "?" if halves[0] <= c <= halves[1] else " " for c in text
    )


def short(value: object) -> str:
    """A value as a message shows it: a very long text without its middle."""
    text = str(value)
    half = LONGEST_SHOWN // 2
    return text if len(text) <= LONGEST_SHOWN else f"{text[:half]}…{text[-half:]}"


class UserError(Exception):
    """A problem the user can fix: one line saying what, where, what is accepted, what to do.

    `launch.py` prints the message alone, without a traceback, and exits with a non-zero status.
    Names out of files may be part of a message: what would break the line or steer a terminal is
    replaced. `status` is the exit status of a program that it ends. `shared` says that each of
    several processes that compute together raises it.
    """

    status = 1
    shared = False

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


class ArgumentError(UserError):
    """A wrong value of an argument, such as "seeds" of `sample`.

    `name` is the name of the parameter, and the message begins with it. If the value came from a
    flag of that name, `launch.py` writes the flag instead: "--seeds: give whole numbers …".
    """

    def __init__(self, name: str, message: str):
        """`message` follows the name without a space, so it begins with ": " or "=value: "."""
        super().__init__(f"{name}{message}")
        self.name = name


def is_full_memory(error: BaseException) -> bool:
    """Whether an error says that the memory of this machine or of a device is full."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


@contextlib.contextmanager
def argument(*names: str, otherwise: str = "") -> Iterator[None]:
    """Turns a UserError that is raised in its block into an ArgumentError.

    The error gets the one of `names` with which its message begins, or else the name `otherwise`;
    if that is "", an error without such a name is raised as it is. Its status stays, and so does
    whether all processes have it.
    """
    try:
        yield
    except ArgumentError:
        raise
    except UserError as error:
        for name in names:
            rest = str(error).removeprefix(name)
            # the name of a file may begin like the argument's
            if rest != str(error) and rest[:1] in ("=", ":", " "):
                raise _renamed(error, name, rest) from error
        if otherwise:
            raise _renamed(error, otherwise, f": {error}") from error
        raise


def _renamed(error: UserError, name: str, message: str) -> ArgumentError:
    named = ArgumentError(name, message)
    named.status, named.shared = error.status, error.shared
    return named


def nearest(word: Any, accepted: Iterable[Any]) -> str:
    """The one of `accepted` that `word` is probably a misspelling of; "" if none is close."""
    names = [name for name in accepted if isinstance(name, str)]
    return next(iter(difflib.get_close_matches(str(word), names, 1)), "")


def near_miss(word: Any, accepted: Iterable[Any]) -> str:
    """The end of a message about `word`: "; did you mean dcgan_mnist?", or "" if none is close."""
    found = nearest(word, accepted)
    return f"; did you mean {found}?" if found else ""


def one_of(key: str, value: Any, accepted: Iterable[Any]) -> None:
    """Raises UserError unless `value` is one of `accepted`; the message names `key`, lists them,
    and asks whether the nearest was meant.

    `key` is the full name of what the user wrote, such as "config.loss.name".
    """
    accepted = tuple(accepted)
    if value not in accepted:
        listed = ", ".join(map(str, accepted))
        raise UserError(f"{key}={value!r}: accepted are {listed}{near_miss(value, accepted)}")


def at_least(key: str, value: float, lowest: float) -> None:
    """Raises UserError unless `value` ≥ `lowest`; NaN is refused."""
    if not value >= lowest:
        raise UserError(f"{key}={value}: must be at least {lowest}")


def above(key: str, value: float, limit: float) -> None:
    """Raises UserError unless `value` > `limit`; NaN is refused."""
    if not value > limit:
        raise UserError(f"{key}={value}: must be above {limit}")


def within(key: str, value: float, lowest: float, highest: float) -> None:
    """Raises UserError unless `lowest` ≤ `value` ≤ `highest`; NaN is refused."""
    if not lowest <= value <= highest:
        raise UserError(f"{key}={value}: must be from {lowest} to {highest}")
