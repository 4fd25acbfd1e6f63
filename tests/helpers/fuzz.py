"""Small valid files of every format, damaged at random, and what their readers make of them.

    python -m tests.helpers.fuzz --seconds=60 --seed=0 [--only=PyTorch]

Input k of a reader is a function of (seed, reader, k). Each reader has a process of its own, whose
memory is bounded, so one that is killed is a finding and not the end.
"""

import argparse
import contextlib
import functools
import gzip
import io
import json
import os
import struct
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from gan_jax.interop.formats import sstable
from tests.helpers import hostile_tables, judge
from tests.helpers.formats import FORMATS, Format

LARGEST_SEED = 2**14  # bytes of a hostile file that is damaged further
NUMBERS = (0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
WORDS = (b"-1", b"0", b"1e999", b"NaN", b"null", b"[", b"{", b'"', b"\\ud800", b"../", b"\0", b"\n")
Mutate = Callable[[np.random.Generator, bytes], bytes]


# ---------------------------------------------------------------- damage


def _flip(rng: np.random.Generator, data: bytes) -> bytes:
    raw = bytearray(data)
    for place in rng.integers(len(raw), size=rng.integers(1, 5)):
        raw[place] ^= 1 << int(rng.integers(8))
    return bytes(raw)


def _overwrite(rng: np.random.Generator, data: bytes) -> bytes:
    raw, place = bytearray(data), int(rng.integers(len(data)))
    raw[place : place + int(rng.integers(1, 9))] = rng.bytes(int(rng.integers(1, 9)))
    return bytes(raw)


def _number(rng: np.random.Generator, data: bytes) -> bytes:
    """A number that means something special in place of 1, 2, 4 or 8 bytes."""
    width = int(rng.choice([1, 2, 4, 8]))
    value = int(rng.choice(NUMBERS)) % 2 ** (8 * width)
    order = "little" if rng.random() < 0.7 else "big"
    place = int(rng.integers(len(data)))
    return data[:place] + value.to_bytes(width, order) + data[place + width :]


def _word(rng: np.random.Generator, data: bytes) -> bytes:
    place = int(rng.integers(len(data)))
    word = WORDS[int(rng.integers(len(WORDS)))] * int(rng.choice([1, 1, 1, 50]))
    return data[:place] + word + data[place + int(rng.integers(3)) :]


def _digits(rng: np.random.Generator, data: bytes) -> bytes:
    """Another number where the file has one in text."""
    places = [place for place, byte in enumerate(data[:4096]) if 48 <= byte < 58]
    if not places:
        return _flip(rng, data)
    place = int(rng.choice(places))
    number = b"%d" % int(rng.choice(NUMBERS)) + b"0" * int(rng.choice([0, 0, 0, 30]))
    return data[:place] + number + data[place + 1 :]


def _cut(rng: np.random.Generator, data: bytes) -> bytes:
    start, stop = np.sort(rng.integers(len(data) + 1, size=2))
    return data[: int(start)] + data[int(stop) :] if rng.random() < 0.5 else data[: int(start)]


def _repeat(rng: np.random.Generator, data: bytes) -> bytes:
    start = int(rng.integers(len(data)))
    piece = data[start : start + int(rng.integers(1, 64))]
    return data[:start] + piece * int(rng.choice([2, 3, 100, 2000])) + data[start:]


DAMAGE: tuple[Mutate, ...] = (_flip, _overwrite, _number, _word, _digits, _cut, _repeat)


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """`data`, damaged between once and three times."""
    for _ in range(int(rng.integers(1, 4))):
        if data:
            data = DAMAGE[int(rng.integers(len(DAMAGE)))](rng, data)
    return data


# ---------------------------------------------------------------- what lies under a checksum


def inside(rng: np.random.Generator, data: bytes) -> bytes:
    """The file with damage in its content and right checksums, if it is of a kind that has some."""
    with contextlib.suppress(Exception):  # the file is damaged already
        if data[:2] == b"PK":
            return _in_zip(rng, data)
        if data[:2] == b"\x1f\x8b":
            return gzip.compress(damaged(rng, gzip.decompress(data)), 1, mtime=0)
        if data[:4] == b"\x89PNG":
            return _in_png(rng, data)
        if len(data) > sstable.FOOTER and data[-8:] == struct.pack("<Q", sstable.MAGIC):
            return _in_table(rng, data)
    return damaged(rng, data)


def _in_zip(rng: np.random.Generator, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        members = old.infolist()
        chosen = int(rng.integers(len(members)))
        for place, member in enumerate(members):
            name, content = member.filename, old.read(member)
            if place == chosen and rng.random() < 0.1:
                name = damaged(rng, name.encode()).decode("utf-8", "replace") or "a"
            elif place == chosen:
                content = damaged(rng, content)
            new.writestr(zipfile.ZipInfo(name), content, member.compress_type)
    return out.getvalue()


def _in_png(rng: np.random.Generator, data: bytes) -> bytes:
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = int(rng.integers(len(chunks)))
    out = data[:8]
    for place, (kind, content) in enumerate(chunks):
        if place == chosen:
            content = damaged(rng, content)
        crc = zlib.crc32(kind + content)
        out += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
    return out


def _in_table(rng: np.random.Generator, data: bytes) -> bytes:
    rows = list(sstable.entries(data))
    chosen = int(rng.integers(len(rows)))
    key, value = rows[chosen]
    rows[chosen] = (key, damaged(rng, value)) if rng.random() < 0.8 else (damaged(rng, key), value)
    return hostile_tables.table(
        [hostile_tables.block(b"".join(hostile_tables.entry(k, v) for k, v in rows))]
    )


# ---------------------------------------------------------------- readers


@functools.cache
def seeds(name: str) -> list[bytes]:
    """The files of a format that are damaged: valid ones, and some that are hostile already."""
    form = FORMATS[name]
    made = (make() for make in form.hostile.values())
    small = [data for data in made if 0 < len(data) <= LARGEST_SEED]
    return [*form.valid() * (1 + len(small) // 2), *small]


def made(name: str, seed: int, number: int) -> bytes:
    """Input `number` of a reader."""
    rng = np.random.default_rng([seed, list(FORMATS).index(name), number])
    data = seeds(name)[int(rng.integers(len(seeds(name))))]
    return (inside if rng.random() < 0.6 else damaged)(rng, data)


def tried(name: str, seed: int, seconds: float) -> Iterator[tuple[int, str]]:
    """(number of the input, what is wrong with how reading it ends or "") for some seconds."""
    form, number = FORMATS[name], 0
    stop = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        form.beside(Path(folder))
        once(
            form, Path(folder), form.valid()[0], memory=2**34
        )  # what is compiled, imported, cached
        while time.monotonic() < stop:
            yield number, once(form, Path(folder), made(name, seed, number))
            number += 1


def once(form: Format, folder: Path, data: bytes, **bounds: float) -> str:
    """What is wrong with how reading a file of this content ends; "" if nothing is."""
    path = folder / form.file
    path.write_bytes(data)
    return judge.fault(form.read, path, **{"seconds": 10, **bounds})


def _in_child(name: str, seed: int, seconds: float) -> tuple[int, list[str]]:
    """(number of inputs, findings) of a reader in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _report(name, seed, seconds, writer)
    os.close(writer)
    count, found = 0, []
    with open(reader) as lines:
        for line in lines:
            number, fault = json.loads(line)
            count = number + 1
            found += [f"{name}, input {number}: {fault}"] if fault else []
    _, status = os.waitpid(child, 0)
    if status:
        found.append(f"{name}, input {count}: ended the process, status {status}")
    return count, found


def _report(name: str, seed: int, seconds: float, writer: int) -> None:
    try:
        with open(writer, "w", buffering=1) as out:
            for number, fault in tried(name, seed, seconds):
                out.write(json.dumps([number, fault]) + "\n")
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=FORMATS, help="one reader instead of all")
    flags = parser.parse_args()
    names = [flags.only] if flags.only else list(FORMATS)
    counts, findings = Counter(), []
    for name in names:
        counts[name], found = _in_child(name, flags.seed, flags.seconds / len(names))
        findings += found
        print(f"{name}: {counts[name]} inputs, {len(found)} findings", flush=True)
        for line in found[:5]:
            print(f"  {line}", flush=True)
    total = counts.total()
    print(f"{total - len(findings)} of {total} ended in values or one line")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
