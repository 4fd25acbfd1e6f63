"""What may take long is said once, and shows how far it is; what does not, is not."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.data import progress
from gan_jax.data.config import Options
from gan_jax.data.inputs import Inputs


class Bars:
    """A factory of bars that remembers what they were told."""

    def __init__(self):
        self.told: dict[str, list[int]] = {}
        self.closed: list[str] = []

    def __call__(self, total: int, label: str):
        self.told[f"{total} {label}"] = told = []
        closed = self.closed

        class Bar:
            def __call__(self, done: int) -> None:
                told.append(done)

            def close(self) -> None:
                closed.append(label)

        return Bar()


@pytest.fixture
def slow(monkeypatch):
    """Everything takes long."""
    monkeypatch.setattr(progress, "LONG", 0.0)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(70):
        Image.fromarray(np.full((6, 6), 3 * i, np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def test_a_large_folder_shows_how_far_it_is(photos, slow, lines):
    bars = Bars()
    options = Options(source="folder", path=str(photos), resolution=6, validation_fraction=0.0)
    made = data.make(options, progress=bars)
    assert made.sizes["train"] == 70
    # 64 rows are a task of the threads
    assert bars.told["70 header"] == [64, 70]
    assert bars.told["70 image"] == [64, 70]
    assert bars.closed == ["header", "image"]
    assert "reading the headers of 70 images" in lines
    assert "reading 70 images into memory" in lines


def test_drawn_faces_are_drawn_with_a_bar(slow, lines):
    bars = Bars()
    drawn = dict(source="drawn_faces", identities=3, photos=1, caricatures=1, resolution=16)
    made = data.make(Options(**drawn), progress=bars)
    assert made.sizes == {"train": 6, "validation": 6}
    assert bars.told == {"6 face": [6]}
    assert lines == ["drawing 6 faces", "drawing 6 faces"]


def test_inputs_of_a_model_show_how_far_their_headers_are(photos, slow, lines):
    bars = Bars()
    assert len(Inputs(str(photos), Options(resolution=6), 1, 1, progress=bars)) == 70
    assert bars.told == {"70 header": [*range(1, 71)]}
    assert lines == ["reading the headers of 70 images"]


def test_what_is_soon_over_says_nothing(photos, lines):
    bars = Bars()
    data.make(Options(source="folder", path=str(photos), resolution=6), progress=bars)
    data.make(Options(source="digits", resolution=28), progress=bars)
    assert (bars.told, lines) == ({}, [])


def test_a_bar_ends_where_the_work_fails(lines):
    bars = Bars()
    work = progress.Work(1.0, "thing", "doing {} things")

    def fail():
        with progress.reported(work, 3000, bars) as done:
            done(5)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert (bars.told, bars.closed) == ({"3000 thing": [5]}, ["thing"])
    assert lines == ["doing 3,000 things"]
    with ThreadPoolExecutor(1) as pool:  # without a caller's bars nothing is shown
        pool.submit(progress.Silent(3, "thing"), 2).result()
