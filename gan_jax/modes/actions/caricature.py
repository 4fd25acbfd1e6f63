"""Photos as caricatures, in several styles and scales of the warp."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gan_jax.core.console import ProgressBar
from gan_jax.data import preprocess
from gan_jax.data.inputs import Inputs
from gan_jax.data.sources import decode
from gan_jax.data.sources.listing import EXTENSIONS
from gan_jax.errors import ArgumentError, UserError, argument, within
from gan_jax.files import check_folder
from gan_jax.modes.actions.output import check_apart, save, save_png, save_sheet
from gan_jax.report import grids
from gan_jax.report.warp_overlay import overlay
from gan_jax.run.caricaturist import Painter
from gan_jax.run.faces import Faces
from gan_jax.run.model import Model, load

logger = logging.getLogger(__name__)

FRAMES = 7  # of the strip between the first style and the last
MANY = 20  # photos whose drawing may take long, so that a line is logged first
MOST_SHOWN = 16  # photos on the contact sheet
SIDES = 4  # height and width divide by it
LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Styles:
    """The styles and scales in which a photo is drawn.

    Attributes:
      num_styles: the number of random styles; their seeds are `style_seed`, `style_seed` + 1, …
      scale: factors of the displacements; 0 does not warp, negative ones warp the other way.
      style_from: an image whose style comes before the random ones; "" for none.
      style_seed: the seed of the first random style.
    """

    num_styles: int = 5
    scale: Sequence[float] = (1.0,)
    style_from: str = ""
    style_seed: int = 0


ONE_SCALE = Styles()


@dataclass(frozen=True)
class Alignment:
    """How faces of the model's size are cut out of photos.

    Attributes:
      landmarks, detector, faces: for photos that are not aligned, see `Faces`; the scale is the
        run's config.data.face_scale.
      free_size: whether aligned images may have other sizes than the model was trained on.
    """

    landmarks: str = ""
    detector: str = ""
    faces: str = "largest"
    free_size: bool = False


ALIGNED = Alignment()


def run(
    workdir: str | Path,
    source: str,
    out: str | Path,
    styles: Styles = ONE_SCALE,
    alignment: Alignment = ALIGNED,
    state: str = "newest",
) -> list[Path]:
    """Caricatures of an image, or of every image of a folder or zip; returns the files.

    Writes for each photo a folder of its name with style<i>_scale<s>.png, style<i>_texture.png (not
    warped), the same two for "reference" (the style of `style_from`), warped_scale<s>.png (the
    photo's own texture) and warp.json (points, displacements and λ). The folder sheets/ gets
    contact_sheet.png and for each photo a folder with overlay.png (control points and arrows for
    scale 1), sweep.png (a row for each style, a column for each scale) and styles.png (from the
    first style to the last).

    Raises UserError for images that are not aligned, unless `alignment` says how to align them.
    """
    out = Path(out)
    _check_numbers(styles)
    if not source:
        raise ArgumentError("source", " is missing: name an image, a folder or a .zip of images")
    check_apart(out, Path(source))
    check_folder(out)
    painter = Painter(load(workdir, state))
    photos = Photos(painter.model, alignment)
    codes, names = _codes(painter, photos, styles)
    files, rows = [], []
    # the contact sheet shows the scale nearest to 1
    best = int(np.argmin(np.abs(np.asarray(styles.scale) - 1)))
    with argument("source"):
        for name, photo in photos.read(source, "source"):
            drawing = Drawing(name, photo, painter.draw(photo, codes, styles.scale), codes)
            files += _write(out, painter, drawing, names, styles.scale)
            rows.append([photo, *drawing.made["image"][:, best]])
    files.append(_contact_sheet(out, rows, names))
    logger.info(
        f"{len(rows)} photos by step {painter.model.step}, each in {len(codes)} styles at "
        f"{len(styles.scale)} scales, in {out}"
    )
    return files


def _codes(painter: Painter, photos: "Photos", styles: Styles) -> tuple[np.ndarray, list[str]]:
    """The style codes [N, S], and their names."""
    first = styles.style_seed
    codes = painter.random_styles(range(first, first + styles.num_styles))
    names = [f"style {i}" for i in range(1, len(codes) + 1)]
    if styles.style_from:
        with argument("style_from"):
            shown = next(photos.read_aligned(styles.style_from, "style_from"))[1]
        codes = np.concatenate([painter.style_of(shown)[None], codes])
        names = ["reference", *names]
    return codes, names


def _contact_sheet(out: Path, rows: list[list[np.ndarray]], names: list[str]) -> Path:
    """A sheet of photos beside their styles; photos of another size than the first are left out."""
    alike = [row for row in rows if row[0].shape == rows[0][0].shape][:MOST_SHOWN]
    titles = ("photo", *names)
    sheet = grids.grid(
        np.concatenate([np.stack(row) for row in alike]), len(titles), column_titles=titles
    )
    return save_sheet(out, "contact_sheet.png", sheet)


class Drawing(NamedTuple):
    """One photo uint8 [H, W, C], the result of `Painter.draw` for it, and its styles [N, S]."""

    name: str
    photo: np.ndarray
    made: dict[str, np.ndarray]
    styles: np.ndarray


def _write(
    out: Path, painter: Painter, drawing: Drawing, names: list[str], scales: Sequence[float]
) -> list[Path]:
    """Writes the files of one photo and returns them."""
    sheets = _sheets(painter, drawing, scales)
    files = [save_sheet(out, f"{drawing.name}/{k}.png", sheet) for k, sheet in sheets.items()]
    folder, made = out / drawing.name, drawing.made
    for name, picture in _pictures(made, names, scales).items():
        files.append(folder / f"{name}.png")
        save_png(files[-1], picture)
    files.append(folder / "warp.json")
    moves = {name: made[name].tolist() for name in ("points", "displacements", "regularization")}
    size = list(drawing.photo.shape[:2])
    save(files[-1], (json.dumps({"size": size, **moves}) + "\n").encode())
    return files


def _pictures(made: dict, names: list[str], scales: Sequence[float]) -> dict[str, np.ndarray]:
    """The images of one photo by name."""
    pictures = {}
    for i, style in enumerate(name.replace(" ", "") for name in names):
        pictures[f"{style}_texture"] = made["texture"][i, 0]
        for scale, image in zip(scales, made["image"][i], strict=True):
            pictures[f"{style}_scale{scale:g}"] = image
    for scale, image in zip(scales, made["warped"][0], strict=True):
        pictures[f"warped_scale{scale:g}"] = image
    return pictures


def _sheets(painter: Painter, drawing: Drawing, scales: Sequence[float]) -> dict[str, np.ndarray]:
    """The sheets of one photo by name."""
    photo, made, styles = drawing.photo, drawing.made, drawing.styles
    titles = ("photo", *(f"scale {scale:g}" for scale in scales))
    rows = np.stack([np.stack([photo, *row]) for row in made["image"]])
    sheets = {
        "overlay": overlay(photo, made["points"], made["displacements"]),
        "sweep": grids.grid(rows.reshape(-1, *photo.shape), len(titles), column_titles=titles),
    }
    if len(styles) > 1:
        part = np.linspace(0, 1, FRAMES, dtype=np.float32)[:, None]
        between = painter.draw(photo, styles[:1] + part * (styles[-1:] - styles[:1]), (1.0,))
        sheets["styles"] = grids.grid(between["image"][:, 0], FRAMES)
    return sheets


class Photos:
    """Reads faces from images, in sizes that the model accepts, and prepares them as those on which
    the run was validated."""

    def __init__(self, model: Model, alignment: Alignment):
        """Raises UserError for an alignment that is not possible."""
        self.model, self.facts = model, model.experiment.facts
        self.free_size = alignment.free_size
        text = model.config.data.get("preprocess_validation", "")  # earlier runs lack it
        if self.free_size and text:
            raise ArgumentError(
                "free_size",
                f": this run's config.data.preprocess_validation={text!r} is for one size; leave "
                "free_size out",
            )
        self.steps = preprocess.parse(text)
        self.faces = None
        if alignment.landmarks or alignment.detector:
            # faces fill their crops as much as in the run's training images
            self.faces = Faces(
                alignment.landmarks, alignment.detector, alignment.faces, self.facts.resolution,
                model.config.data.face_scale,
            )  # fmt: skip

    def read(self, source: str, key: str) -> Iterator[tuple[str, np.ndarray]]:
        """(name, uint8 [H, W, C]) of the faces in an image, folder or zip; `key` is for errors."""
        if self.faces is None:
            yield from self.read_aligned(source, key)
            return
        for name, path, image in self._images(source, key):
            crops = self.faces.crops(decode.to_channels(image, 3), path)
            for i, crop in enumerate(crops):
                shown = f"{name}_{i + 1}" if len(crops) > 1 else name
                crop = decode.to_channels(crop, self.facts.channels)
                yield shown, preprocess.run_fixed(self.steps, crop)

    def read_aligned(self, source: str, key: str) -> Iterator[tuple[str, np.ndarray]]:
        """`read` for images that are aligned faces already."""
        for name, path, image in self._images(source, key):
            face = self._fitting(decode.to_channels(image, self.facts.channels), path, key)
            yield name, preprocess.run_fixed(self.steps, face)

    def _images(self, source: str, key: str) -> Iterator[tuple[str, str, np.ndarray]]:
        """(output name, name, image as it is) of every image of a source."""
        path = Path(source)
        if path.is_file() and path.suffix.lower().lstrip(".") in EXTENSIONS:
            try:
                bits = self.model.config.data.deep_bits
                yield path.stem, path.name, decode.decode(partial(path.open, "rb"), source, bits)
            except decode.UnreadableError as error:
                raise UserError(f"{key}: cannot read {error}; replace it") from error
            return
        channels = self.facts.channels
        inputs = Inputs(source, self.model.config.data, channels, channels, "single", key)
        if len(inputs) >= MANY:
            logger.info(f"drawing {len(inputs):,} photos by step {self.model.step}")
        with closing(ProgressBar(len(inputs), "photo")) as progress:
            for i, name in enumerate(inputs.names):
                yield name, *inputs.raw(i)
                progress(i + 1)  # whoever asks for the next one has drawn this one

    def _fitting(self, image: np.ndarray, name: str, key: str) -> np.ndarray:
        """The image itself if it has the model's size; with `free_size`, cut to sides that divide
        by 4. UserError for other sizes."""
        side = self.facts.resolution
        height, width = image.shape[:2]
        if self.free_size and self.model.config.model.warp_head == "pooled":
            top, left = height % SIDES // 2, width % SIDES // 2
            return image[top : top + height - height % SIDES, left : left + width - width % SIDES]
        if (height, width) == (side, side):
            return image
        if self.free_size:
            raise ArgumentError(
                "free_size",
                f": this model has config.model.warp_head='flat', for {side}x{side} pixels only; "
                "one with 'pooled' takes any size",
            )
        raise UserError(
            f"{key}: {name} is {width}x{height} and not an aligned face of {side}x{side} pixels: "
            "name landmarks or a detector that align it, or set free_size for aligned faces of any "
            "size"
        )


def _check_numbers(styles: Styles) -> None:
    """Raises ArgumentError for numbers that are not accepted."""
    count, seed = styles.num_styles, styles.style_seed
    if count < 0 or (not count and not styles.style_from):
        raise ArgumentError("num_styles", f"={count}: must be at least 1, or 0 with style_from")
    if not styles.scale or not all(np.isfinite(styles.scale)):
        raise ArgumentError("scale", ": give one or more numbers, such as 0, 0.5, 1 and 2")
    with argument("style_seed"):
        within("style_seed", seed, 0, LARGEST - count)
