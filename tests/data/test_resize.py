"""Crops, resizes and file order against numbers of the original implementations."""

import numpy as np
import pytest

from gan_jax.data import resize
from gan_jax.data.sources import listing
from tests.helpers.golden_rule import load


def test_center_crop_equals_the_reference():
    meta, arrays = load("guided_diffusion/data/crops")
    for case in meta["options"]["cases"]:
        j, size = case["index"], case["image_size"]
        cropped = resize.center_crop(arrays[f"in/img_{j}"], size)
        np.testing.assert_array_equal(cropped, arrays[f"out/center_{j}"])


def test_random_crop_equals_the_reference_at_its_draws():
    meta, arrays = load("guided_diffusion/data/crops")
    for case in meta["options"]["cases"]:
        for draw in case["random"]:
            expected = arrays[f"out/random_{case['index']}_seed{draw['python_seed']}"]
            at = [draw[key] for key in ("smaller_dim_size", "crop_y", "crop_x")]
            image = arrays[f"in/img_{case['index']}"]
            cropped = resize.random_crop_at(image, case["image_size"], *at)
            np.testing.assert_array_equal(cropped, expected)


def test_random_crop_draws_from_the_whole_range_and_nowhere_else(monkeypatch):
    meta, arrays = load("guided_diffusion/data/crops")
    case = meta["options"]["cases"][0]
    low, high = case["random"][0]["smaller_dim_range"]
    drawn = []

    def record(image, size, smaller_dim_size, crop_y, crop_x):
        scaled = resize._scaled_shape(*image.shape[:2], smaller_dim_size)
        drawn.append((smaller_dim_size, crop_y / (scaled[0] - size or 1)))
        assert 0 <= crop_y <= scaled[0] - size
        assert 0 <= crop_x <= scaled[1] - size

    monkeypatch.setattr(resize, "random_crop_at", record)
    rng = np.random.default_rng(0)
    for _ in range(200):
        resize.random_crop(arrays["in/img_0"], case["image_size"], rng)
    assert {size for size, _ in drawn} == set(range(low, high))
    assert {0.0, 1.0} <= {place for _, place in drawn}


def test_random_crop_has_the_size_asked_for():
    image = np.random.default_rng(0).integers(0, 256, (21, 34, 1), np.uint8)
    for seed in range(20):
        assert resize.random_crop(image, 16, np.random.default_rng(seed)).shape == (16, 16, 1)


@pytest.mark.parametrize("name", ["bicubic", "bilinear", "lanczos", "box"])
def test_float_resize_equals_the_reference(name):
    meta, arrays = load("resize/clean_pil")
    for case in meta["options"]["cases"]:
        j = case["index"]
        resized = resize.resize_float(arrays[f"in/img_{j}"], *case["out_hw"], name)
        assert resized.dtype == np.float32
        assert resized.shape == (*case["out_hw"], 3)
        if case["stored"] != "all":
            resized = resized[::13, ::13]
        np.testing.assert_allclose(resized, arrays[f"out/{name}_{j}"], rtol=1e-6, atol=1e-3)


def test_uint8_resize_equals_the_reference():
    meta, arrays = load("resize/clean_pil")
    for case in meta["options"]["cases"]:
        j = case["index"]
        resized = resize.resize_uint8(arrays[f"in/img_{j}"], *case["out_hw"], "bicubic")
        if case["stored"] != "all":
            resized = resized[::13, ::13]
        np.testing.assert_array_equal(resized, arrays[f"out/bicubic_uint8_{j}"])


def test_listing_and_prefix_classes_equal_the_reference(tmp_path):
    meta, arrays = load("guided_diffusion/data/listing")
    for name in meta["options"]["created_files"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = listing.Directory(tmp_path)
    names = listing.image_names(files)
    # the reference reads four formats: webp is one more of ours
    names.remove("e.webp")
    labels, class_names, _ = listing.classes([(files, names)], "prefix")
    assert names == arrays["out/order"].tolist()
    assert labels == [arrays["out/classes"].tolist()]
    assert list(class_names) == meta["result"]["class_names"]
