"""How a trained diffusion model is sampled, chosen when it is: another sampler, more guidance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import checkpoint, optim
from gan_jax.core.system import Facts, Net, TrainState
from gan_jax.errors import UserError
from gan_jax.interop import guided_diffusion, restore
from gan_jax.run import class_names, released
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model

Tensors = Mapping[str, np.ndarray]  # a .pt file's, by PyTorch's names


def adjusted(
    model: Model, changes: Mapping[str, Any], classifier: str = "", scale: float | None = None
) -> Model:
    """The model with some keys of its section `sampling` changed, and guided by a classifier.

    Args:
      changes: by key, such as {"sampler": "ddim", "steps": "25"}; None leaves a key as it is.
      classifier: folder of a noisy classifier's run, or its file in guided-diffusion's names.
      scale: of its gradient; 1 where it is None. Without `classifier`, of the model's own.

    Raises UserError for a model that is not sampled in this way, and values that do not fit it.
    """
    chosen = {k: v for k, v in changes.items() if v is not None}
    named = [f"--{k}" for k in chosen if k != "progress"] + ["--classifier"] * bool(classifier)
    if "sampling" not in model.config:
        if named:
            raise UserError(f"{named[0]}: config.system={model.config.system!r} has no samplers")
        return model
    config = model.config.copy_and_resolve_references()
    guided = bool(config.classifier.scale)
    if scale is not None and (not scale > 0 or not (classifier or guided)):
        raise UserError(
            f"--classifier_scale={scale:g}: must be above 0, and --classifier must name one"
        )
    if guided and scale is not None:
        config.classifier.scale = float(scale)
    averaged = optim.has_average(model.state.nets.get("unet"))
    if chosen.get("progress") == "ema" and not averaged:
        chosen["progress"] = "raw"
    for name, value in chosen.items():
        _set(config.sampling, name, value)
    state, facts = model.state, model.experiment.facts
    if classifier:
        own, known, tensors = _read(classifier, facts.resolution)
        _check_guide(f"--classifier={classifier}", own, known, config, facts)
        config.classifier.update(own.model, scale=1.0 if scale is None else float(scale))
        config.restore.classifier = (classifier, "*")
        if not config.model.class_cond:  # the classes are the classifier's
            own_classes = ("num_classes", "class_names", "empty_classes")
            facts = facts._replace(**{name: getattr(known, name) for name in own_classes})
    experiment = Experiment(config, facts, model.experiment.home, begun=True)
    if classifier:
        state = _with_classifier(experiment, state, classifier, tensors)
    return Model(experiment, state, model.step, model.stage)


def parse(text: str) -> dict[str, str]:
    """ "clip=none,churn=40" → {"clip": "none", "churn": "40"}; UserError for anything else."""
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise UserError(
                f"--sampling={text!r}: write keys of config.sampling and their values, such as "
                "clip=dynamic,churn=40"
            )
        found[name.strip()] = value.strip()
    return found


def _set(section: ConfigDict, name: str, value: Any) -> None:
    """A key of the section, its value brought to the type that it has there."""
    if name not in section:
        raise UserError(f"config.sampling has no {name!r}; accepted are {', '.join(section)}")
    try:
        section[name] = type(section[name])(value)
    except ValueError:
        wanted = type(section[name]).__name__
        raise UserError(f"config.sampling.{name}={value!r}: must be of type {wanted}") from None


def _read(source: str, resolution: int) -> tuple[ConfigDict, Facts, Tensors | None]:
    """Config and facts of a classifier's run, or of its file, and the tensors of a file."""
    path = Path(source)
    if path.is_dir():
        stored = folders.read_config(path)
        return configs.typed(stored["config"]), Facts.read(stored["data"]), None
    if not path.is_file():
        raise UserError(f"--classifier={source}: no such run or file")
    tensors = guided_diffusion.state_dict(path)
    own = released.config_of(path, tensors, "--classifier")
    return own, released.facts_of(own, tensors, resolution), tensors


def _check_guide(key: str, own: ConfigDict, known: Facts, config: ConfigDict, facts: Facts) -> None:
    """Raises UserError where a classifier is none, or has learnt another noise, or images of
    another kind, than the model to be guided."""
    if own.system != "noisy_classifier":
        raise UserError(f"{key} is of config.system={own.system!r}: name a noisy_classifier")
    if not own.noised:
        raise UserError(f"{key} was trained on clean images (config.noised=False); it cannot guide")
    for name in ("resolution", "channels"):
        found, wanted = getattr(known, name), getattr(facts, name)
        if found != wanted:
            raise UserError(f"{key} has learnt images of {name} {found}, the model of {wanted}")
    for name in ("steps", "schedule", "rescale_timesteps"):
        if own.discrete[name] != config.discrete[name]:
            raise UserError(
                f"{key} has learnt another noise: its config.discrete.{name} is "
                f"{own.discrete[name]!r}, the model's {config.discrete[name]!r}"
            )
    theirs = known.class_names
    if not theirs and own.data.reading == "first" and class_names.are_numbers(facts.class_names):
        theirs = tuple(sorted(facts.class_names))  # as the first revision numbered folders
    other = class_names.disagree(theirs, facts.class_names) if config.model.class_cond else ""
    if other:
        raise UserError(
            f"{key} has learnt other classes: {other} of the model; name a classifier of the "
            "model's own classes"
        )


def _with_classifier(
    experiment: Experiment, state: TrainState, source: str, tensors: Tensors | None
) -> TrainState:
    """The state with the classifier's weights as its net `classifier`."""
    shapes = experiment.shapes()["state"].nets["classifier"].params
    key = f"--classifier={source}"
    if tensors is None:
        arrays = folders.arrays(source, "classifier", key)
    else:
        released.check_fits(tensors, shapes, key)
        arrays = checkpoint.named({"params": guided_diffusion.to_trees(tensors)[0]})
    empty = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    params, _, report = restore.replace(arrays, "*", empty, {}, key, source)
    if report[1:]:
        raise UserError(f"{key} does not fit: {report[1]}")
    net = Net(experiment.mesh.copy(params), {}, {})
    return state.replace(nets={**state.nets, "classifier": net})
