"""Faces are drawn once, and again where they might come out otherwise."""

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.data import kept_pictures
from gan_jax.data.array_cache import Kind
from gan_jax.data.drawn_faces import source as drawing
from gan_jax.data.drawn_faces.source import DrawnFaces
from gan_jax.data.pipeline import Data
from tests.helpers.data_sections import Section


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """The names of the pictures that were drawn; any number of them counts as many."""
    monkeypatch.setattr(kept_pictures, "LEAST", 1)
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))
    names, image = [], DrawnFaces.image

    def noted(source, i):
        names.append(source.name(i))
        return image(source, i)

    monkeypatch.setattr(DrawnFaces, "image", noted)
    return names


def faces(**options) -> Data:
    usual = dict(resolution=24, source="drawn_faces", channels="rgb", pairs="identities")
    usual |= dict(identities=3, validation_identities=2, photos=2, caricatures=2)
    return data.make(Section(**{**usual, **options}))


def pictures(made: Data) -> list[np.ndarray]:
    found = [made.rows(name, np.arange(size)) for name, size in made.sizes.items()]
    return [rows[key] for rows in found for key in ("input", "target")]


def assert_same(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("resize", ["none", "random_crop"])
def test_a_second_start_draws_nothing_and_has_the_same_pictures(drawn, resize):
    first = faces(resize=resize)
    assert len(drawn) == 12 + 8
    drawn.clear()
    again = faces(resize=resize)
    assert drawn == []
    assert_same(pictures(first), pictures(again))
    assert again.description == first.description


@pytest.mark.parametrize("change", [{"exaggeration": 0.5}, {"resolution": 26}, {"photos": 3}])
def test_other_pictures_are_drawn(drawn, change):
    faces()
    drawn.clear()
    other = faces(**change)
    assert len(drawn) == 20 + 5 * ("photos" in change)
    drawn.clear()
    assert_same(pictures(other), pictures(faces(**change)))
    assert drawn == []


def test_what_draws_is_part_of_the_recipe(drawn, monkeypatch, tmp_path):
    source = DrawnFaces(0, 3, 2, 2, 24)
    recipes = {source.recipe, source.after(1, 1).recipe, DrawnFaces(1, 3, 2, 2, 24).recipe}
    recipes.add(DrawnFaces(0, 3, 2, 2, 24, channels=1).recipe)
    monkeypatch.setattr("PIL.__version__", "0")
    recipes.add(source.recipe)
    monkeypatch.setattr(drawing, "CODE", "other")
    recipes.add(source.recipe)
    assert len(recipes) == 6
    monkeypatch.setattr(drawing, "CODE", drawing._digest(tmp_path))  # as in a zip
    assert kept_pictures.of(source) is None
    (tmp_path / "a.py").write_text("a")
    assert drawing._digest(tmp_path)


def test_code_that_changes_meanwhile_did_not_draw_what_is_kept(drawn, monkeypatch):
    source = DrawnFaces(0, 3, 2, 2, 24)
    kept = kept_pictures.of(source)
    for i in range(12):
        kept.image(i)
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "CODE", "other")
        kept.keep()
        assert not kept_pictures.of(source).found
    assert kept_pictures.of(source).found


def test_a_damaged_entry_is_drawn_again(drawn, tmp_path):
    first = faces()
    for entry in (tmp_path / "cache" / kept_pictures.KIND.folder).iterdir():
        content = bytearray(entry.read_bytes())
        content[len(content) // 2] ^= 1
        entry.write_bytes(content)
    drawn.clear()
    assert_same(pictures(first), pictures(faces()))
    assert len(drawn) == 20


def test_a_part_of_a_set_is_not_kept_but_found(drawn, tmp_path):
    part = dict(pairs="none", labels="auto", limit=5)
    for limit, entries in ((5, 1), (0, 2)):  # the validation images are all there
        faces(**{**part, "limit": limit})
        assert len(list((tmp_path / "cache" / kept_pictures.KIND.folder).iterdir())) == entries
    drawn.clear()
    faces(**part)
    assert drawn == []


def test_only_the_entries_used_last_are_kept(drawn, monkeypatch, tmp_path):
    monkeypatch.setattr(kept_pictures, "KIND", Kind("pictures", 2))
    for side in (20, 22, 24):
        faces(resolution=side)
    assert len(list((tmp_path / "cache" / "pictures").iterdir())) == 2


def test_few_pictures_and_too_many_bytes_are_not_kept(drawn, monkeypatch):
    source = DrawnFaces(0, 3, 2, 2, 24)
    assert kept_pictures.of(source) is not None
    monkeypatch.setattr(kept_pictures, "LARGEST", 12 * 24 * 24 * 3 - 1)
    assert kept_pictures.of(source) is None
    monkeypatch.undo()
    assert kept_pictures.of(source) is None
    assert kept_pictures.of(np.array([Image])) is None
