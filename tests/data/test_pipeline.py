"""Batches: epochs, seeking, processes, padding, augmentation, memory."""

import itertools

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.errors import UserError
from tests.helpers.data_sections import Stage, joined, make, share, typed


def take(batches, count):
    return list(itertools.islice(batches, count))


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """An npz of 23 training and 10 validation images, 4x5x1, that carry their own number."""
    path = tmp_path_factory.mktemp("npz") / "numbered.npz"
    parts = {}
    for part, count, first in (("train", 23, 0), ("validation", 10, 100)):
        images = np.zeros((count, 4, 4), np.uint8)
        images[:, :, 0] = np.arange(first, first + count)[:, None]
        parts |= {f"x_{part}": images, f"y_{part}": np.arange(count) % 3}
    np.savez(path, **parts)
    return {"source": "npz", "path": str(path), "resolution": 4}


def numbers(batch):
    return batch["image"].max(axis=(1, 2, 3)).tolist()


def in_order(batches):
    return [number for batch in batches for number in numbers(batch)]


def test_digits_come_with_the_package():
    made = make()
    assert made.sizes == {"train": 10_000, "validation": 2_000}
    assert (made.channels, made.resolution, made.num_classes) == (1, 28, 10)
    assert made.class_names == tuple("0123456789")
    for split, each in (("train", 1_000), ("validation", 200)):
        everything = made.all(split)
        assert everything["image"].shape == (10 * each, 28, 28, 1)
        assert np.bincount(everything["label"]).tolist() == [each] * 10
    assert made.examples("train", 6)["label"].tolist() == [5, 0, 4, 1, 9, 2]  # MNIST's own order
    assert made.description == (
        "digits: 10,000 train + 2,000 validation images, 28x28 greyscale, 10 classes"
    )
    assert make(limit=100).sizes == {"train": 100, "validation": 2_000}


def test_batch_types(numbered):
    made = make(**numbered)
    batch = next(made("train", Stage(4), 0))
    assert {k: (v.dtype, v.shape) for k, v in batch.items()} == {
        "image": (np.uint8, (4, 4, 4, 1)),
        "label": (np.int32, (4,)),
    }


def test_an_epoch_shows_no_image_twice_and_the_next_is_in_another_order(numbered):
    made = make(**numbered)
    assert made.epoch_steps(Stage(5)) == 4
    batches = made("train", Stage(5), 0)
    epochs = [in_order(take(batches, 4)) for _ in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 20
        assert set(epoch) <= set(range(23))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert len({frozenset(epoch) for epoch in epochs}) > 1  # the remainder is another one


def test_images_keep_their_labels(numbered):
    for batch in take(make(**numbered)("train", Stage(5), 0), 8):
        assert batch["label"].tolist() == [n % 3 for n in numbers(batch)]


@pytest.mark.parametrize("changes", [{}, {"flip": True, "resize": "random_crop"}])
@pytest.mark.parametrize("workers", [0, 2])
def test_seeking_replays(numbered, changes, workers):
    made = data.make(typed(**numbered, **changes), workers=workers)
    straight = take(made("train", Stage(5, start=7), 7), 12)
    for k in (0, 3, 11):
        sought = next(made("train", Stage(5, start=7), 7 + k))
        assert same(sought, straight[k])
    again = take(make(**numbered, **changes)("train", Stage(5, start=7), 7), 12)
    assert all(map(same, again, straight))


def test_order_follows_the_seed_and_the_stage(numbered):
    first, other = (data.make(typed(**numbered), seed=s) for s in (0, -1))
    orders = [
        in_order(take(made("train", Stage(5, start), start), 4))
        for made, start in ((first, 0), (other, 0), (first, 4))
    ]
    assert orders[0] != orders[1] != orders[2] != orders[0]


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("changes", [{}, {"flip": True, "resize": "random_crop"}])
def test_processes_share_one_global_batch(numbered, count, changes):
    whole = make(**numbered, **changes)
    parts = [data.make(typed(**numbered, **changes), share(p, count)) for p in range(count)]
    for split in ("train", "validation"):
        batches = take(whole(split, Stage(8), 0), 5)
        shares = [take(part(split, Stage(8), 0), 5) for part in parts]
        for k, batch in enumerate(batches):
            own = [share[k] for share in shares]
            assert all(len(piece["label"]) == 8 // count for piece in own)
            assert same({key: joined([piece[key] for piece in own]) for key in batch}, batch)


def test_validation_shows_every_image_once_and_pads_from_the_first(numbered):
    made = make(**numbered, flip=True)
    batches = list(made("validation", Stage(4), 0))
    assert [numbers(batch) for batch in batches] == [
        [100, 101, 102, 103],
        [104, 105, 106, 107],
        [108, 109, 100, 101],
    ]
    valid = np.stack([batch["valid"] for batch in batches])
    assert valid.dtype == np.float32
    assert valid.tolist() == [[1] * 4, [1] * 4, [1, 1, 0, 0]]
    assert all(map(same, list(made("validation", Stage(4), 30)), batches))
    assert in_order(made("validation", Stage(16), 0)) == [*range(100, 110), *range(100, 106)]


def test_flips_half_of_the_training_images_and_nothing_else(numbered):
    made = make(**numbered, flip=True)
    images = np.concatenate([b["image"] for b in take(made("train", Stage(23), 0), 20)])
    images = images[images.any(axis=(1, 2, 3))]
    left, right = images[:, :, 0].any(axis=(1, 2)), images[:, :, -1].any(axis=(1, 2))
    assert not (left & right).any()
    assert 0.4 < right.mean() < 0.6  # 440 draws
    assert not made.all("train")["image"][:, :, -1].any()
    assert not made.all("validation")["image"][:, :, -1].any()


def test_fraction_splits_are_disjoint_and_follow_their_seed(numbered):
    cut = {**numbered, "validation_split": "fraction", "validation_fraction": 0.3}
    held_out = []
    for seed in (0, 0, 1):
        made = make(**cut, split_seed=seed)
        assert made.sizes == {"train": 16, "validation": 7}
        train, validation = numbers(made.all("train")), numbers(made.all("validation"))
        assert sorted(train + validation) == list(range(23))
        held_out.append(validation)
    assert held_out[0] == held_out[1]
    assert set(held_out[0]) != set(held_out[2])
    whole = make(**{**cut, "validation_fraction": 0.0})
    assert whole.sizes == {"train": 23, "validation": 0}
    assert list(whole("validation", Stage(4), 0)) == []
    assert whole.all("validation")["image"].shape == (0, 4, 4, 1)


def test_pad_comes_before_the_resolution_is_checked(numbered):
    made = make(**{**numbered, "resolution": 8}, pad=2, pad_value=7)
    image = made.examples("train", 1)["image"][0]
    assert image.shape == (8, 8, 1)
    assert (image[:2] == 7).all()
    assert (image[:, -2:] == 7).all()
    assert not image[2:6, 2:6].any()


def test_channels(numbered):
    rgb = make(**numbered, channels="rgb")
    grey = make(**numbered, channels="grey")
    assert (rgb.channels, grey.channels) == (3, 1)
    a, b = rgb.all("train")["image"], grey.all("train")["image"]
    np.testing.assert_array_equal(a, np.repeat(b, 3, axis=3))


def photos(folder, count):
    folder.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (20 + i, 24, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return {"source": "folder", "path": str(folder), "resolution": 8}


@pytest.mark.parametrize("mode", ["crop", "random_crop", "squash"])
def test_images_too_big_to_keep_are_the_same_ones(tmp_path, mode):
    folder = photos(tmp_path / "photos", 12)
    kept, read = (
        data.make(typed(**folder, resize=mode, flip=True, cache_mb=mb), workers=2) for mb in (64, 0)
    )
    for split in ("train", "validation"):
        for a, b in zip(
            take(kept(split, Stage(4), 0), 5), take(read(split, Stage(4), 0), 5), strict=True
        ):
            assert same(a, b)
        assert same(kept.all(split), read.all(split))


def test_random_crops_change_from_epoch_to_epoch_and_not_in_examples(tmp_path):
    made = make(**photos(tmp_path / "photos", 9), resize="random_crop")
    central = make(**photos(tmp_path / "more", 9), resize="crop")
    assert same(made.all("train"), central.all("train"))
    assert same(made.all("validation"), central.all("validation"))
    batches = take(made("train", Stage(8), 0), 3)  # all eight training images each time
    shown = [{image.tobytes() for image in batch["image"]} for batch in batches]
    assert len(shown[0] | shown[1] | shown[2]) > 16


def test_limits_of_batches(numbered):
    made = make(**numbered)
    with pytest.raises(UserError, match=r"23 training images .*data\.limit=0.* batch of 24"):
        made("train", Stage(24), 0)
    with pytest.raises(ValueError, match="before the stage's start"):
        made("train", Stage(4, start=3), 2)
    with pytest.raises(ValueError, match="split 'test'"):
        made("test", Stage(4), 0)
    assert len(made.examples("train", 99)["label"]) == 23
    assert len(made.all("train", limit=5)["label"]) == 5


def test_defaults_are_plain_and_new():
    section = data.defaults()
    assert all(type(value) in (str, int, float, bool, tuple) for value in section.values())
    section["source"] = "changed"
    assert data.defaults()["source"] == "digits"
