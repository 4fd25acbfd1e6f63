"""A recogniser that has seen the people it is shown is refused; what cannot be known is said."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from gan_jax.evaluation.recogniser import check_people
from tests.helpers.one_line import assert_refused
from tests.helpers.people import CARICATURE, PHOTO, make, save, section, two_folders, web_caricature

KEY = "config.quality.recogniser=runs/ids"


def recogniser(class_names=None, imported: bool = False, **options) -> SimpleNamespace:
    """As much of a classifier's run as is asked; a run of an earlier revision has no names."""
    facts = SimpleNamespace(train_size=0 if imported else 9)
    if class_names is not None:
        facts.class_names = class_names
    own = section(**{"pairs": "none", "labels": "folder", **options})
    return SimpleNamespace(
        config=SimpleNamespace(data=own), experiment=SimpleNamespace(facts=facts)
    )


def shown(folder: Path | str, **options) -> SimpleNamespace:
    made = make(folder, **options)
    own = section(path=str(folder), **options)
    return SimpleNamespace(config=SimpleNamespace(data=own), data=made)


def held_out(folder: Path, people: tuple[int, ...], layout: str = "web") -> Path:
    """`train` without these people and `test` with them."""
    for person in range(6):
        split = folder / ("test" if person in people else "train")
        for kind, letter in ((PHOTO, "P"), (CARICATURE, "C")):
            kinds = ("photos", "caricatures")
            name = f"person_{person}/{letter}0.png"
            save(split / (f"{kinds[kind]}/{name}" if layout == "plain" else name), person, kind, 0)
    return folder


@pytest.mark.parametrize("layout", ["web", "plain"])
@pytest.mark.parametrize("kept", [True, False])
def test_people_by_folder(tmp_path, layout, kept):
    """By the names that the run has kept, or by its data."""
    experiment = shown(held_out(tmp_path, (2, 4), layout))
    for part, names in (("train", (0, 1, 3, 5)), ("", range(6))):
        known = tuple(f"person_{person}" for person in names) if kept else None
        model = recogniser(known, path=str(tmp_path / part), validation_split="fraction")
        if part:
            assert check_people(model, experiment, "validation", KEY) == ""
        elif kept:
            said = assert_refused(
                "2 of the 2 people", check_people, model, experiment, "validation", KEY
            )
            assert said.startswith(f"{KEY} was trained on")
            assert "person_2, person_4;" in said
            assert "config.data.validation_path" in said
    seen = recogniser(path=str(tmp_path / "test"), validation_split="fraction")
    assert_refused("2 of the 2 people", check_people, seen, experiment, "validation", KEY)


def test_at_most_ten_are_named_and_spaces_are_those_of_align(tmp_path):
    web_caricature(tmp_path / "train", people=2)
    for person in range(12):
        for kind, letter in ((PHOTO, "P"), (CARICATURE, "C")):
            save(tmp_path / f"test/Ann_Lee_{person:02d}/{letter}0.png", person, kind, 0)
    known = tuple(f"Ann Lee {person:02d}" for person in range(12))
    said = assert_refused(
        "12 of the 12", check_people, recogniser(known), shown(tmp_path), "validation", KEY
    )
    assert said.count("Ann_Lee") == 10
    assert "and 2 more;" in said


def test_people_of_lists_by_the_folders_of_their_files(tmp_path):
    folder = web_caricature(tmp_path / "faces", people=4)
    names = ("P00000", "C00000")
    lines = [
        [f"person_{p}/{n}.png {p // 2}" for p in part for n in names] for part in ((0, 1), (2, 3))
    ]
    lists = {}
    for key, part in zip(("train_list", "validation_list"), lines, strict=True):
        lists[key] = str(tmp_path / key)
        Path(lists[key]).write_text("\n".join(part))
    experiment = shown(folder, **lists)
    assert experiment.data.identity_names["validation"] == ("label 1",)
    assert_refused(
        "label 1", check_people, recogniser(("person_3",)), experiment, "validation", KEY
    )
    assert check_people(recogniser(("person_0",)), experiment, "validation", KEY) == ""
    # two people of one folder
    lists["validation_list"] = str(tmp_path / "shared")
    shared = [f"person_3/{k}0000{i}.png {5 + i}" for i in range(2) for k in "PC"]
    Path(lists["validation_list"]).write_text("\n".join(shared))
    note = check_people(recogniser(("x",)), shown(folder, **lists), "validation", KEY)
    assert "label 5, label 6" in note


def test_drawn_people_by_number():
    drawn = dict(source="drawn_faces", photos=1, caricatures=1, resolution=16)
    experiment = shown("", **drawn, identities=4, validation_identities=3)
    for known, shared in ((4, 0), (5, 1), (9, 3)):
        model = recogniser(**drawn | {"labels": "auto"}, identities=known)
        if not shared:
            assert check_people(model, experiment, "validation", KEY) == ""
            continue
        said = assert_refused(
            f"{shared} of the 3 people", check_people, model, experiment, "validation", KEY
        )
        assert "0004" in said
        assert "config.data.identities=4" in said
    assert check_people(recogniser(source="synthetic"), experiment, "validation", KEY) == ""
    assert check_people(recogniser(("0004",)), experiment, "validation", KEY) == ""  # a folder


def test_what_cannot_be_known_is_said(tmp_path):
    experiment = shown(two_folders(tmp_path / "faces"), validation_fraction=0.4)
    for model, reason in (
        (recogniser(("a",), imported=True), "imported"),
        (recogniser(path=str(tmp_path / "gone")), "cannot be opened any more"),
        (recogniser(("0", "1", "2"), labels="json"), "its classes are numbers"),
    ):
        note = check_people(model, experiment, "validation", KEY)
        assert note.startswith(f"whether {KEY} was trained on people that rank1 is measured on")
        assert reason in note
        assert "\n" not in note
