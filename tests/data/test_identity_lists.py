"""Lists of faces: what their lines say, and who is trained on."""

from pathlib import Path

import numpy as np
import pytest

from gan_jax.data import identity_lists
from tests.helpers.one_line import assert_refused
from tests.helpers.people import (
    CARICATURE,
    PHOTO,
    STAGE,
    make,
    refused,
    rows,
    save,
    told,
    two_folders,
    web_caricature,
)

GOLDEN = Path(__file__).parents[1] / "golden/warpgan/preprocess_lists.npz"


def write_lists(folder: Path, **lines: list[str]) -> dict[str, str]:
    """The options for lists with these lines."""
    for name, found in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(found) + "\n")
    return {f"{name}_list": str(folder / f"{name}.txt") for name in lines}


def labelled(*people: tuple[int, int], photo: int = 0) -> list[str]:
    """A photo and a caricature of each (number, label)."""
    files = (f"P{photo:05d}", "C00000")
    return [f"person_{person}/{f}.png {label}" for person, label in people for f in files]


@pytest.mark.parametrize("case", ["nolabel", "label"])
def test_lists_are_read_as_the_original_reads_them(case):
    with np.load(GOLDEN) as file:
        text = str(file[f"in/{case}_list"])
        found = identity_lists.parse_list(text, "list")
        np.testing.assert_array_equal(found.labels, file[f"out/{case}_labels"])
        np.testing.assert_array_equal(found.photos, file[f"out/{case}_is_photo"])
        assert found.num_classes == file[f"out/{case}_num_classes"]
    assert found.paths == tuple(line.split(" ")[0] for line in text.splitlines())
    assert found.lines == tuple(range(1, len(found.paths) + 1))
    assert found.labels.dtype == np.int32
    assert found.labelled == (case == "label")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/P1.png 0\na/C1.png zero\n", "line 2 is 'a/C1.png zero'"),
        ("a/P1.png 0\n\na/C1.png\n", "line 3 has no label and others have one"),
        ("a/P 1.png 0\n", "line 1 is 'a/P 1.png 0'"),
        ("a/P1.png -1\n", "line 1 is 'a/P1.png -1'"),
        ("a/P1.png 2147483648\n", "line 1 is"),
        ("a/P1.png 0 sketch\n", "line 1 is 'a/P1.png 0 sketch'"),
        ("a/P1.png photo 0\n", "line 1 is 'a/P1.png photo 0'"),
        ("a/1.png 0 photo\na/2.png 0\n", "line 2 has no kind .* and others have one"),
        ("a/1.png photo\na/2.png\n", "line 2 has no kind"),
        ("a/1.png 0 P\na/2.png C\n", "line 2 has no label"),
        ("\n \n", "holds no line"),
    ],
)
def test_lines_that_do_not_parse_are_named(text, message):
    where = "config.data.train_list=train.txt"
    said = assert_refused(message, identity_lists.parse_list, text, where)
    assert said.startswith(f"{where}: ")


@pytest.mark.parametrize("gap", [" ", "\t", "   ", ",", ", ", " , "])
@pytest.mark.parametrize("labels", [("7", "5"), ()])
@pytest.mark.parametrize("kinds", [("photo", "caricature"), ("Photo", "CARICATURE"), ("p", "C")])
def test_a_list_can_say_what_is_a_photo(gap, labels, kinds):
    """Whatever the names of the files say."""
    columns = zip(("a,b/C1.png", "x/P_2.png"), *([labels] if labels else []), kinds, strict=True)
    found = identity_lists.parse_list("\n".join(map(gap.join, columns)), "list")
    assert found.paths == ("a,b/C1.png", "x/P_2.png")
    assert found.told
    assert found.labelled == bool(labels)
    assert found.labels.tolist() == ([7, 5] if labels else [0, 1])
    assert found.photos.tolist() == [True, False]


def test_names_of_files_need_not_tell_where_the_list_does(tmp_path):
    folder = tmp_path / "faces"
    for person in range(3):
        save(folder / f"person_{person}/C is a photo.png".replace(" ", "_"), person, PHOTO, 0)
        save(folder / f"drawn/x{person}.png", person, CARICATURE, 0)
    train = [
        line
        for p in range(3)
        for line in (f"person_{p}/C_is_a_photo.png {p} photo", f"drawn/x{p}.png {p} caricature")
    ]
    made = make(folder, **write_lists(tmp_path, train=train), validation_fraction=0.0)
    assert {row for batch in rows(made, 9) for row in batch} == {(p, 0, 0) for p in range(3)}
    batch = made.all("train")
    assert [told(image)[:2] for image in batch["input"]] == [(p, PHOTO) for p in range(3)]
    assert [told(image)[:2] for image in batch["target"]] == [(p, CARICATURE) for p in range(3)]
    untold = [line.rpartition(" ")[0] for line in train]
    said = refused("neither a photo nor a caricature by name", folder, **write_lists(
        tmp_path, train=untold
    ))  # fmt: skip
    assert "at the end of every line of the list" in said


def test_a_list_may_not_contradict_the_folders(tmp_path):
    folder = two_folders(tmp_path / "faces", people=2)
    (folder / "photos").rename(folder / "Photos")
    drawn = "caricatures/person_{}/Photo of it.png"
    for person in range(2):
        (folder / drawn.format(person)).rename(folder / f"caricatures/person_{person}/b.png")
    lines = [
        line
        for p in range(2)
        for line in (f"Photos/person_{p}/a.png,{p},P", f"caricatures/person_{p}/b.png,{p},C")
    ]
    made = make(folder, **write_lists(tmp_path, train=lines), validation_fraction=0.0)
    assert made.identity_names["train"] == ("person_0", "person_1")
    lines[3] = lines[3].replace(",C", ",photo")
    said = refused("line 4 calls caricatures/person_1/b.png a photo", folder, **write_lists(
        tmp_path, train=lines
    ))  # fmt: skip
    assert "it lies in the folder of caricatures" in said


def test_lists_leave_out_whoever_lacks_a_kind_when_asked(tmp_path):
    folder = web_caricature(tmp_path / "faces", people=4)
    lines = labelled((0, 0), (1, 1), (2, 2), (3, 3))
    lists = write_lists(tmp_path, train=lines[:3], validation=lines[4:7])
    refused("1 of 2 identities lack a photo or a caricature", folder, **lists)
    made = make(folder, on_error="skip", **lists)
    assert made.identity_names == {"train": ("person_0",), "validation": ("person_2",)}
    assert made.description.endswith(
        "2 identities are left out (config.data.on_error=skip): person_1 (no caricature), "
        "person_3 (no caricature)"
    )


def test_lists_say_who_is_trained_on(tmp_path):
    folder = web_caricature(tmp_path / "faces")
    lines = [
        [f"person_{p}/{f}.png" for p in people for f in ("P00000", "P00002", "C00001")]
        for people in ((4, 0, 2), (1, 5))
    ]
    made = make(folder, **write_lists(tmp_path, train=lines[0], validation=lines[1]))
    assert made.sizes == {"train": 3, "validation": 4}
    assert made.identity_names == {
        "train": ("person_0", "person_2", "person_4"),
        "validation": ("person_1", "person_5"),
    }
    assert made.num_classes == 3
    assert {row for batch in rows(made, 20) for row in batch} == {
        (person, photo, 1) for person in (0, 2, 4) for photo in (0, 2)
    }


def test_labels_of_a_list_say_who_is_who(tmp_path):
    """They need not be dense, may join folders, and are told apart inside one."""
    folder = web_caricature(tmp_path / "faces")
    train = labelled((4, 7), (2, 3), (0, 7)) + ["person_1/P00000.png 5", "person_1/C00000.png 5"]
    train += ["person_1/P00001.png 9", "person_1/C00001.png 9"]
    made = make(folder, **write_lists(tmp_path, train=train), validation_fraction=0.0)
    assert made.identity_names["train"] == ("person_2", "label 5", "label 7", "label 9")
    batch = made.examples("train", 4)
    assert batch["label"].tolist() == [0, 1, 2, 3]
    assert batch["label"].dtype == np.int32
    seen = {
        (told(photo)[0], told(caricature)[0], label)
        for _, batch in zip(range(40), made("train", STAGE, 0), strict=False)
        for photo, caricature, label in zip(
            batch["input"], batch["target"], batch["label"].tolist(), strict=True
        )
    }
    assert seen == {(2, 2, 0), (1, 1, 1), (1, 1, 3)} | {(a, b, 2) for a in (0, 4) for b in (0, 4)}


def test_lists_of_other_systems_are_read(tmp_path):
    """Windows' line ends and mark, empty lines, spaces at the ends."""
    folder = web_caricature(tmp_path / "faces")
    text = "\ufeff" + "\r\n\r\n".join(f" {line}\t " for line in labelled((0, 0), (3, 1)))
    (tmp_path / "train.txt").write_bytes(text.encode())
    made = make(folder, train_list=str(tmp_path / "train.txt"), validation_fraction=0.0)
    assert made.identity_names["train"] == ("person_0", "person_3")


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
    said = refused(message, folder, **write_lists(tmp_path, train=lines))
    assert f"config.data.train_list={tmp_path / 'train.txt'}: " in said


def test_files_of_lists_that_cannot_be_read(tmp_path):
    folder = web_caricature(tmp_path / "faces", people=2)
    absent, binary = tmp_path / "absent.txt", tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x80")
    for path in (absent, binary, tmp_path):
        message = f"config.data.train_list={path}: cannot be read"
        refused(message, folder, train_list=str(path))


def test_a_file_in_no_folder_needs_a_label(tmp_path):
    for person in range(2):
        for kind, letter in ((PHOTO, "P"), (CARICATURE, "C")):
            save(tmp_path / f"faces/{letter}{person}.png", person, kind, 0)
    lines = ["P0.png", "C0.png"]
    message = "line 1 has no label, and P0.png lies in no folder"
    refused(message, tmp_path / "faces", **write_lists(tmp_path, train=lines))
    lists = write_lists(
        tmp_path, train=["P0.png 0", "C0.png 0"], validation=["P1.png 1", "C1.png 1"]
    )
    made = make(tmp_path / "faces", **lists)
    assert made.identity_names == {"train": ("label 0",), "validation": ("label 1",)}
    lists = write_lists(
        tmp_path, train=["P0.png 0", "C0.png 0"], validation=["P1.png 0", "C1.png 0"]
    )
    refused("both in training and in validation: label 0", tmp_path / "faces", **lists)
    # one file under two numbers
    lists = write_lists(
        tmp_path, train=["P0.png 0", "C0.png 0"], validation=["P0.png 1", "C1.png 1"]
    )
    refused("both in training and in validation: label 1", tmp_path / "faces", **lists)


@pytest.mark.parametrize(
    ("train", "validation", "who"),
    [
        ([(0, 0), (1, 1)], [(1, 1)], "person_1"),
        ([(0, 0), (1, 1)], [(1, 5)], "person_1"),  # the folder counts, not the number
        ([(0, 0), (1, 0)], [(1, 5), (2, 6)], "person_1"),  # who was joined with another
        ([(1, 0)], [(1, 3), (2, 3)], "label 3"),
    ],
)
@pytest.mark.parametrize("photo", [0, 1])
def test_somebody_in_both_lists_is_refused(tmp_path, train, validation, who, photo):
    """With the same photo, or with another one of the same folder."""
    folder = web_caricature(tmp_path / "faces", people=3)
    lists = write_lists(
        tmp_path, train=labelled(*train), validation=labelled(*validation, photo=photo)
    )
    message = f"1 identities are both in training and in validation: {who};"
    refused(message, folder, **lists)


@pytest.mark.parametrize("second", [1, 0])
def test_each_list_may_count_from_zero(tmp_path, second):
    """Of different folders, each a person or two of them joined."""
    folder = web_caricature(tmp_path / "faces")
    train, validation = labelled((0, 0), (1, second)), labelled((2, 0), (3, second))
    made = make(folder, **write_lists(tmp_path, train=train, validation=validation))
    assert made.sizes == {"train": 1 + second, "validation": 2}
    people = [{told(x)[0] for x in made.all(split)["input"]} for split in made.sizes]
    assert people[1] == {2, 3}
