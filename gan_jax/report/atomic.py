"""A file is either the old one or the whole new one, whatever happens while it is written."""

import os
from pathlib import Path


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes beside `path` first, then moves the whole file onto it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
