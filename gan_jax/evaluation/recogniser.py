"""The recogniser of the metric rank1, which must not know the people of the validation split."""

from collections.abc import Iterable

from gan_jax import data
from gan_jax.data.sources import listing
from gan_jax.errors import UserError
from gan_jax.evaluation import networks
from gan_jax.metrics import features
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model, load

NOBODY = ("synthetic", "digits")  # sources that show no people


def open_recogniser(experiment: Experiment, split: str) -> tuple[features.Network, str]:
    """(the identity classifier of config.quality.recogniser, a remark).

    The classifier's "features" are embeddings. The remark is about people of the split on whom it
    may have been trained, or "". Raises UserError for a run that is no classifier, has images of
    another size, or was trained on people of the split.
    """
    key = f"config.quality.recogniser={experiment.config.quality.recogniser}"
    model = load(experiment.config.quality.recogniser)
    if "features" not in model.experiment.system.tasks:
        raise UserError(f"{key}: that run is not a classifier's (configs/identity_drawn.py)")
    found, wanted = model.experiment.facts, experiment.facts
    if found[:2] != wanted[:2]:
        raise UserError(
            f"{key} was trained on {found.resolution} px, {found.channels} channels; this run has "
            f"{wanted.resolution}, {wanted.channels}"
        )
    note = check_people(model, experiment, split, key)
    return networks.of_classifier(model), note


def check_people(model: Model, experiment: Experiment, split: str, key: str) -> str:
    """Compares the people on whom `model` was trained with those of a split, by name.

    Folders are compared by their own names, without the folders around them; drawn people by
    number.

    Args:
      model: a classifier of people.
      experiment: that of the run whose people of `split` are to be recognised.
      key: the key that named the model, for messages.

    Returns a line about people who could not be compared, "" if all could. Raises a UserError that
    names the people of the split on whom the model was trained, if there are any.
    """
    shown, trained = experiment.config.data.source, model.config.data.source
    if trained in NOBODY or ("drawn_faces" in (shown, trained) and shown != trained):
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
            f"metric rank1 is measured on: {listing.some(shared)}; {_advice(experiment)}"
        )
    if not reason and not all(people.values()):
        unknown = [name for name, folders in people.items() if not folders]
        reason = f"no folder of their own tells who {listing.some(unknown)} are"
    if not reason:
        return ""
    return (
        f"whether {key} was trained on people that rank1 is measured on could not be checked: "
        f"{reason}"
    )


def _known(model: Model) -> tuple[tuple[str, ...], str]:
    """(names of the people on whom a classifier was trained, ""), or ((), why they are unknown)."""
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
    """The names that a person's folder may have in other data; none for a mere number."""
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
