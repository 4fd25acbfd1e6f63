"""Hostile images, and archives of images."""

import gzip
import struct
import tarfile
import zlib

from tests.helpers.hostile import Make, gzip_bomb, lying, zip_bomb, zipped
from tests.helpers.hostile_texts import LABELS


def _headers(kind: bytes, count: int, size: int) -> bytes:
    """A packed .tar of headers that speak about the next one."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = kind, size
    one = header.tobuf(tarfile.GNU_FORMAT) + bytes(-(-size // 512) * 512)
    return gzip.compress(one * count, 1)


def _sized(size: bytes) -> bytes:
    """A packed .tar of a file whose header says its size in these twelve bytes."""
    raw = bytearray(tarfile.TarInfo("a").tobuf())
    raw[124:136] = size
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[:512])
    return gzip.compress(bytes(raw) + bytes(1024), 1)


TARS: dict[str, Make] = {
    "names of names": lambda: _headers(tarfile.GNUTYPE_LONGNAME, 1500, 1),
    "headers of headers": lambda: _headers(tarfile.XHDTYPE, 1500, 1),
    "a header of 8 GB": lambda: gzip.compress(tarfile.TarInfo("a").tobuf()[:124] + b"7" * 11),
    "size -1": lambda: _sized(b"\xff" * 12),
    "size 2^63": lambda: _sized(b"\x80" + bytes(3) + b"\x80" + bytes(7)),
    "no number as size": lambda: _sized(b"abcdefghijk\0"),
    "a bomb": lambda: gzip_bomb(2**29, tarfile.TarInfo("a").tobuf()),
    "no gzip": lambda: b"text",
    "nothing": lambda: b"",
}

EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 4 4
(ran) (w) file closefile
showpage
"""


def png_with(kind: bytes, data: bytes, side: int = 4) -> bytes:
    """A PNG of `side` pixels with one more chunk before its pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress((b"\0" + bytes(12)) * 4))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(kind, data) + rows + chunk(b"IEND", b"")


IMAGES: dict[str, Make] = {
    "EPS": lambda: EPS,
    "PDF": lambda: b"%PDF-1.4\n",
    "2^31 pixels square": lambda: png_with(b"tEXt", b"a\0b", 2**31 - 1),
    "30,000 pixels square": lambda: png_with(b"tEXt", b"a\0b", 30_000),
    "a bomb of text": lambda: png_with(b"zTXt", b"a\0\0" + zlib.compress(bytes(2**24))),
    "a bomb of a profile": lambda: png_with(b"iCCP", b"a\0\0" + zlib.compress(bytes(2**24))),
    "a chunk of 2 GB": lambda: png_with(b"tEXt", b"a").replace(
        b"\0\0\0\1tEXt", b"\x7f\xff\xff\xfftEXt"
    ),
    "an empty GIF": lambda: b"GIF89a" + bytes(30),
    "a GIF of 65,535": lambda: b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2L\1\0;",
    "a bitmap of 2^31": lambda: b"BM"
    + struct.pack("<4I2i2H", 99, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24)
    + bytes(24),
    "a TIFF of tags": lambda: b"II*\0\x08\0\0\0\xff\xff"
    + struct.pack("<HHII", 256, 4, 2**31, 8) * 50,
    "a TIFF in itself": lambda: b"II*\0\x08\0\0\0\x01\0"
    + struct.pack("<HHIII", 330, 4, 1, 8, 8),
    "a WebP of 4 GB": lambda: b"RIFF\xff\xff\xff\xffWEBPVP8L" + bytes(30),
    "an AVIF of nothing": lambda: struct.pack(">I", 24) + b"ftypavif" + bytes(12),
}  # fmt: skip


def picture(side: int = 4) -> bytes:
    return png_with(b"tEXt", b"a\0b")


ZIPS: dict[str, Make] = {
    "names above": lambda: zipped(("../../evil.png", picture()), ("a.png", picture())),
    "names above alone": lambda: zipped(("../evil.png", picture())),
    "an absolute name": lambda: zipped(("/etc/evil.png", picture())),
    "backslashes": lambda: zipped(("..\\..\\evil.png", picture())),
    "deep names": lambda: zipped(("a/" * 20_000 + "a.png", picture())),
    "an odd name": lambda: zipped(("a\n\x1b[2J.png", b"no image")),
    "encrypted": lambda: lying(zipped(("a.png", picture())), 8, 1, "<H", 6),
    "packed by method 99": lambda: lying(zipped(("a.png", picture())), 10, 99, "<H", 8),
    "says 4 GB": lambda: lying(zipped(("a.png", picture())), 24, 2**32 - 2, "<I", 22),
    "lies elsewhere": lambda: lying(zipped(("a.png", picture())), 42, 2**31, "<I"),
    "a bomb": lambda: zip_bomb("a.png", 2**29),
    "a bomb of WebP": lambda: zip_bomb("a.webp", 2**29, b"RIFF\xff\xff\xff\x7fWEBPVP8L"),
    "a bomb of AVIF": lambda: zip_bomb("a.avif", 2**29, struct.pack(">I", 24) + b"ftypavif"),
    "a bomb of labels": lambda: zip_bomb(
        "dataset.json", 2**29, b'{"labels": [', [("a.png", picture())]
    ),
    "EPS": lambda: zipped(("a.png", EPS)),
    "nothing": lambda: zipped(),
    "no zip": lambda: b"PK\3\4 and no more",
    **{
        f"labels: {name}": (
            lambda make=make: zipped(("a.png", picture()), ("dataset.json", make()))
        )
        for name, make in LABELS.items()
    },
}
