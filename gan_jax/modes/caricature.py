"""`--mode=caricature`: photos as caricatures, in several styles and scales of the warp."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import jax
import numpy as np

from gan_jax.data.inputs import Inputs
from gan_jax.data.sources import decode
from gan_jax.data.sources.listing import EXTENSIONS
from gan_jax.errors import UserError
from gan_jax.files import check_folder
from gan_jax.modes.output import check_apart, save, save_png, save_sheet
from gan_jax.ops import warping
from gan_jax.ops.images import to_uint8
from gan_jax.report import grids
from gan_jax.report.warp_overlay import overlay
from gan_jax.run.faces import Faces
from gan_jax.run.model import Model, load

FRAMES = 7  # of the strip between the first style and the last
MOST_SHOWN = 16  # photos on the contact sheet
SIDES = 4  # height and width divide by it
LARGEST = 2**31 - 1


class Painter:
    """A trained WarpGAN, as functions of uint8 images. Compiles once for each size and count."""

    def __init__(self, model: Model):
        """Raises UserError for a model of another system."""
        tasks = model.experiment.system.tasks
        if "caricature" not in tasks:
            raise UserError(
                f"--mode=caricature: needs a model of warpgan, and this is config.system="
                f"{model.config.system!r}"
            )
        self.model = model
        self._run = {
            name: jax.jit(
                tasks[name].run,
                static_argnums=3,
                compiler_options=model.experiment.system.sampling_options,
            )
            for name in ("caricature", "style", "random_style")
        }

    def _call(self, name: str, batch: dict) -> dict[str, np.ndarray]:
        # the key of Sampler: a seed means the same style here and in a grid
        state, stage = self.model.state, self.model.stage
        return jax.device_get(self._run[name](state, batch, jax.random.key(0), stage))

    def random_styles(self, seeds: Sequence[int]) -> np.ndarray:
        """Style codes [N, S] of seeds, each a function of its own."""
        return self._call("random_style", {"seed": np.asarray(seeds, np.int32)})["style"]

    def style_of(self, image: np.ndarray) -> np.ndarray:
        """The style code [S] of one image, uint8 [H, W, C]."""
        return self._call("style", {"input": image[None]})["style"][0]

    def draw(self, image: np.ndarray, styles: np.ndarray, scales: Sequence[float]) -> dict:
        """One photo uint8 [H, W, C] in every style [N, S] at every scale [M].

        Returns "image", "texture" and "warped" uint8 [N, M, H, W, C], "points" and "displacements"
        [P, 2] in pixels (y, x), the latter for scale 1, and "flow" [M, H, W, 2].
        """
        count, many = len(styles), len(scales)
        made = self._call(
            "caricature",
            {
                "input": np.repeat(image[None], count * many, axis=0),
                "style": np.repeat(styles, many, axis=0),
                "scale": np.tile(np.asarray(scales, np.float32), count),
            },
        )
        pictures = {
            name: np.asarray(to_uint8(made[name])).reshape(count, many, *image.shape)
            for name in ("image", "texture", "warped")
        }
        moved = {name: made[name][0] for name in ("points", "displacements")}
        return pictures | moved | {"flow": made["flow"][:many]}


def warp(
    image: np.ndarray, points: np.ndarray, displacements: np.ndarray, scale: float = 1.0
) -> np.ndarray:
    """Warps any image so that each control point moves by its displacement times `scale`.

    Args:
      image: uint8 [H, W, C].
      points, displacements: [P, 2], (y, x) in pixels.

    Returns: uint8 [H, W, C]. Raises ValueError for other shapes.
    """
    if np.ndim(image) != 3:
        raise ValueError(f"an image is [H, W, C], not {list(np.shape(image))}")
    if np.shape(points) != np.shape(displacements) or np.shape(points)[1:] != (2,):
        raise ValueError(
            f"points and displacements are [P, 2] both, not {list(np.shape(points))} and "
            f"{list(np.shape(displacements))}"
        )
    points, moves = (np.asarray(x, np.float32)[None] for x in (points, displacements))
    pixels = np.asarray(image, np.float32)[None]
    found, _ = warping.warp(pixels, points, points + np.float32(scale) * moves)
    return np.asarray(np.clip(np.round(found[0]), 0, 255), np.uint8)


def run(
    workdir: str | Path,
    source: str,
    out: str | Path,
    num_styles: int = 5,
    scales: Sequence[float] = (1.0,),
    style_from: str = "",
    seed: int = 0,
    landmarks: str = "",
    detector: str = "",
    faces: str = "largest",
    free_size: bool = False,
    which: str = "newest",
    say=print,
) -> list[Path]:
    """Caricatures of an image, or of every image of a folder or zip; returns the files.

    For each photo a folder of its name: style<i>_scale<s>.png, style<i>_texture.png (not warped),
    the same two of reference (the style of `style_from`), warped_scale<s>.png (the photo's own
    texture) and warp.json (points and displacements). In the folder sheets/ contact_sheet.png, and
    for each photo a folder with overlay.png (control points and arrows for scale 1), sweep.png (a
    row for each style, a column for each scale) and styles.png (from the first style to the last).

    Args:
      num_styles: random styles, of the seeds `seed`, `seed` + 1, …; style_from: an image whose
        style comes before them.
      scales: factors of the displacements; 0 does not warp, negative ones warp the other way.
      landmarks, detector, faces: for photos that are not aligned, as of --mode=align; the scale is
        the run's config.data.face_scale.
      free_size: aligned images of other sizes than the model was trained on, as they are.

    Raises UserError for images that are not aligned, unless one of these says what to do.
    """
    out = Path(out)
    _check_numbers(num_styles, scales, style_from, seed)
    if not source:
        raise UserError("--input is missing: --mode=caricature reads an image, a folder or a zip")
    check_apart(out, Path(source))
    check_folder(out)
    painter = Painter(load(workdir, which))
    aligner = None
    if landmarks or detector:
        size = painter.model.experiment.facts.resolution
        # as large in their crops as those of the run's training images
        aligner = Faces(landmarks, detector, faces, size, painter.model.config.data.face_scale)
    styles = painter.random_styles(range(seed, seed + num_styles))
    if style_from:
        shown = next(_images(style_from, "--style_from", painter.model, None, free_size))[1]
        styles = np.concatenate([painter.style_of(shown)[None], styles])
    names = _style_names(styles, style_from)
    files, rows = [], []
    for name, photo in _images(source, "--input", painter.model, aligner, free_size):
        made = painter.draw(photo, styles, scales)
        files += _write(out, name, painter, photo, made, styles, names, scales)
        # the scale nearest to 1 for the sheet of all
        best = int(np.argmin(np.abs(np.asarray(scales) - 1)))
        rows.append([photo, *made["image"][:, best]])
        say(f"{name}: {len(styles)} styles at {len(scales)} scales")
    alike = [row for row in rows if row[0].shape == rows[0][0].shape][:MOST_SHOWN]
    titles = ("photo", *names)
    sheet = grids.grid(
        np.concatenate([np.stack(r) for r in alike]), len(titles), column_titles=titles
    )
    files.append(save_sheet(out, "contact_sheet.png", sheet))
    say(f"{len(rows)} photos by step {painter.model.step} in {out}")
    return files


def _style_names(styles: np.ndarray, style_from: str) -> list[str]:
    own = ["reference"] if style_from else []
    return own + [f"style {i}" for i in range(1, len(styles) - len(own) + 1)]


def _write(
    out: Path, photo_name: str, painter: Painter, photo, made, styles, names, scales
) -> list[Path]:
    """The files of one photo."""
    pictures, sheets = {}, {}
    for i, style in enumerate(name.replace(" ", "") for name in names):
        pictures[f"{style}_texture"] = made["texture"][i, 0]
        for scale, image in zip(scales, made["image"][i], strict=True):
            pictures[f"{style}_scale{scale:g}"] = image
    for scale, image in zip(scales, made["warped"][0], strict=True):
        pictures[f"warped_scale{scale:g}"] = image
    sheets["overlay"] = overlay(photo, made["points"], made["displacements"])
    titles = ("photo", *(f"scale {scale:g}" for scale in scales))
    rows = np.stack([np.stack([photo, *row]) for row in made["image"]])
    sheets["sweep"] = grids.grid(rows.reshape(-1, *photo.shape), len(titles), column_titles=titles)
    if len(styles) > 1:
        part = np.linspace(0, 1, FRAMES, dtype=np.float32)[:, None]
        between = painter.draw(photo, styles[:1] + part * (styles[-1:] - styles[:1]), (1.0,))
        sheets["styles"] = grids.grid(between["image"][:, 0], FRAMES)
    folder = out / photo_name
    files = [save_sheet(out, f"{photo_name}/{name}.png", sheets[name]) for name in sheets]
    for name, picture in pictures.items():
        files.append(folder / f"{name}.png")
        save_png(files[-1], picture)
    files.append(folder / "warp.json")
    told = {name: made[name].tolist() for name in ("points", "displacements")}
    save(files[-1], (json.dumps({"size": list(photo.shape[:2]), **told}) + "\n").encode())
    return files


def _images(
    source: str, key: str, model: Model, aligner: Faces | None, free_size: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """(name, uint8 [H, W, C]) of the faces in an image, folder or zip."""
    channels = model.experiment.facts.channels
    for name, path, image in _read(source, key, model):
        pixels = decode.to_channels(image, 3 if aligner else channels)
        if aligner is None:
            yield name, _aligned(pixels, path, key, model, free_size)
            continue
        crops = aligner.crops(pixels, path)
        for i, crop in enumerate(crops):
            shown = f"{name}_{i + 1}" if len(crops) > 1 else name
            yield shown, decode.to_channels(crop, channels)


def _read(source: str, key: str, model: Model) -> Iterator[tuple[str, str, np.ndarray]]:
    """(output name, name, image as it is) of every image of a source."""
    path = Path(source)
    if path.is_file() and path.suffix.lower().lstrip(".") in EXTENSIONS:
        try:
            yield path.stem, path.name, decode.decode(partial(path.open, "rb"), source)
        except decode.UnreadableError as error:
            raise UserError(f"{key}: cannot read {error}; replace it") from error
        return
    facts = model.experiment.facts
    inputs = Inputs(source, model.config.data, facts.channels, facts.channels, "single", "--input")
    for i, name in enumerate(inputs.names):
        yield name, *inputs.raw(i)


def _aligned(image: np.ndarray, name: str, key: str, model: Model, free_size: bool) -> np.ndarray:
    """An image of the model's size, or with `free_size` of a size that divides by 4."""
    side = model.experiment.facts.resolution
    height, width = image.shape[:2]
    if free_size and model.config.model.warp_head == "pooled":
        top, left = height % SIDES // 2, width % SIDES // 2
        return image[top : top + height - height % SIDES, left : left + width - width % SIDES]
    if (height, width) == (side, side):
        return image
    if free_size:
        raise UserError(
            f"--free_size: this model has config.model.warp_head='flat', for {side}x{side} pixels "
            "only; one with 'pooled' takes any size"
        )
    raise UserError(
        f"{key}: {name} is {width}x{height} and not an aligned face of {side}x{side} pixels: name "
        "--landmarks or --detector to align it, or give --free_size for aligned faces of any size"
    )


def _check_numbers(num_styles: int, scales: Sequence[float], style_from: str, seed: int) -> None:
    if num_styles < 0 or (not num_styles and not style_from):
        raise UserError(f"--num_styles={num_styles}: at least 1, or 0 with --style_from")
    if not scales or not all(np.isfinite(scales)):
        raise UserError("--scale: give numbers separated by commas, such as 0,0.5,1,2")
    if not 0 <= seed <= LARGEST - num_styles:
        raise UserError(f"--seed={seed}: must lie from 0 to {LARGEST - num_styles}")
