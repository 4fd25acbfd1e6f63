"""Photos and caricatures by person: folders, who is held out, how pairs are drawn."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.data import identity_lists
from tests.helpers.data_sections import Stage, joined, share
from tests.helpers.one_line import assert_refused
from tests.helpers.people import (
    CARICATURE,
    PHOTO,
    SIDE,
    STAGE,
    make,
    refused,
    rows,
    save,
    section,
    told,
    two_folders,
    web_caricature,
)

# folders


@pytest.mark.parametrize("layout", [web_caricature, two_folders])
def test_both_layouts_hold_out_people(tmp_path, layout):
    made = make(layout(tmp_path), validation_fraction=0.34)
    train, held_out = (set(made.identity_names[k]) for k in ("train", "validation"))
    assert len(train) == 4
    assert len(held_out) == 2
    assert not train & held_out
    batch = next(iter(made("train", STAGE, 0)))
    for photo, caricature, label in zip(
        batch["input"], batch["target"], batch["label"], strict=True
    ):
        person, kind, _ = told(photo)
        assert kind == PHOTO
        assert told(caricature)[:2] == (person, CARICATURE)
        assert made.identity_names["train"][label].endswith(f"person_{person}")


def test_a_zip_holds_people_too(tmp_path):
    for number, layout in enumerate((web_caricature, two_folders)):
        folder = layout(tmp_path / f"{number}")
        path = shutil.make_archive(str(tmp_path / f"faces_{number}"), "zip", folder)
        here, there = make(path), make(folder)
        assert here.identity_names == there.identity_names
        for split in here.sizes:
            for key, images in here.all(split).items():
                np.testing.assert_array_equal(images, there.all(split)[key])


def test_folders_say_who_is_held_out(tmp_path):
    web_caricature(tmp_path / "train", people=3)
    shutil.copytree(tmp_path / "train/person_0", tmp_path / "test/person_7")
    names = {"train": ("person_0", "person_1", "person_2"), "validation": ("person_7",)}
    assert make(tmp_path).identity_names == names
    apart = make(tmp_path / "train", validation_path=str(tmp_path / "test"))
    assert apart.identity_names == names
    shutil.copytree(tmp_path / "train/person_1", tmp_path / "test/person_1")
    refused("1 identities are both in training and in validation: person_1;", tmp_path)


def test_how_many_are_held_out(tmp_path):
    folder = web_caricature(tmp_path)
    every = {f"person_{person}" for person in range(6)}
    for fraction, count in ((0.0, 0), (0.01, 1), (0.5, 3), (0.99, 5)):
        made = make(folder, validation_fraction=fraction)
        train, held_out = (made.identity_names[k] for k in ("train", "validation"))
        assert len(held_out) == count
        assert {*train, *held_out} == every
        assert len(train) + len(held_out) == 6
    drawn = {make(folder, split_seed=seed).identity_names["validation"] for seed in range(8)}
    assert len(drawn) > 1
    some, more = (make(folder, limit=n).identity_names for n in (2, 4))
    assert len(some["train"]) == 2
    assert set(some["train"]) < set(more["train"])
    assert some["validation"] == more["validation"]


def test_whoever_lacks_a_kind_is_listed(tmp_path):
    folder = web_caricature(tmp_path, people=3)
    for path in folder.glob("person_1/C*"):
        path.unlink()
    for path in folder.glob("person_2/P*"):
        path.unlink()
    said = refused("2 of 3 identities lack a photo or a caricature", folder)
    assert "person_1 (no caricature), person_2 (no photo);" in said
    for person in range(12):
        save(folder / f"other_{person:02d}/P0.png", person, PHOTO, 0)
    said = refused("14 of 15 identities lack", folder)
    assert said.count("(no ") == 10
    assert "other_09 (no caricature), and 4 more;" in said


def test_names_that_say_no_kind_are_refused(tmp_path):
    folder = web_caricature(tmp_path / "one", people=2)
    save(folder / "person_0/holiday.png", 0, PHOTO, 0)
    said = refused(r"person_0/holiday\.png is neither a photo nor a caricature by name", folder)
    assert identity_lists.LAYOUTS in said
    save(folder / "person_1/p0.png", 0, PHOTO, 0)
    refused(r"person_0/holiday\.png and 1 more are neither", folder)
    folder = two_folders(tmp_path / "two")
    save(folder / "sketches/person_0/a.png", 0, PHOTO, 0)
    refused(r"sketches/person_0/a\.png is neither", folder)


@pytest.mark.parametrize(
    ("layout", "name"), [(web_caricature, "P1.png"), (two_folders, "photos/a.png")]
)
def test_files_in_no_folder_of_a_person_are_refused(tmp_path, layout, name):
    save(layout(tmp_path) / name, 0, PHOTO, 0)
    refused(f"{tmp_path}/{name}: lies in no folder of an identity", tmp_path)


def test_images_of_another_size_are_refused(tmp_path):
    folder = web_caricature(tmp_path, people=2)
    said = refused("is 16x16 .*, but config.data.resolution=24", folder, resolution=24)
    assert "the mode align makes aligned faces" in said
    save(folder / "person_0/P00000.png", 0, PHOTO, 0, side=24)
    said = refused("images of different sizes", folder)
    assert "person_0/P00000.png is 24x24" in said
    assert "the mode align makes aligned faces" in said
    assert make(folder, resize="squash").resolution == SIDE


def test_another_image_of_the_same_person_stands_in(tmp_path):
    folder = web_caricature(tmp_path, people=3)
    (folder / "person_1/P00001.png").write_bytes(b"no image")
    refused(r"cannot read .*person_1/P00001\.png", folder)
    made = make(folder, on_error="skip", validation_fraction=0.0)
    batches = zip(range(60), made("train", Stage(3), 0), strict=False)
    for _, batch in batches:
        people = [told(photo)[:2] for photo in batch["input"]]
        assert people == [(label, PHOTO) for label in batch["label"]]
    numbers = {told(photo)[2] for photo in batch["input"][batch["label"] == 1]}
    assert 1 not in numbers
    assert made.skipped == 1


def broken_person(folder: Path, split: str, kind: str, whole_header: bool) -> Path:
    """Three people; the second one's photos or caricatures cannot be read."""
    web_caricature(folder / split, people=3)
    for path in folder.glob(f"{split}/person_1/{kind}*"):
        data = path.read_bytes()
        path.write_bytes(data[:45] if whole_header else b"no image")
    return folder


@pytest.mark.parametrize("whole_header", [True, False])
@pytest.mark.parametrize(("kind", "what"), [("P", "photo"), ("C", "caricature")])
def test_whose_photos_or_caricatures_cannot_be_read_is_left_out(tmp_path, kind, what, whole_header):
    """In training and in validation, from memory and from files."""
    for split in ("train", "test"):
        folder = broken_person(tmp_path / split, split, kind, whole_header)
        other = {"train": "test", "test": "train"}[split]
        for person in (7, 8):
            for letter, number in (("P", PHOTO), ("C", CARICATURE)):
                save(folder / f"{other}/person_{person}/{letter}0.png", person, number, 0)
        refused(rf"cannot read .*person_1/{kind}0000.\.png", folder)
        for cache in (0, 100):
            made = make(folder, on_error="skip", cache_mb=cache)
            assert f"1 identity is left out (config.data.on_error=skip): person_1 (no {what} " in (
                made.description
            )
            part = "train" if split == "train" else "validation"
            assert made.identity_names[part] == ("person_0", "person_2")
            people = {told(image)[0] for image in made.all(part)["input"]}
            assert people == {0, 2}
            assert rows(made, 8)


def test_whoever_lacks_a_kind_is_left_out_when_asked(tmp_path):
    folder = web_caricature(tmp_path, people=3)
    for person in range(12):
        save(folder / f"other_{person:02d}/P0.png", person, PHOTO, 0)
    said = refused("12 of 15 identities lack a photo or a caricature", folder)
    assert "config.data.on_error=skip" in said
    made = make(folder, on_error="skip", validation_fraction=0.34)
    assert made.sizes == {"train": 2, "validation": 3}
    assert "2 train identities" in made.description
    assert "12 identities are left out" in made.description
    assert made.description.count("(no caricature)") == 10
    assert made.description.endswith(", and 2 more")
    for path in folder.glob("person_*/C*"):
        path.unlink()
    said = refused("none of 15 identities has a photo and a caricature", folder, on_error="skip")
    assert "and 5 more" in said


# classes of a classifier


def classes(folder: Path, **options) -> data.Data:
    return make(folder, pairs="none", **options)


@pytest.mark.parametrize("names", [("photos", "caricatures"), ("Photos", "CARICATURES")])
@pytest.mark.parametrize("labels", ["auto", "folder"])
def test_a_classifier_learns_the_people_of_either_layout(tmp_path, names, labels):
    two_folders(tmp_path / "two")
    for old, new in zip(("photos", "caricatures"), names, strict=True):
        (tmp_path / "two" / old).rename(tmp_path / "two" / new)
    made = classes(tmp_path / "two", labels=labels)
    assert made.class_names == tuple(f"person_{person}" for person in range(6))
    assert "6 classes (the folders below photos and caricatures)" in made.description
    batch = made.all("train")
    for image, label in zip(batch["image"], batch["label"], strict=True):
        assert told(image)[0] == label
    # the people of the pairs are those of the classes
    pairs = make(tmp_path / "two").identity_names
    assert {*pairs["train"], *pairs["validation"]} == {*made.class_names}
    made = classes(web_caricature(tmp_path / "one"), labels=labels)
    assert made.class_names == tuple(f"person_{person}" for person in range(6))
    assert "6 classes (sub-folders)" in made.description


def test_photos_and_caricatures_without_people_are_two_classes(tmp_path):
    for folder in ("photos", "caricatures"):
        for number in range(3):
            save(tmp_path / f"{folder}/{number}.png", 0, PHOTO, number)
    assert classes(tmp_path).class_names == ("caricatures", "photos")
    save(tmp_path / "photos/person_0/a.png", 0, PHOTO, 0)
    said = refused("lies in no folder of a person", tmp_path, pairs="none")
    assert "caricatures/0.png" in said
    save(tmp_path / "sketches/person_0/a.png", 0, PHOTO, 0)
    assert classes(tmp_path).class_names == ("caricatures", "photos", "sketches")


# pairs


def test_a_batch_is_no_larger_than_there_are_people(tmp_path):
    made = make(web_caricature(tmp_path), validation_fraction=0.5)
    said = assert_refused("has 3 training identities", made, "train", Stage(4), 0)
    assert "give more identities" in said


def test_a_batch_is_of_different_people_and_everybody_comes_once_an_epoch(tmp_path):
    """Trap 16: distinct identities, one photo and one caricature of each."""
    made = make(web_caricature(tmp_path), validation_fraction=0.0)
    seen = rows(made, 30)
    for batch in seen:
        assert len({person for person, _, _ in batch}) == 2
    for epoch in range(10):
        people = [p for batch in seen[3 * epoch : 3 * epoch + 3] for p, _, _ in batch]
        assert sorted(people) == list(range(6))
    drawn = {row for batch in seen for row in batch}
    assert len({(person, photo) for person, photo, _ in drawn}) == 18  # every photo was seen
    assert len({(person, caricature) for person, _, caricature in drawn}) == 12


def test_a_batch_is_a_function_of_seed_and_step(tmp_path):
    folder = web_caricature(tmp_path)
    seen = rows(make(folder), 8)
    assert rows(make(folder), 8) == seen
    assert rows(make(folder), 3, first=5) == seen[5:]
    other = data.make(section(path=str(folder)), seed=1)
    assert rows(other, 8) != seen
    threads = data.make(section(path=str(folder)), workers=3)
    assert rows(threads, 8) == seen
    assert rows(make(folder, cache_mb=0), 8) == seen
    later = [made("train", Stage(2, start=4), 4) for made in (make(folder), make(folder))]
    a, b, first = (next(iter(stream)) for stream in (*later, make(folder)("train", STAGE, 0)))
    np.testing.assert_array_equal(a["input"], b["input"])
    assert a["label"].tolist() != first["label"].tolist()


def test_processes_share_a_batch(tmp_path):
    """Whatever their number: the same rows, crops, flips and preprocessing."""
    drawn = dict(flip=True, resize="random_crop", preprocess_train="random_shift 3; random_flip")
    people = dict(identities=6, validation_identities=3, photos=2, caricatures=2)
    config = section(source="drawn_faces", channels="rgb", **people, **drawn)
    for split in ("train", "validation"):
        made = [data.make(config, share(*part)) for part in ((0, 1), (0, 2), (1, 2))]
        whole, *parts = (one(split, Stage(4), 0) for one in made)
        for _ in range(2):
            batch, *shares = (next(stream) for stream in (whole, *parts))
            for key, values in batch.items():
                np.testing.assert_array_equal(joined([part[key] for part in shares]), values)


def test_validation_is_every_photo_once_and_many_people_first(tmp_path):
    made = make(web_caricature(tmp_path), validation_fraction=0.5)
    batches = list(made("validation", STAGE, 0))
    people = [told(x)[0] for batch in batches for x in batch["input"]][:9]
    assert len(set(people[:3])) == 3
    assert people[:3] == people[3:6] == people[6:9]
    numbers = [told(x)[2] for batch in batches for x in batch["input"]][:9]
    assert numbers == [0] * 3 + [1] * 3 + [2] * 3
    valid = np.concatenate([batch["valid"] for batch in batches])
    assert valid.tolist() == [1] * 9 + [0]
    drawings = [told(x) for batch in batches for x in batch["target"]][:9]
    assert [person for person, _, _ in drawings] == people
    assert [k for _, _, k in drawings] == [0] * 3 + [1] * 3 + [0] * 3  # of two, from the first


@pytest.mark.parametrize("options", [{"preprocess_train": "random_flip"}, {"flip": True}])
def test_photo_and_caricature_are_flipped_each_by_itself(tmp_path, options):
    """As the original flips: independently."""
    for person in range(4):
        for letter in "PC":
            pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
            pixels[:, SIDE // 2 :] = 255
            path = tmp_path / f"person_{person}/{letter}0.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
    made = make(tmp_path, validation_fraction=0.25, **options)
    sides = {
        (bool(photo[0, 0, 0]), bool(caricature[0, 0, 0]))
        for _, batch in zip(range(20), made("train", STAGE, 0), strict=False)
        for photo, caricature in zip(batch["input"], batch["target"], strict=True)
    }
    assert len(sides) == 4
    held_out = made.all("validation")
    assert not held_out["input"][:, 0, 0].any()
    assert not held_out["target"][:, 0, 0].any()


def test_either_split_has_its_own_preprocessing(tmp_path):
    folder = web_caricature(tmp_path)
    frame = f"padding 2; resize {SIDE}"
    made = make(folder, preprocess_validation=frame, validation_fraction=0.5)
    assert not made.all("validation")["input"][:, 0].any()
    assert not made.all("validation")["target"][:, 0].any()
    assert made.all("validation")["input"][:, SIDE // 2].any()
    # without augmentation images of training are prepared as those of validation
    assert not made.examples("train", 3)["input"][:, 0].any()
    assert next(iter(made("train", STAGE, 0)))["input"][:, 0].any()


def test_grey_files_and_one_channel(tmp_path):
    folder = web_caricature(tmp_path)
    made = make(folder, channels="grey")
    assert (made.channels, made.input_channels) == (1, 1)
    assert made.examples("train", 2)["target"].shape == (2, SIDE, SIDE, 1)


def test_where_landmarks_lie_is_known_of_drawn_faces_only(tmp_path):
    made = make(web_caricature(tmp_path))
    said = assert_refused("where landmarks lie is not known", made.truth, "validation", [0])
    assert "config.data.source=drawn_faces" in said
    drawn = dict(source="drawn_faces", identities=1, validation_identities=1, photos=1)
    moved = data.make(section(preprocess_validation=f"resize {SIDE}", **drawn))
    assert_refused("moves the pixels away", moved.truth, "validation", np.arange(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(source="synthetic"), "needs config.data.source=folder or drawn_faces"),
        (dict(labels="folder"), "the classes of config.data.pairs=identities are"),
        (dict(direction="b_to_a"), "has photos as inputs and has no other direction"),
        (dict(input_channels="grey"), "config.data.input_channels=grey"),
        (dict(source="drawn_faces", train_list="x.txt"), "read with config.data.source=folder"),
        (dict(train_list="x.txt", validation_split="test"), "beside config.data.train_list"),
        (dict(pairs="none", preprocess_train="random_flip"), "config.data.preprocess_train"),
        (dict(preprocess_train="blur"), "config.data.preprocess_train: 'blur' is unknown"),
        (dict(preprocess_train="resize 8"), "config.data.preprocess_train='resize 8': makes"),
        (dict(validation_list="x.txt"), "needs config.data.train_list"),
        (dict(pairs="none", train_list="x.txt"), "config.data.train_list"),
        (dict(preprocess_validation="random_flip"), "is random"),
        (dict(pairs="none", face_scale=0.8), "config.data.face_scale=0.8 is read with config.data"),
        (dict(face_scale=0.0), "config.data.face_scale=0.0: accepted are numbers above 0, to 10"),
        (dict(face_scale=11.0), "config.data.face_scale=11.0: accepted are"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, message):
    refused(message, web_caricature(tmp_path, people=2), **options)
