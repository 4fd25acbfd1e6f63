"""Makes a folder of aligned faces from a folder of photographs."""

import io
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from gan_jax.core.console import ProgressBar
from gan_jax.data import alignment
from gan_jax.data.sources import decode, listing
from gan_jax.data.sources.folders import FileSource
from gan_jax.errors import ArgumentError, argument, within
from gan_jax.files import check_folder
from gan_jax.modes.actions import output
from gan_jax.run.faces import Detect, Faces, NoFaceError

logger = logging.getLogger(__name__)

LEFT_OUT = "not_aligned.txt"  # a line `path<tab>reason` for each image without a crop
QUALITY = 95  # of JPEG
MANY = 100  # images that may take long, so that a line is logged first
MOST_NAMED = 5  # images left out that are named on the console
MUCH = 0.1  # a larger share of pixels from outside their images is reported
TIGHTEST = 1.0  # the largest `face_scale` that is advised: above it the face itself is cut off

# where a crop lies: points [5, 2], and height and width of its image
Place = tuple[np.ndarray, int, int]


@dataclass
class Aligned:
    """The results so far.

    Attributes:
      made: for each file that was written, the name of the image that it was cut from.
      left_out: for each image without a crop, the reason.
      places: where each crop lies in its image.
    """

    made: dict[Path, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)


def run(
    source: str,
    out: str | Path,
    landmarks: str = "",
    detector: str | Detect = "",
    size: int = 256,
    face_scale: float = alignment.SCALE,
    faces: str = "largest",
    deep_bits: int = decode.DEEP_BITS,
) -> list[Path]:
    """Aligns the faces of every image of the folder or zip `source`; returns the files.

    Each image is written under its own path; spaces in the names of folders become underscores.
    .jpg and .jpeg are written as JPEG, all others as .png, and existing files are replaced.
    `faces="all"` writes several faces of one image as name_1, name_2, from large to small. An
    image without a face or a line in the landmarks file, or one that cannot be read, is left out
    and named on the console and in not_aligned.txt.

    `landmarks`, `detector`, `faces`, `size`, `face_scale`: see gan_jax.run.faces.Faces;
    `deep_bits` as config.data.deep_bits.

    If much of the crops lies outside their images, a note says how much, and how to reduce it.

    Raises UserError for wrong settings, for two images with the same output, for an output folder
    inside the input, and if none of the images could be aligned.
    """
    if not source:
        raise ArgumentError("source", " is missing: name a folder or a .zip of images")
    if not str(out):
        raise ArgumentError("out", " is missing: name a folder for the crops")
    with argument("source", "deep_bits"):
        within("deep_bits", deep_bits, 9, decode.DEEP_BITS)
        files = listing.open_files(source, "source")
        names = listing.image_names(files, "source")
    photos = FileSource(files, names, [0] * len(names), deep_bits)
    folder = Path(out)
    targets = _targets(names)
    _check_apart(folder, Path(source), targets.values())
    check_folder(folder)
    finder = Faces(landmarks, detector, faces, size, face_scale)
    _check_known(finder, names)
    if len(names) >= MANY:
        logger.info(f"looking for faces in {len(names):,} images")
    for line in photos.remarks("deep_bits"):
        logger.info(line)
    done = _align_all(finder, photos, targets, folder)
    _list(folder, done.left_out)
    if not done.made:
        name, reason = next(iter(done.left_out.items()))
        raise ArgumentError(
            "source",
            f"={source}: none of {len(names)} images could be aligned; the first, {name}: {reason}",
        )
    logger.info(_summary(finder, names, folder, done))
    for line in _scale_notes(done.places, finder.scale):
        logger.warning(line)
    return list(done.made)


def _align_all(
    faces: Faces, photos: FileSource, targets: dict[str, PurePosixPath], folder: Path
) -> Aligned:
    """Cuts the faces out of every image and writes them."""
    done, taken = Aligned(), set(targets.values())
    progress = ProgressBar(len(targets), "image")
    for number, (name, target) in enumerate(targets.items()):
        try:
            crops = _cut(faces, decode.to_channels(photos.image(number), 3), name)
        except (NoFaceError, decode.UnreadableError) as error:
            reason = str(error).removeprefix(f"{photos.files.root}/")
            done.left_out[name] = reason.removeprefix(f"{name}: ")
        else:
            for path, (crop, place) in zip(_numbered(target, len(crops)), crops, strict=True):
                if path != target and path in taken:
                    done.left_out[f"{name}, {path.stem}"] = f"{path} is the name of another image"
                    continue
                _save(folder / path, crop)
                done.made[folder / path] = name
                done.places.append(place)
        progress(number + 1)
    return done


def _cut(faces: Faces, image: np.ndarray, name: str) -> list[tuple[np.ndarray, Place]]:
    """The crops of an image, and where each lies. Raises NoFaceError."""
    found = faces.landmarks(image, name)
    return [(faces.crop(image, points), (points, *image.shape[:2])) for points in found]


def _targets(names: list[str]) -> dict[str, PurePosixPath]:
    """The output path of each image, below the output folder. UserError if two are the same."""
    found: dict[str, PurePosixPath] = {}
    origin: dict[PurePosixPath, str] = {}
    for name in names:
        path = PurePosixPath(alignment.key(name))
        if path.suffix.lower() not in (".jpg", ".jpeg", ".png"):
            path = path.with_suffix(".png")
        if path in origin:
            raise ArgumentError(
                "source",
                f": {origin[path]} and {name} would both be written as {path}; rename one",
            )
        found[name], origin[path] = path, name
    return found


def _numbered(target: PurePosixPath, count: int) -> list[PurePosixPath]:
    if count == 1:
        return [target]
    return [target.with_stem(f"{target.stem}_{i}") for i in range(1, count + 1)]


def _check_apart(out: Path, source: Path, targets: Iterable[PurePosixPath]) -> None:
    """Raises UserError if a file to write would lie among the files to read."""
    inner, outer = (Path(os.path.realpath(p)) for p in (source, out))
    if outer.is_relative_to(inner) or any((outer / t).is_relative_to(inner) for t in targets):
        raise ArgumentError(
            "out",
            f"={out} writes into {source}, whose images are read: name a folder outside it, so "
            "that no image is replaced",
        )


def _check_known(faces: Faces, names: list[str]) -> None:
    """Raises UserError if the file of landmarks has no line for any of the images."""
    if not any(faces.knows(name) for name in names):
        raise ArgumentError(
            "landmarks",
            f"={faces.file} has no line for any of {len(names)} images; a line begins with the "
            f"path of its image, such as {names[0]}, and the first one has "
            f"{next(iter(faces.known))}",
        )


def _save(path: Path, image: np.ndarray) -> None:
    data = io.BytesIO()
    if path.suffix.lower() == ".png":
        Image.fromarray(image).save(data, "PNG")
    else:
        Image.fromarray(image).save(data, "JPEG", quality=QUALITY, subsampling=0)
    output.save(path, data.getvalue())


def _list(folder: Path, left_out: dict[str, str]) -> None:
    """Writes the images left out with their reasons; if there are none, removes an old list."""
    path = folder / LEFT_OUT
    if left_out:
        lines = [f"{name}\t{reason}\n" for name, reason in left_out.items()]
        output.save(path, "".join(lines).encode("utf-8", "surrogateescape"))
    elif path.exists():
        path.unlink()


def _summary(faces: Faces, names: list[str], folder: Path, done: Aligned) -> str:
    """A summary in one line, or in two if images were left out."""
    aligned, crops, left_out = set(done.made.values()), len(done.made), done.left_out
    side = f"{faces.size}x{faces.size}"
    text = f"{len(aligned)} of {len(names)} images aligned, {crops} crops of {side} in {folder}"
    spare = len(faces.known.keys() - {alignment.key(name) for name in names})
    if spare:
        text += f"; {spare} lines of {faces.file} are about none of these images"
    if left_out:
        named = ", ".join([*left_out][:MOST_NAMED])
        more = f" and {len(left_out) - MOST_NAMED} more" if len(left_out) > MOST_NAMED else ""
        text += f"\n{len(left_out)} left out, reasons in {folder / LEFT_OUT}: {named}{more}"
    return text


def _scale_notes(places: list[Place], scale: float) -> list[str]:
    """Lines about the scale of the crops: the key that a run has to set, and what lies outside the
    images."""
    notes = []
    if scale != alignment.SCALE:
        notes.append(f"train with --config.data.face_scale={scale:g}, so that the run knows it")
    shares = [alignment.outside(*place, scale) for place in places]
    share = float(np.mean(shares))
    if share <= MUCH:
        return notes
    many = sum(s > MUCH for s in shares)
    text = (
        f"note: {share:.1%} of the pixels of {len(places)} crops lie outside their images and are "
        f"black, in {many} of the crops more than {MUCH:.0%}"
    )
    tighter, rest = scale, share
    while rest > MUCH and (following := round(tighter + 0.1, 1)) <= TIGHTEST:
        tighter = following
        rest = float(np.mean([alignment.outside(*place, tighter) for place in places]))
    if tighter > scale:
        text += f"; face_scale={tighter:g} cuts closer to the face and leaves {rest:.1%}"
    if rest > MUCH:
        text += "; images that show more around the faces have less of it"
    return [*notes, text]
