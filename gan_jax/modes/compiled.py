"""Where compiled programs are kept, so that the same command starts faster the next time."""

import contextlib
import hashlib
import logging
import os
import platform
import warnings
from pathlib import Path

from gan_jax import caches
from gan_jax.files import reason

OFF = ("off", "")
AUTO = "auto"
MOST_BYTES = 4 * 2**30  # of programs; a large diffusion model's take some 100 MB
# of the processor: code compiled for one that has more of these crashes on one that has less
FEATURES = ("flags", "Features", "model name", "CPU implementer", "CPU part")
logger = logging.getLogger(__name__)


def keep(jax, chosen: str, several: bool) -> None:
    """Makes jax keep compiled programs as --compilation_cache says.

    By default they are kept in the user's cache folder, unless JAX_COMPILATION_CACHE_DIR names
    another. A folder that cannot be written to is told in one line, and nothing is kept.

    Args:
      chosen: a folder, "auto", or "off" or "" for none.
      several: whether this process computes together with others. Their home folders may differ,
        and processes of which some find a program and others compile it may wait for each other, so
        that "auto" keeps nothing.
    """
    # a program that cannot be read or written is compiled again, which is not worth a line each
    warnings.filterwarnings("ignore", message=".*persistent compilation cache")
    if chosen in OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return
    if chosen == AUTO:
        if several or jax.config.jax_compilation_cache_dir:
            return
        try:
            folder = default_folder()
        except OSError as error:
            logger.info(f"compiled programs are not kept: {reason(error)}")
            return
        problem = _made(folder) or _bounded(folder.parent)
        chosen = str(folder)
    else:
        problem = "" if "://" in chosen else _made(Path(chosen))
    if problem:
        logger.info(f"compiled programs are not kept: {chosen}: {problem}")
        return
    jax.config.update("jax_compilation_cache_dir", chosen)


def default_folder() -> Path:
    """The folder for this kind of machine in the cache folder; raises as `caches.folder`."""
    return caches.folder() / f"compiled-{_machine()}"


def _machine() -> str:
    """A name for machines that can share code compiled for a processor.

    The number of cores belongs to it, because XLA divides the work of a program by it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [platform.system(), platform.machine(), platform.processor(), str(cores)]
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            if name.strip() in FEATURES:
                parts.append(value.strip())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _made(folder: Path) -> str:
    """Makes the folder; returns why it cannot be used, "" if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        return error.strerror or str(error)
    return "" if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written to"


def _bounded(parent: Path) -> str:
    """Bounds the size of all folders in `parent`; returns why that cannot be done, "" if it is."""
    try:
        _bound(parent)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _bound(parent: Path) -> None:
    """Removes the programs that were not used for longest, if there are more than MOST_BYTES."""
    found = []
    for path in parent.glob("compiled-*/*"):
        with contextlib.suppress(OSError):  # another process removes them too
            facts = path.lstat()
            found.append((max(facts.st_atime, facts.st_mtime), facts.st_size, path))
    left = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if left <= MOST_BYTES:
            return
        with contextlib.suppress(OSError):
            path.unlink()
            left -= size
