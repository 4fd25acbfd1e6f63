"""Pictures of people whose colour says whom they show, and data made of them."""

from pathlib import Path

import numpy as np
from PIL import Image

from gan_jax import data
from tests.helpers.data_sections import Section, Stage
from tests.helpers.one_line import assert_refused

SIDE = 16
PHOTO, CARICATURE = 0, 1


STAGE = Stage()


def section(**options) -> Section:
    """Identities in folders, unless the options say otherwise."""
    usual = {"resolution": SIDE, "source": "folder", "pairs": "identities"}
    return Section(**{**usual, **options})


def make(folder="", **options):
    return data.make(section(path=str(folder), **options))


def refused(message: str, folder="", **options) -> str:
    return assert_refused(message, lambda: make(folder, **options))


def save(path: Path, person: int, kind: int, number: int, side: int = SIDE) -> None:
    """A picture whose colour says whom it shows, its kind and its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (20 * person + 5, 200 * kind + 5, 40 * number + 5)
    Image.fromarray(np.full((side, side, 3), colour, np.uint8)).save(path)


def told(pixels: np.ndarray) -> tuple[int, int, int]:
    """Person, kind, number of a picture."""
    colour = pixels.reshape(-1, 3).astype(int)
    assert (colour == colour[0]).all()
    return tuple(((colour[0] - 5) // (20, 200, 40)).tolist())


def web_caricature(folder: Path, people: int = 6, photos: int = 3, caricatures: int = 2) -> Path:
    for person in range(people):
        for kind, letter, count in ((PHOTO, "P", photos), (CARICATURE, "C", caricatures)):
            for k in range(count):
                save(folder / f"person_{person}/{letter}{k:05d}.png", person, kind, k)
    return folder


def two_folders(folder: Path, people: int = 6) -> Path:
    for person in range(people):
        save(folder / f"photos/person_{person}/a.png", person, PHOTO, 0)
        save(folder / f"caricatures/person_{person}/Photo of it.png", person, CARICATURE, 0)
    return folder


def rows(made, steps: int, first: int = 0) -> list[list[tuple]]:
    """Of each batch: (person, number of the photo, number of the caricature)."""
    found = []
    for _, batch in zip(range(steps), made("train", STAGE, first), strict=False):
        pairs = zip(batch["input"], batch["target"], strict=True)
        found.append([(told(a)[0], told(a)[2], told(b)[2]) for a, b in pairs])
    return found
