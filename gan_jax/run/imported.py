"""Imported runs, which have seen no data, together with data that they are measured on."""

from ml_collections import ConfigDict

from gan_jax.errors import ArgumentError, UserError
from gan_jax.run import class_names
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model


def measured(model: Model, config: ConfigDict | None) -> Model:
    """The model together with its data.

    An imported run has seen no data: it gets the data that `config` names or, if that is None, its
    own config. Raises UserError if they cannot be opened, or are of another kind than the model's.
    """
    if model.experiment.facts.train_size:
        return model
    chosen = model.config.copy_and_resolve_references()
    if config is not None:
        with chosen.unlocked():
            chosen.data, chosen.batch_size = config.data, config.batch_size
    try:
        experiment, old = Experiment(chosen, begun=True), model.experiment.facts
    except UserError as error:
        more = "" if config is not None else "; this run was imported: name a config with its data"
        raise UserError(f"{error}{more}") from None
    for name in ("resolution", "channels", "num_classes", "input_channels"):
        found, wanted = getattr(experiment.facts, name), getattr(old, name)
        if found != wanted and (name != "num_classes" or experiment.system.labelled):
            raise ArgumentError(
                "config", f": its data have {name} {found}, this model has {wanted}"
            )
    if other := class_names.disagree(experiment.facts.class_names, old.class_names):
        raise ArgumentError("config", f": its data have other classes: {other} of the model")
    return Model(experiment, model.state, model.step, model.stage)
