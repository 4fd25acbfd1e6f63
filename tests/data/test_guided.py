"""Super-resolution's data: pairs made by block means, their classes, inputs from files and npz.

guided-diffusion's crops, file order, classes by prefix and conversion to uint8 are compared with
its own numbers in test_resize.py and test_images.py.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from gan_jax import config as configs
from gan_jax import data
from gan_jax.core.mesh import Mesh
from gan_jax.core.system import Stage, Task
from gan_jax.data import pairs, resize
from gan_jax.data.inputs import Inputs
from gan_jax.modes.actions import folder_task, model_choice
from gan_jax.report import grids
from gan_jax.run.experiment import Experiment
from tests.helpers.data_sections import Section
from tests.helpers.golden_rule import load
from tests.helpers.one_line import assert_refused, refused_argument
from tests.helpers.pictures import save, squares

SIDE, FACTOR = 16, 4
SMALL = SIDE // FACTOR


def section(**options) -> Section:
    """Pairs of squares and their block means; not typed, so that wrong types can be tried."""
    return Section(**{"resolution": SIDE, "pairs": "upscale", "resize": "crop", **options})


def make(**options):
    return data.make(section(**options))


def upscaling(labelled: bool, classes: int = 3, **options) -> Experiment:
    """A experiment with data and facts, and of a system only what sampling asks for."""
    experiment = Experiment.__new__(Experiment)
    experiment.config = configs.defaults("pix2pix")
    given = dict(source="synthetic", channels="rgb", synthetic_size=12, synthetic_classes=classes)
    given |= dict(resolution=SIDE, pairs="upscale", resize="none", validation_fraction=0.5)
    experiment.config.data.update(given | options)
    experiment.home, experiment.mesh = None, Mesh(1)
    experiment.facts = experiment._measured(experiment.data)
    task = Task(lambda *_: {}, "", reads="input")
    experiment.system = SimpleNamespace(
        stages=(Stage(SIDE, 5, 0, 1),), labelled=labelled, tasks={"upsample": task}
    )
    return experiment


# pairs


def test_block_mean_closed_forms():
    """Whole means are exact, halves go up, and nothing leaves 0..255."""
    x = np.uint8([[0, 1, 255, 255], [1, 0, 255, 255]])[..., None]
    np.testing.assert_array_equal(pairs.block_mean(x, 2)[..., 0], [[1, 255]])  # 0.5 → 1
    x = squares(2, 12, channels=1)
    for factor in (2, 3, 4, 6, 12):
        found = pairs.block_mean(x, factor)
        assert (found.shape, found.dtype) == ((2, 12 // factor, 12 // factor, 1), np.uint8)
        blocks = x.reshape(2, 12 // factor, factor, 12 // factor, factor, 1).astype(float)
        exact = blocks.mean(axis=(2, 4))
        np.testing.assert_array_equal(found, np.floor(exact + 0.5))
    np.testing.assert_array_equal(pairs.block_mean(grids.enlarged(x, 3), 3), x)


@pytest.mark.parametrize("factor", [2, 4])
def test_batches_of_upscaling(factor):
    """Input, target and label of either split; crops and flips are drawn before the mean."""
    made = make(
        source="synthetic", channels="rgb", resize="random_crop", flip=True, factor=factor,
        synthetic_size=8, synthetic_classes=3,
    )  # fmt: skip
    assert (made.input_channels, made.channels, made.num_classes) == (3, 3, 3)
    for split in ("train", "validation"):
        batch = next(iter(made(split, Stage(SIDE, 4, 0, 1), 0)))
        assert set(batch) - {"valid"} == {"input", "target", "label"}
        assert batch["target"].shape == (4, SIDE, SIDE, 3)
        assert batch["input"].dtype == batch["target"].dtype == np.uint8
        assert batch["label"].dtype == np.int32
        np.testing.assert_array_equal(batch["input"], pairs.block_mean(batch["target"], factor))
    small = SIDE // factor
    assert f"upscale from {small}x{small}, 3 classes" in made.description
    empty = made.rows("train", np.arange(0))
    assert empty["input"].shape == (0, small, small, 3)
    assert empty["label"].shape == (0,)


def test_targets_and_labels_are_those_of_single_images(tmp_path):
    """The names of guided-diffusion's golden listing: its order, its classes by prefix."""
    meta, arrays = load("guided_diffusion/data/listing")
    pictures = dict(zip(arrays["out/order"].tolist(), squares(7, 20), strict=True))
    for name in meta["options"]["created_files"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if not name.endswith("webp"):  # one more format that is read here
            (tmp_path / name).touch()
    for name, image in pictures.items():
        if not name.endswith("gif"):  # a palette of its own
            save(tmp_path / name, image)
    save(tmp_path / "zebra_x_9.gif", squares(1, 20)[0], "P")
    options = dict(source="folder", path=str(tmp_path), labels="prefix", validation_fraction=0.0)
    single = make(**options, pairs="none")
    made = make(**options)
    assert list(made.class_names) == list(single.class_names) == meta["result"]["class_names"]
    assert made.num_classes == 5
    plain, found = single.all("train"), made.all("train")
    np.testing.assert_array_equal(found["target"], plain["image"])
    np.testing.assert_array_equal(found["label"], plain["label"])
    # a folder comes in a fixed random order: put back, it is the reference's
    order = np.random.default_rng(0).permutation(7)
    back = np.empty(7, int)
    back[order] = found["label"]
    assert back.tolist() == arrays["out/classes"].tolist()


def test_without_labels_every_class_is_zero():
    made = make(source="synthetic", labels="none", synthetic_size=8)
    assert made.num_classes == 0
    assert made.all("train")["label"].tolist() == [0] * 8
    assert made.description.endswith("upscale from 4x4")


def test_other_pairs_are_as_they_were():
    """No labels, and a factor without upscale says nothing."""
    made = make(source="synthetic", pairs="inpaint", factor=5, synthetic_size=8)
    assert set(made.all("train")) == {"input", "target"}
    assert (made.num_classes, made.all("train")["input"].shape[1]) == (0, SIDE)
    assert make(source="synthetic", pairs="none", factor=-1).num_classes == 10


def test_what_upscaling_refuses():
    cases = [
        (dict(factor=5), ["config.data.factor=5", "config.data.resolution=16", "2, 4, 8, 16"]),
        (dict(factor=1), ["config.data.factor=1", "2 or more"]),
        (dict(factor=0), ["config.data.factor=0"]),
        (dict(resolution=1), ["raise the resolution"]),
        (dict(factor=2.0), ["config.data.factor=2.0", "int"]),
        (dict(direction="b_to_a"), ["config.data.direction=b_to_a"]),
        (dict(input_channels="grey"), ["config.data.input_channels=grey"]),
    ]
    for options, words in cases:
        message = assert_refused(None, make, source="synthetic", **options)
        for word in words:
            assert word in message, (word, message)


# inputs of a trained model


def test_inputs_from_a_folder(tmp_path):
    """Small ones as they are, others cropped to the input's side, large ones with their target."""
    images = {
        "a": squares(1, SMALL, 1)[0],
        "b": np.ascontiguousarray(squares(1, 12, 2)[0][:10]),  # 10 high, 12 wide
        "c": squares(1, SIDE, 3)[0],
        "d": squares(1, 50, 4)[0][:40],
        "e": squares(1, 3, 5)[0],
    }
    for name, image in images.items():
        save(tmp_path / f"{name}.png", np.ascontiguousarray(image))
    save(tmp_path / "f.png", images["c"], "L")
    inputs = Inputs(str(tmp_path), section(), 3, 3)
    assert inputs.names == list("abcdef")
    assert inputs.labels is None
    x, y = inputs.read(0)
    np.testing.assert_array_equal(x, images["a"])
    assert y is None
    for i, name in ((1, "b"), (4, "e")):
        x, y = inputs.read(i)
        np.testing.assert_array_equal(x, resize.center_crop(images[name], SMALL))
        assert y is None
    for i, name in ((2, "c"), (3, "d")):
        x, y = inputs.read(i)
        np.testing.assert_array_equal(y, resize.center_crop(images[name], SIDE))
        np.testing.assert_array_equal(x, pairs.block_mean(y, FACTOR))
    np.testing.assert_array_equal(inputs.read(2)[1], images["c"])
    x, y = inputs.read(5)
    assert (x.shape, y.shape) == ((SMALL, SMALL, 3), (SIDE, SIDE, 3))


def test_padding_is_of_targets_only(tmp_path):
    """What is padded in training counts as a target; what is small already is left alone."""
    save(tmp_path / "a.png", squares(1, SIDE - 4)[0])
    save(tmp_path / "b.png", squares(1, SMALL)[0])
    inputs = Inputs(str(tmp_path), section(pad=2), 3, 3)
    np.testing.assert_array_equal(inputs.read(0)[1][2:-2, 2:-2], squares(1, SIDE - 4)[0])
    np.testing.assert_array_equal(inputs.read(1)[0], squares(1, SMALL)[0])


def test_inputs_from_an_npz_of_samples(tmp_path):
    """As guided-diffusion writes them, in more than one chunk; with and without classes."""
    images, labels = squares(70, SMALL), np.arange(70, dtype=np.int64) % 4
    np.savez(tmp_path / "samples_70x4x4x3.npz", images, labels)
    inputs = Inputs(str(tmp_path / "samples_70x4x4x3.npz"), section(), 3, 3)
    assert len(inputs) == 70
    assert (inputs.names[0], inputs.names[69]) == ("000000", "000069")
    assert inputs.labels.dtype == np.int32
    np.testing.assert_array_equal(inputs.labels, labels)
    np.testing.assert_array_equal([inputs.read(i)[0] for i in range(70)], images)
    assert inputs.read(3)[1] is None
    np.savez(tmp_path / "large.npz", squares(2, SIDE + 4))
    large = Inputs(str(tmp_path / "large.npz"), section(), 3, 3)
    assert large.labels is None
    x, y = large.read(1)
    np.testing.assert_array_equal(y, resize.center_crop(squares(2, SIDE + 4)[1], SIDE))
    np.testing.assert_array_equal(x, pairs.block_mean(y, FACTOR))
    # models of other pairs read such a file too
    np.testing.assert_array_equal(
        Inputs(str(tmp_path / "large.npz"), section(pairs="inpaint"), 3, 3).read(1)[1],
        resize.center_crop(squares(2, SIDE + 4)[1], SIDE),
    )


def test_npz_files_that_hold_no_samples(tmp_path):
    np.savez(tmp_path / "moments.npz", mu=np.zeros(3))
    np.savez(tmp_path / "floats.npz", np.zeros((2, 4, 4, 3)))
    (tmp_path / "text.npz").write_text("no npz")
    cases = (("moments", "arr_0"), ("floats", "float64"), ("text", "npz"), ("none", "no such file"))
    for name, word in cases:
        file = str(tmp_path / f"{name}.npz")
        message = assert_refused(r"^input=.*\.npz", Inputs, file, section(), 3, 3)
        assert word in message


# what the rest of the program makes of it


def test_shapes_of_a_batch():
    made = upscaling(labelled=True).batch()
    shapes = {k: (v.shape, v.dtype.name) for k, v in made.items()}
    assert shapes == {
        "input": ((5, SMALL, SMALL, 3), "uint8"),
        "target": ((5, SIDE, SIDE, 3), "uint8"),
        "label": ((5,), "int32"),
    }
    other = upscaling(labelled=False, pairs="inpaint").batch()
    assert {k: v.shape for k, v in other.items()} == dict.fromkeys(
        ("input", "target"), (5, SIDE, SIDE, 3)
    )


def test_sampling_takes_the_classes_of_its_pairs_or_others():
    experiment = upscaling(labelled=True)
    assert experiment.facts.num_classes == 3
    held = experiment.data.all("validation")
    count = len(held["label"])
    made = experiment.sample_batch(range(count + 2))
    rows = np.arange(count + 2) % count
    for name in ("input", "target", "label"):
        np.testing.assert_array_equal(made[name], held[name][rows])
    chosen = experiment.sample_batch(range(3), (2, 0))
    assert chosen["label"].tolist() == [2, 0, 2]
    assert chosen["label"].dtype == np.int32
    np.testing.assert_array_equal(chosen["input"], made["input"][:3])
    unknown = "^: no class 3; accepted are 0 to 2"
    refused_argument("classes", unknown, experiment.sample_batch, [0], (0, 3))
    plain = upscaling(labelled=False)
    assert set(plain.sample_batch([0])) == {"seed", "input", "target"}
    refused_argument("classes", "trained without classes", plain.sample_batch, [0], (1,))
    inpainting = upscaling(labelled=False, pairs="inpaint")
    refused_argument("classes", "this model translates", inpainting.sample_batch, [0], (1,))


def test_small_inputs_in_a_grid():
    small, large = squares(2, SMALL), squares(2, SIDE, 1)
    found = grids.triples(small, large, large)
    assert found.shape == (6, SIDE, SIDE, 3)
    np.testing.assert_array_equal(found[0], grids.enlarged(small, FACTOR)[0])
    np.testing.assert_array_equal(found[1], large[0])
    np.testing.assert_array_equal(found[3], grids.enlarged(small, FACTOR)[1])
    np.testing.assert_array_equal(grids.triples(large, large, None)[::2], large)


@pytest.fixture
def model(monkeypatch):
    """Stands in for a trained model: enlarges its inputs, and keeps the batches it was given."""

    def opened(labelled: bool):
        experiment, seen = upscaling(labelled), []

        def images(step, batch, weights, chunk):
            seen.append(batch)
            return grids.enlarged(batch["input"], FACTOR)

        made = SimpleNamespace(
            experiment=experiment, config=experiment.config, step=1, images=images
        )
        monkeypatch.setattr(model_choice, "opened", lambda *given: made)
        return seen

    return opened


def test_upsampling_a_file_of_samples(model, tmp_path):
    """One PNG of the target's size each, the classes of the file or those asked for."""
    np.savez(tmp_path / "in.npz", squares(18, SMALL), np.arange(18) % 3)
    seen, out = model(labelled=True), tmp_path / "out"
    files = folder_task.run("upsample", str(tmp_path / "in.npz"), out)
    assert [f.name for f in files[:2]] == ["000000.png", "000001.png"]
    assert len(files) == 19
    np.testing.assert_array_equal(
        np.concatenate([batch["label"] for batch in seen]), np.arange(18) % 3
    )
    assert all(batch["label"].dtype == np.int32 for batch in seen)
    picture = np.asarray(Image.open(out / "000017.png"))
    np.testing.assert_array_equal(picture, grids.enlarged(squares(18, SMALL), FACTOR)[17])
    assert np.asarray(Image.open(out / "sheets/contact_sheet.png")).shape[1] == 2 * 3 * SIDE + 3 * 2
    del seen[:]
    folder_task.run(
        "upsample",
        str(tmp_path / "in.npz"),
        out,
        options=folder_task.Options(classes=(1, 2)),
    )
    assert seen[0]["label"].tolist() == [1, 2] * 8


def test_upsampling_a_folder_with_targets(model, tmp_path):
    for i in range(2):
        save(tmp_path / f"in/{i}.png", squares(2, SIDE)[i])
    seen, source = model(labelled=True), str(tmp_path / "in")
    run, out = folder_task.run, tmp_path / "out"
    refused_argument("classes", "^ is missing: .* 0 to 2", run, "upsample", source, out)
    assert not (tmp_path / "out").exists()
    folder_task.run("upsample", source, tmp_path / "out", options=folder_task.Options(classes=(2,)))
    assert seen[0]["label"].tolist() == [2, 2]
    scores = json.loads((tmp_path / "out/scores.json").read_text())
    assert scores["images"] == 2
    assert {"l1", "psnr", "ssim"} <= scores.keys()


def test_classes_of_a_task_are_checked(model, tmp_path):
    np.savez(tmp_path / "in.npz", squares(2, SMALL), np.array([0, 7]))
    seen, source = model(labelled=True), str(tmp_path / "in.npz")
    run, out = folder_task.run, tmp_path / "out"
    unknown = "^: arr_1: no class 7; accepted are 0 to 2"
    refused_argument("source", unknown, run, "upsample", source, out)
    chosen = folder_task.Options(classes=(3,))
    refused_argument("classes", "no class 3", run, "upsample", source, out, options=chosen)
    assert not seen
    seen = model(labelled=False)
    folder_task.run("upsample", source, tmp_path / "out")
    assert "label" not in seen[0]
    chosen = folder_task.Options(classes=(5,))
    without = "trained without classes"
    refused_argument("classes", without, run, "upsample", source, out, options=chosen)
