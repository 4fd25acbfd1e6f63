"""A folder that the system refuses to write into, also for root: a read-only mount, a full disk."""

import builtins
import contextlib
import io
import os
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@contextlib.contextmanager
def unwritable(monkeypatch, folder: Path, number: int):
    """Inside, whatever would change something below `folder` raises OSError `number`."""
    inside = os.path.realpath(folder)

    def refuse(path) -> None:
        if isinstance(path, (str, os.PathLike)) and os.path.realpath(path).startswith(inside):
            raise OSError(number, os.strerror(number), str(path))

    def guarded(function, which=lambda *args, **kwargs: True):
        def call(path, *args, **kwargs):
            if which(*args, **kwargs):
                refuse(path)
            return function(path, *args, **kwargs)

        return call

    def writes(mode="r", *args, **kwargs) -> bool:
        return bool(set(mode) & set("wax+"))

    with monkeypatch.context() as patch:
        opened = guarded(io.open, writes)
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        patch.setattr(os, "open", guarded(os.open, lambda flags, *a, **k: bool(flags & WRITES)))
        for name in ("mkdir", "unlink", "remove", "rename", "replace", "rmdir"):
            patch.setattr(os, name, guarded(getattr(os, name)))
        yield
