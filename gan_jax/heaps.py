"""Memory of this process: its peak, and the allocator, that is heaps ("arenas") of the C library,
which a process that runs for weeks fills and leaves again and again, or tcmalloc."""

import contextlib
import ctypes
import gc
import os
import re
import sys
from pathlib import Path

M_ARENA_MAX = -8  # of glibc's malloc.h
ARENAS = 2
RELEASE = "MallocExtension_ReleaseFreeMemory"  # of tcmalloc, from gperftools


def keep_few() -> None:
    """Lets the threads of this process share few heaps, as MALLOC_ARENA_MAX does.

    glibc gives a new thread a heap of its own, up to eight for each core, and keeps what a thread
    that ended has freed there. States, rows and pictures are written by threads that come and go,
    so a run would grow for as long as new heaps are opened. Does nothing where the environment
    says how many there are, or where the C library has no such setting.
    """
    tuned = "arena_max" in os.environ.get("GLIBC_TUNABLES", "")
    if not tuned and "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Frees objects that only refer to each other, and gives unused memory to the system.

    For after work that needs much memory and is seldom done. Python looks for such objects when it
    happens to have made many others, glibc gives back what lies at the end of a heap only, and
    tcmalloc keeps what it has.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError, AttributeError, TypeError):  # not tcmalloc
        getattr(ctypes.CDLL(None), RELEASE)()


def allocator() -> str:
    """ "tcmalloc" where it was preloaded, "" where memory is from the C library or nobody knows.

    XLA's programs for CPUs ask for all their memory at once and free it in the end. The C library
    gives so much back to the system, which clears every page of it again in the next step; tcmalloc
    keeps it.
    """
    with contextlib.suppress(OSError, TypeError):
        return "tcmalloc" if hasattr(ctypes.CDLL(None), RELEASE) else ""
    return ""


def peak() -> int:
    """The most bytes that this process has had in physical memory so far.

    getrusage counts on Linux from what the process had that started this one: after a notebook of
    many GB each of its commands seems to have needed as much. It is asked where there is no /proc.
    """
    with contextlib.suppress(OSError):
        if found := re.search(rb"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_bytes()):
            return int(found[1]) * 1024
    import resource  # which Windows does not have

    # in kB, on macOS in bytes
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
