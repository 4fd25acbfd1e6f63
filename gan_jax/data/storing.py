"""What becomes of one image that is stored in a set of our own: its file as it is, or a smaller
image without loss, and a verdict about it.

report.jsonl has a line for each file in the order of the set: {"split", "file", "verdict": "kept",
"resized", "converted" or "unreadable", "class" if there are classes, "stored" (where it is), or
"reason" (why it is nowhere)}.
"""

import contextlib
import io
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gan_jax.data import decoding, resize
from gan_jax.data.sources import decode
from gan_jax.data.sources.arrays import Opened
from gan_jax.errors import UserError
from gan_jax.files import reason

# verdicts; an image that is converted has fewer bits and its own size
KEPT, CHANGED, CONVERTED, UNREADABLE = "kept", "resized", "converted", "unreadable"
RESIZES = ("crop", "squash")
ENCODINGS = ("webp", "png", "bmp")  # of images that are not stored as they are; all without loss
AHEAD = 4  # images for each thread that may wait to be written
LONGEST_WEBP = 16383  # px
SIGNATURES = {  # how the files of a format begin: their ending
    b"\xff\xd8\xff": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II": "tif",
    b"MM": "tif",
}


@dataclass(frozen=True)
class Wanted:
    """How images are stored.

    Attributes:
        size: side of the stored squares in pixels; 0: every image keeps its own size.
        resize: how they become squares, one of RESIZES: as config.data.resize=crop, or
            as config.data.resize=squash with a bicubic filter.
        encoding: of images that are not stored as they are, one of ENCODINGS. Grey images, and
            those too large for it, are stored as png instead of webp.
        deep_bits: how many bits grey files of 16 bits use, as config.data.deep_bits. With fewer
            than 16 these files are stored with 8 bits, whatever their size.
    """

    size: int = 0
    resize: str = "crop"
    encoding: str = "webp"
    deep_bits: int = decode.DEEP_BITS


class Stored(NamedTuple):
    """An image as it is stored, or why it is not."""

    verdict: str
    data: bytes = b""
    shape: tuple[int, int, int] = (0, 0, 0)
    reason: str = ""


def stored(source: Any, i: int, wanted: Wanted) -> Stored:
    """Image i of a source, read to its end. A file whose image has the wanted size and depth
    already is stored byte by byte."""
    try:
        read, content = _opened(source, i, wanted.deep_bits)
        image = read()
        made = _resized(image, wanted)
        deep = made is None and _is_scaled(source.name(i), content, wanted.deep_bits)
    except decode.UnreadableError as error:
        return Stored(UNREADABLE, reason=str(error))
    if made is None and content and not deep:
        return Stored(KEPT, content, image.shape)
    verdict = CHANGED if made is not None else CONVERTED if deep else KEPT
    made = image if made is None else made
    return Stored(verdict, encoded(made, wanted.encoding), made.shape)


def _opened(source: Any, i: int, bits: int) -> tuple[Callable[[], np.ndarray], bytes]:
    """(a function that reads image i, its file). The file is b"" for images without one."""
    if not hasattr(source, "content"):
        return partial(_plain, source, i), b""
    content = source.content(i)
    if not content:
        return partial(_plain, source, i), b""
    return decode.reader(content, source.name(i), bits), content


def _is_scaled(name: str, content: bytes, bits: int) -> bool:
    """Whether an image file, if there is one, is a grey one of 16 bits that `bits` scales."""
    if not content or bits == decode.DEEP_BITS:
        return False
    return decode.deepest(partial(io.BytesIO, content), name)[1]


def _plain(source: Any, i: int) -> np.ndarray:
    image = source.image(i)
    return decode.to_channels(image, 1 if image.shape[2] < 3 else 3)


def _resized(image: np.ndarray, wanted: Wanted) -> np.ndarray | None:
    """The image in the wanted size; None if it has this size."""
    size = wanted.size
    if not size or image.shape[:2] == (size, size):
        return None
    if wanted.resize == "squash":
        return resize.resize_uint8(image, size, size)
    return resize.center_crop(image, size)


def encoded(image: np.ndarray, encoding: str) -> bytes:
    """uint8 [H, W, 1 or 3] as a file from which the same pixels are decoded."""
    grey = image.shape[2] == 1
    picture = Image.fromarray(np.ascontiguousarray(image[:, :, 0] if grey else image))
    out = io.BytesIO()
    if encoding == "webp" and not grey and max(image.shape) <= LONGEST_WEBP:
        picture.save(out, "WEBP", lossless=True, quality=0, method=0)
    elif encoding == "bmp":
        picture.save(out, "BMP")
    else:
        picture.save(out, "PNG", compress_level=4)
    return out.getvalue()


def ending(data: bytes) -> str:
    """The usual ending of a file of an image, without the dot, by its first bytes."""
    for signature, found in SIGNATURES.items():
        if data.startswith(signature):
            return found
    return "avif" if data[4:8] == b"ftyp" else "webp"


@dataclass(frozen=True)
class Split:
    """One split of a set that is stored."""

    name: str
    source: Any
    class_names: tuple[str, ...]
    wanted: Wanted

    def results(self, first: int = 0) -> Iterator[tuple[int, Stored]]:
        """(number, what becomes of it) of each image from number `first` on, in order. Raises
        UserError for a source that cannot be read."""
        count, waiting = decoding.cores(), deque()
        with ThreadPoolExecutor(count) as pool:
            for i in range(first, len(self.source)):
                waiting.append((i, pool.submit(stored, self.source, i, self.wanted)))
                if len(waiting) > AHEAD * count:
                    yield self._result(*waiting.popleft())
            for number, made in waiting:
                yield self._result(number, made)

    def _result(self, i: int, made: Future) -> tuple[int, Stored]:
        with self._read(i):
            return i, made.result()

    @contextlib.contextmanager
    def _read(self, i: int) -> Iterator[None]:
        """Turns what a source raises in the block into UserError: it is not about what is written.
        Sources of records raise RuntimeError."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise UserError(f"{self.source.name(i)} cannot be read ({reason(error)})") from error

    def label(self, i: int) -> int:
        """The class of an image, 0 without classes. Raises UserError for one outside of them, and
        for a source that cannot be read."""
        if not self.class_names:
            return 0
        with self._read(i):
            label = self.source.label(i)
        if not 0 <= label < len(self.class_names):
            raise UserError(
                f"{self.source.name(i)}: has class {label}, outside 0..{len(self.class_names) - 1}"
            )
        return label

    def line(self, i: int, made: Stored, where: str) -> str:
        """The line of the report about an image, which is stored at `where` if it can be read."""
        found = {"split": self.name, "file": self.source.name(i), "verdict": made.verdict}
        if self.class_names:
            found["class"] = self.class_names[self.label(i)]
        found |= {"reason": made.reason} if made.reason else {"stored": where}
        return json.dumps(found) + "\n"


def splits_of(opened: Opened, wanted: Wanted) -> list[Split]:
    """The splits of a set."""
    found = {"train": opened.train, "validation": opened.validation}
    return [
        Split(name, source, opened.class_names, wanted)
        for name, source in found.items()
        if source is not None
    ]


def check_any(count: int, opened: Opened) -> None:
    """Raises UserError if none of the training images could be read."""
    if not count:
        raise UserError(
            f"none of {len(opened.train):,} images can be read, such as {opened.train.name(0)}; "
            "check what was named by --input"
        )
