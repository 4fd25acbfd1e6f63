"""CelebA-HQ, from the archive CelebAMask-HQ.zip, which a person has to get: it lies behind a page
that programs cannot pass, and no checksum is published for it.
"""

import re
from pathlib import Path

from PIL import Image

from gan_jax.data.published import archives
from gan_jax.data.published.description import PublishedSet, RemoteFile
from gan_jax.errors import UserError

PICTURE = re.compile(r"(?:CelebAMask-HQ/)?CelebA-HQ-img/(\d{1,5})\.jpg")
LARGEST = 2**23  # bytes of one picture
MOST = 2**33  # bytes of all files, the masks included
MEMBERS = 1_000_000


def celeba_hq(file: RemoteFile, count: int = 30_000, side: int = 1024) -> PublishedSet:
    """The set in `file`: `count` square pictures of `side` pixels."""
    return PublishedSet(
        name="celeba_hq",
        title="CelebA-HQ, 30,000 faces of 1024x1024 pixels, as JPEG files",
        licence="for research that is not commercial, under the agreement of CelebA",
        page="https://github.com/switchablenorms/CelebAMask-HQ",
        target="celebahq",
        disk=file.size,
        files=(file,),
        make=lambda files, target: unpack(files[file.name], target),
        flaw=lambda target: flaw(target, count, side),
    )


def unpack(path: Path, target: Path) -> None:
    """Writes the pictures of the archive, without the masks, into the new folder `target`."""
    target.mkdir()
    with archives.reading(path):
        for name, size, stream in archives.zip_members(path, MOST, MEMBERS):
            picture = PICTURE.fullmatch(name)
            if not picture:
                continue
            if size > LARGEST:
                raise UserError(f"{path}: {name} has {size:,} bytes; get the archive again")
            archives.write(stream, size, target / f"{int(picture[1]):05d}.jpg")


def flaw(target: Path, count: int, side: int) -> str:
    """What is wrong with a folder of the set, as the headers show it; "" if it is whole."""
    pictures = sorted(target.glob("*.jpg"))
    if len(pictures) != count:
        return f"it has {len(pictures):,} pictures and not {count:,}"
    for path in pictures:
        try:
            with Image.open(path, formats=("JPEG",)) as image:
                width, height = image.size
        except (OSError, SyntaxError, ValueError) as error:
            return f"its {path.name} cannot be read ({error})"
        if (width, height) != (side, side):
            return f"its {path.name} is {width}x{height} and not {side}x{side}"
    return ""
