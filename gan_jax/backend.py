"""The kind of device that programs are written for.

It is that of this process, except where a program for other devices is traced, to learn what it
would need there. Networks and steps take forms that suit their device, so they ask here.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

_other: ContextVar[str] = ContextVar("other", default="")
_plain: ContextVar[bool] = ContextVar("plain", default=False)


def kind() -> str:
    """ "cpu", "gpu" or "tpu"."""
    if _other.get():
        return _other.get()
    import jax  # here, because this module is imported where jax is not needed

    return jax.default_backend()


def programs_for(other: str) -> AbstractContextManager[None]:
    """Within this block `kind` is `other`: what is traced is a program for such a device."""
    return _within(_other, other)


def plain() -> bool:
    """Whether programs hold operations of XLA alone."""
    return _plain.get()


def plain_programs() -> AbstractContextManager[None]:
    """Within this block programs that are traced hold operations of XLA alone, which it can count
    and split over devices. jax must not find an earlier trace of the same function: what is traced
    here is a new function, or has `form` among its static arguments."""
    return _within(_plain, True)


def form() -> tuple[str, bool]:
    """What a trace depends on beside its arguments: `kind` and `plain`."""
    return kind(), plain()


@contextlib.contextmanager
def _within(variable: ContextVar, value: Any) -> Iterator[None]:
    before = variable.set(value)
    try:
        yield
    finally:
        variable.reset(before)
