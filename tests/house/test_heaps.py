"""Threads of the program share a few heaps, which give back what is not used any more; and the peak
of a process is its own."""

import ctypes
import platform
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

from gan_jax import heaps as heaps_module
from tests.helpers.forks import Forked
from tests.helpers.shell import python

THREADS = 12


def print_heaps():
    """In a process of its own, with a path: how many heaps it has after threads that allocated."""
    from gan_jax import heaps

    heaps.keep_few()
    library = ctypes.CDLL(None)
    library.malloc.restype = library.fopen.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    met = threading.Barrier(THREADS)

    def allocate():
        met.wait(60)
        library.malloc(1000)
        met.wait(60)  # while all of them live

    threads = [threading.Thread(target=allocate) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file = ctypes.c_void_p(library.fopen(sys.argv[1].encode(), b"w"))
    library.malloc_info(0, file)
    library.fclose(file)


def heaps(tmp_path: Path, **environment: str) -> int:
    path = tmp_path / "heaps.xml"
    process = Forked(path, call=f"{__name__}:print_heaps", environment=environment)
    assert process.wait() == 0, process.printed
    return path.read_text().count("<heap nr=")


def test_threads_share_two_heaps_unless_the_environment_says_otherwise(tmp_path):
    if platform.libc_ver()[0] != "glibc":
        return  # others have no such heaps
    assert heaps(tmp_path) == 2
    assert heaps(tmp_path, MALLOC_ARENA_MAX="5") > 2


def print_memory():
    """In a process of its own, with a path: its resident pages with much memory that was freed
    between two small pieces that are kept, and after it has been given back."""
    from gan_jax import heaps

    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    pieces = []
    for _ in range(2000):
        pieces.append(ctypes.c_void_p(library.malloc(50_000)))
        ctypes.memset(pieces[-1], 1, 50_000)
    for piece in pieces[1:-1]:
        library.free(piece)
    before = resident()
    heaps.give_back()
    Path(sys.argv[1]).write_text(f"{before} {resident()}")


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


def test_what_was_freed_goes_back_to_the_system(tmp_path):
    if platform.libc_ver()[0] != "glibc":
        return
    path = tmp_path / "pages"
    process = Forked(path, call=f"{__name__}:print_memory", environment={})
    assert process.wait() == 0, process.printed
    before, after = map(int, path.read_text().split())
    assert before - after > 20_000  # of the 24,400 pages that were freed


PEAKS = """
from gan_jax import heaps
first = heaps.peak()
block = bytearray(2 * 10**8)
print(first, heaps.peak())
"""


def test_the_peak_is_that_of_this_process_and_not_of_the_one_that_started_it():
    held = bytearray(5 * 10**8)
    first, second = map(int, python(PEAKS).stdout.split())
    assert first < len(held) / 2
    assert 190e6 < second - first < 210e6
    assert heaps_module.peak() > len(held)


def test_tcmalloc_is_named_and_gives_memory_back(monkeypatch):
    """As if it had been preloaded: its functions are then among those of the process."""
    calls = []
    library = SimpleNamespace(malloc_trim=calls.append)
    monkeypatch.setattr(heaps_module.ctypes, "CDLL", lambda name: library)
    assert heaps_module.allocator() == ""
    setattr(library, heaps_module.RELEASE, lambda: calls.append("released"))
    assert heaps_module.allocator() == "tcmalloc"
    heaps_module.give_back()
    assert calls == [0, "released"]
