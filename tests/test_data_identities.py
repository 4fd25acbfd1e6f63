"""Photos and caricatures by person: lists, folders, who is held out, how pairs are drawn."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan_jax import data
from gan_jax.data import face_lists
from gan_jax.errors import UserError

GOLDEN = Path(__file__).parent / "golden/warpgan/preprocess_lists.npz"
SIDE = 16
PHOTO, CARICATURE = 0, 1


class Stage:
    batch_size, start = 2, 0


class Config:
    def __init__(self, **options):
        usual = {"resolution": SIDE, "source": "folder", "pairs": "identities"}
        self.__dict__ |= {**data.defaults(), **usual, **options}


def make(folder="", **options):
    return data.make(Config(path=str(folder), **options))


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


# lists


@pytest.mark.parametrize("case", ["nolabel", "label"])
def test_lists_are_read_as_the_original_reads_them(case):
    with np.load(GOLDEN) as file:
        found = face_lists.parse_list(str(file[f"in/{case}_list"]), "list")
        np.testing.assert_array_equal(found.labels, file[f"out/{case}_labels"])
        np.testing.assert_array_equal(found.photos, file[f"out/{case}_is_photo"])
        assert found.num_classes == file[f"out/{case}_num_classes"]
    assert found.labelled == (case == "label")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/P1.png 0\na/C1.png zero\n", "line 2 is 'a/C1.png zero'"),
        ("a/P1.png 0\n\na/C1.png\n", "line 3 has no label and others have one"),
        ("a/P 1.png 0\n", "line 1 is 'a/P 1.png 0'"),
        ("\n \n", "holds no line"),
    ],
)
def test_lines_that_do_not_parse_are_named(text, message):
    with pytest.raises(UserError, match=message):
        face_lists.parse_list(text, "config.data.train_list=train.txt")


def test_lists_say_who_is_trained_on(tmp_path):
    folder = web_caricature(tmp_path / "faces")
    for name, people in (("train", (4, 0, 2)), ("test", (1, 5))):
        lines = [f"person_{p}/{f}.png" for p in people for f in ("P00000", "P00002", "C00001")]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    made = make(
        folder,
        train_list=str(tmp_path / "train.txt"),
        validation_list=str(tmp_path / "test.txt"),
    )
    assert made.sizes == {"train": 3, "validation": 4}
    assert made.identity_names == {
        "train": ("person_0", "person_2", "person_4"),
        "validation": ("person_1", "person_5"),
    }
    assert made.num_classes == 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["person_0/P00000.png", "person_0/P00009.png"], "line 2 names person_0/P00009.png, which"),
        (["person_0/P00000.png"] * 2, "lines 1 and 2 both name"),
        (["person_0/P00000.png", "person_0/P00001.png"], r"person_0 \(no caricature\)"),
    ],
)
def test_lists_that_do_not_fit_the_files(tmp_path, lines, message):
    folder = web_caricature(tmp_path / "faces", people=1)
    (tmp_path / "train.txt").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message) as caught:
        make(folder, train_list=str(tmp_path / "train.txt"))
    assert "train.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_somebody_in_both_lists_is_refused(tmp_path):
    folder = web_caricature(tmp_path / "faces", people=2)
    for name, people in (("train", (0, 1)), ("test", (1,))):
        lines = [f"person_{p}/{f}.png" for p in people for f in ("P00000", "C00000")]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    lists = {f"{k}_list": str(tmp_path / f"{n}.txt") for k, n in (("train", "train"),)}
    with pytest.raises(UserError, match="both in training and in validation: person_1"):
        make(folder, validation_list=str(tmp_path / "test.txt"), **lists)


# folders


@pytest.mark.parametrize("layout", [web_caricature, two_folders])
def test_both_layouts_hold_out_people(tmp_path, layout):
    made = make(layout(tmp_path), validation_fraction=0.34)
    train, held_out = (set(made.identity_names[k]) for k in ("train", "validation"))
    assert len(train) == 4
    assert len(held_out) == 2
    assert not train & held_out
    batch = next(iter(made("train", Stage, 0)))
    for photo, caricature, label in zip(
        batch["input"], batch["target"], batch["label"], strict=True
    ):
        person, kind, _ = told(photo)
        assert kind == PHOTO
        assert told(caricature)[:2] == (person, CARICATURE)
        assert made.identity_names["train"][label].endswith(f"person_{person}")


def test_whoever_lacks_a_kind_is_listed(tmp_path):
    folder = web_caricature(tmp_path, people=3)
    for path in folder.glob("person_1/C*"):
        path.unlink()
    for path in folder.glob("person_2/P*"):
        path.unlink()
    with pytest.raises(UserError) as caught:
        make(folder)
    text = str(caught.value)
    assert "2 of 3 identities lack" in text
    assert "person_1 (no caricature)" in text
    assert "person_2 (no photo)" in text
    assert "\n" not in text


def test_names_that_say_no_kind_are_refused(tmp_path):
    folder = web_caricature(tmp_path, people=2)
    save(folder / "person_0/holiday.png", 0, PHOTO, 0)
    with pytest.raises(UserError, match=r"person_0/holiday\.png is neither a photo nor"):
        make(folder)


def test_images_of_another_size_are_refused(tmp_path):
    folder = web_caricature(tmp_path)
    save(folder / "person_0/P00000.png", 0, PHOTO, 0, side=24)
    with pytest.raises(UserError) as caught:
        next(iter(make(folder)("train", Stage, 0)))
    assert "24" in str(caught.value)
    assert "\n" not in str(caught.value)


# pairs


def rows(made, steps: int, first: int = 0) -> list[list[tuple]]:
    """Of each batch: (person, number of the photo, number of the caricature)."""
    found = []
    for _, batch in zip(range(steps), made("train", Stage, first), strict=False):
        pairs = zip(batch["input"], batch["target"], strict=True)
        found.append([(told(a)[0], told(a)[2], told(b)[2]) for a, b in pairs])
    return found


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
    other = data.make(Config(path=str(folder)), seed=1)
    assert rows(other, 8) != seen


def test_validation_is_every_photo_once_and_many_people_first(tmp_path):
    made = make(web_caricature(tmp_path), validation_fraction=0.5)
    batches = list(made("validation", Stage, 0))
    people = [told(x)[0] for batch in batches for x in batch["input"]][:9]
    assert len(set(people[:3])) == 3
    assert people[:3] == people[3:6] == people[6:9]
    numbers = [told(x)[2] for batch in batches for x in batch["input"]][:9]
    assert numbers == [0] * 3 + [1] * 3 + [2] * 3


def test_photo_and_caricature_are_preprocessed_each_by_itself(tmp_path):
    """As the original flips: independently."""
    for person in range(4):
        for letter in "PC":
            pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
            pixels[:, SIDE // 2 :] = 255
            path = tmp_path / f"person_{person}/{letter}0.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
    made = make(tmp_path, preprocess_train="random_flip", validation_fraction=0.0)
    sides = {
        (bool(photo[0, 0, 0]), bool(caricature[0, 0, 0]))
        for _, batch in zip(range(20), made("train", Stage, 0), strict=False)
        for photo, caricature in zip(batch["input"], batch["target"], strict=True)
    }
    assert len(sides) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(source="synthetic"), "needs config.data.source=folder or drawn_faces"),
        (dict(labels="folder"), "the classes of config.data.pairs=identities are"),
        (dict(validation_list="x.txt"), "needs config.data.train_list"),
        (dict(pairs="none", train_list="x.txt"), "config.data.train_list"),
        (dict(preprocess_validation="random_flip"), "is random"),
        (dict(train_list="/no/such.txt"), "/no/such.txt: cannot be read"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        make(web_caricature(tmp_path, people=2), **options)
