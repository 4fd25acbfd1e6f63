"""Whether a recogniser knows the people whom it is to judge: the metric rank1 wants strangers."""

from collections.abc import Iterable

from gan_jax import data
from gan_jax.data.sources import listing
from gan_jax.errors import UserError
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model

NOBODY = ("synthetic", "digits")  # sources that show no people


def check(model: Model, experiment: Experiment, split: str, key: str) -> str:
    """Compares the people that `model` was trained on with those of a split, by name.

    Folders are compared by their own names, without those around them; drawn people by number.

    Args:
      model: a classifier of people.
      experiment: of the run whose people of `split` are judged.
      key: what named the model, for messages.

    Returns a line on people who could not be compared, "" where all were. Raises UserError, naming
    them, for people whom the model was trained on.
    """
    judged, trained = experiment.config.data.source, model.config.data.source
    if trained in NOBODY or ("drawn_faces" in (judged, trained) and judged != trained):
        return ""
    names, reason = _known(model)
    examples = zip(
        experiment.data.identity_names[split], experiment.data.identity_marks[split], strict=True
    )
    people = {name: _folders(name, marks) for name, marks in examples}
    seen = {_last(name) for name in names}
    shared = [name for name, folders in people.items() if folders & seen]
    if shared:
        raise UserError(
            f"{key} was trained on {len(shared)} of the {len(people)} people of {split} that the "
            f"metric rank1 judges: {listing.some(shared)}; {_advice(experiment)}"
        )
    if not reason and not all(people.values()):
        unknown = [name for name, folders in people.items() if not folders]
        reason = f"no folder of their own tells who {listing.some(unknown)} are"
    if not reason:
        return ""
    return f"whether {key} was trained on people that rank1 judges could not be checked: {reason}"


def _known(model: Model) -> tuple[tuple[str, ...], str]:
    """(names of the people that a classifier was trained on, () and why where they are unknown)."""
    section, facts = model.config.data, model.experiment.facts
    if not facts.train_size:
        return (), "that run was imported, and its file names nobody"
    names = tuple(getattr(facts, "class_names", ()))
    if not names:
        try:
            names = data.class_names(section)
        except (UserError, OSError) as error:
            return (), f"its data cannot be opened any more ({error})"
    if listing.only_count(names) and not (
        section.source == "folder" and section.labels == "folder"
    ):
        return (), "its classes are numbers"
    return names, ""


def _folders(name: str, marks: Iterable[str]) -> set[str]:
    """By which names of folders a person may be known elsewhere; none of a mere number's."""
    listed = any(mark.startswith("file ") for mark in marks)  # of a list: files, folders, labels
    found = {mark.removeprefix("folder ") for mark in marks if mark.startswith("folder ")}
    return {_last(folder) for folder in (found if listed else {name})}


def _last(folder: str) -> str:
    """The folder's own name, as --mode=align writes it."""
    return folder.rpartition("/")[2].replace(" ", "_")


def _advice(experiment: Experiment) -> str:
    section = experiment.config.data
    if section.source == "drawn_faces":
        return (
            f"train the recogniser with config.data.identities={section.identities}, as this run, "
            "or fewer"
        )
    return (
        "train the recogniser on others: put those who are held out into a folder of their own, "
        "name it in this run's config.data.validation_path, and leave it out of the recogniser's "
        "config.data.path"
    )
