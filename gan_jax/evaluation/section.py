"""The config section `quality`: whether it suits a run, and which values it gives."""

import contextlib
from collections.abc import Iterator, Sequence

from gan_jax.errors import UserError
from gan_jax.evaluation.families import FAMILIES
from gan_jax.run.experiment import Experiment

SPLITS = ("", "validation", "train")


def metric_names(experiment: Experiment) -> list[str]:
    """Names of the values of the config's metrics, as far as they do not depend on the data.

    Standard deviations are left out.
    """
    found = []
    for name in experiment.config.quality.metrics:
        given = [value for family in FAMILIES for value in family.values(name)] or [name]
        found += [value for value in given if not value.endswith("_std")]
    return found


def check(experiment: Experiment) -> None:
    """Raises UserError for a section `config.quality` that does not suit the run."""
    section = experiment.config.quality
    accepted = [name for family in FAMILIES for name in family.accepted(experiment)]
    check_names(section.metrics, "config.quality.metrics", accepted)
    if experiment.facts.input_channels and section.split:
        raise UserError(
            f"config.quality.split={section.split!r}: translations are compared with their own "
            "targets, of validation where there is one; leave it empty"
        )
    if section.split not in SPLITS:
        raise UserError(
            f"config.quality.split={section.split!r}: accepted are '', validation, train"
        )
    for family in FAMILIES:
        family.check(experiment)


def check_names(names: Sequence[str], key: str, accepted: Sequence[str]) -> None:
    """Raises a UserError that begins with `key` unless `names` are distinct and all `accepted`."""
    if not names:
        raise UserError(f"{key} is empty: accepted are {', '.join(accepted)}")
    for name in names:
        if name not in accepted:
            raise UserError(f"{key}: no metric {name!r} here; accepted are {', '.join(accepted)}")
    if len(set(names)) < len(names):
        raise UserError(f"{key}={','.join(names)}: names a metric twice")


@contextlib.contextmanager
def complaints(key: str, few: str) -> Iterator[None]:
    """Turns a ValueError about images that a metric cannot take into a UserError.

    Args:
      key: the beginning of the message.
      few: added to the message if a biased value could be had; says how to ask for it.
    """
    try:
        yield
    except ValueError as error:
        hint = few if "biased value" in str(error) else ""
        raise UserError(f"{key}: {error}{hint}") from error
