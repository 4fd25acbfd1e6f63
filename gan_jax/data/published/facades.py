"""The facades of pix2pix: a folder with train, val and test, of a photo and its label map each.

No checksum is published for this archive. What is checked instead is the content: the number of
pictures in each part, their format and their size.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from gan_jax.data.published import archives
from gan_jax.data.published.description import PublishedSet, RemoteFile
from gan_jax.errors import UserError

SIZE = (512, 256)  # of a pair, width and height
PARTS = {"train": 400, "val": 100, "test": 106}
PICTURE = re.compile(r"(?:\./)?facades/(train|val|test)/(\d{1,4}\.jpg)")
LARGEST = 2**20  # bytes of one picture


def facades(file: RemoteFile, parts: Mapping[str, int] = PARTS) -> PublishedSet:
    """The set in `file`, with so many pairs in each part."""
    return PublishedSet(
        name="facades",
        title="CMP facades as pix2pix has them, 400 + 100 + 106 pairs of a photo and its label map",
        licence="for research; cite Tylecek and Sara, Spatial Pattern Templates for Recognition of "
        "Objects with Regular Structure (2013)",
        page="https://github.com/phillipi/pix2pix#datasets",
        target="facades",
        disk=file.size,
        files=(file,),
        make=lambda files, target: unpack(files[file.name], target, file.most),
        flaw=lambda target: flaw(target, parts),
    )


def unpack(path: Path, target: Path, most: int) -> None:
    """Writes the pictures of the archive into the new folder `target`.

    Pictures are packed already, so `most`, a bound on the size of the archive, bounds all of them
    together as well. Raises UserError for an archive with anything unexpected in it.
    """
    target.mkdir()
    with archives.reading(path):
        for name, size, stream in archives.tar_members(path, 2 * most, 1000):
            picture = PICTURE.fullmatch(name)
            if not picture:
                continue
            if size > LARGEST:
                raise UserError(f"{path}: {name} has {size:,} bytes; get the archive again")
            archives.write(stream, size, target / picture[1] / picture[2])


def flaw(target: Path, parts: Mapping[str, int]) -> str:
    """What is wrong with a folder of the set; "" if it is whole."""
    for part, count in parts.items():
        pictures = sorted((target / part).glob("*.jpg"))
        if len(pictures) != count:
            return f"its folder {part} has {len(pictures)} pictures and not {count}"
        for path in pictures:
            try:
                with Image.open(path, formats=("JPEG",)) as image:
                    if image.size != SIZE:
                        size = "x".join(map(str, image.size))
                        return f"its {part}/{path.name} is {size} and not {SIZE[0]}x{SIZE[1]}"
                    image.load()
            except (OSError, SyntaxError, ValueError) as error:
                return f"its {part}/{path.name} cannot be read ({error})"
    return ""
