"""The kind of device that programs are written for.

It is that of this process, except where a program for other devices is traced, to learn what it
would need there. Networks and steps take forms that suit their device, so they ask here.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_other: ContextVar[str] = ContextVar("other", default="")
_plain: ContextVar[bool] = ContextVar("plain", default=False)


def kind() -> str:
    """ "cpu", "gpu" or "tpu"."""
    if _other.get():
        return _other.get()
    import jax  # here, because this module is imported where jax is not needed

    return jax.default_backend()


@contextlib.contextmanager
def programs_for(other: str) -> Iterator[None]:
    """Within this block `kind` is `other`: what is traced is a program for such a device."""
    before = _other.set(other)
    try:
        yield
    finally:
        _other.reset(before)


def plain() -> bool:
    """Whether programs hold operations of XLA alone."""
    return _plain.get()


@contextlib.contextmanager
def plain_programs() -> Iterator[None]:
    """Within this block programs that are traced hold operations of XLA alone, which it can count
    and split over devices. jax must not find an earlier trace of the same function: what is traced
    here is a new function, or has `plain` among its static arguments."""
    before = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(before)
