"""A trained model that is sampled in another way: another sampler, more guidance, a classifier.

Only some systems can be sampled in several ways. Their modules offer these choices:

    resample(config, changes, nets)      changes keys of the section `sampling`
    GUIDE                                the net that may guide sampling, and its section
    guide(config, theirs, source, scale), check_guide(key, theirs, known, config, facts),
    is_guided(config), rescale_guide(config, scale), knows_classes(config)

After a choice the model is built anew with the same weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.buckets import syncing
from gan_jax.core.system import Facts, Net, TrainState
from gan_jax.errors import ArgumentError, UserError, argument
from gan_jax.interop import guided_diffusion, restore, trees
from gan_jax.run import class_names, released
from gan_jax.run import folder as folders
from gan_jax.run.experiment import Experiment
from gan_jax.run.model import Model
from gan_jax.run.weights import arrays as read_arrays

Tensors = Mapping[str, np.ndarray]  # a .pt file's, by PyTorch's names


def adjusted(
    model: Model,
    changes: Mapping[str, Any],
    classifier: str = "",
    classifier_scale: float | None = None,
) -> Model:
    """The model with some keys of its section `sampling` changed, or guided by a classifier.

    Args:
      changes: by key, such as {"sampler": "ddim", "steps": "25"}; None leaves a key as it is.
      classifier: folder of a noisy classifier's run, or a file of one from guided-diffusion; ""
        for none.
      classifier_scale: the factor of the classifier's gradient; None means 1. Without
        `classifier`, it is for the classifier that guides the model already.

    Raises UserError for a model that has no samplers, and for values that do not fit it.
    """
    changes = {k: v for k, v in changes.items() if v is not None}
    system = configs.SYSTEMS[model.config.system]
    if not hasattr(system, "resample"):
        named = [k for k in changes if k != "progress"] + ["classifier"] * bool(classifier)
        if named:
            raise ArgumentError(
                named[0], f": config.system={model.config.system!r} has no samplers"
            )
        return model
    config = model.config.copy_and_resolve_references()
    guided = bool(classifier) or system.is_guided(config)
    if classifier_scale is not None and not (classifier_scale > 0 and guided):
        raise ArgumentError(
            "classifier_scale",
            f"={classifier_scale:g}: must be above 0, and a classifier must be named",
        )
    if classifier_scale is not None and system.is_guided(config):
        system.rescale_guide(config, classifier_scale)
    system.resample(config, changes, model.state.nets)
    facts = model.experiment.facts
    if not classifier:
        experiment = Experiment(config, facts, model.experiment.home, begun=True)
        return Model(experiment, model.state, model.step, model.stage)
    with argument("classifier"):
        guide = _Guide.read(syncing.fetched(classifier), facts.resolution)
        scale = 1.0 if classifier_scale is None else classifier_scale
        facts = guide.join(system, config, facts, scale)
        experiment = Experiment(config, facts, model.experiment.home, begun=True)
        state = guide.into(experiment, system.GUIDE, model.state)
    return Model(experiment, state, model.step, model.stage)


def parse(sampling: str) -> dict[str, str]:
    """ "clip=none,churn=40" → {"clip": "none", "churn": "40"}; ArgumentError for anything else."""
    found = {}
    for part in filter(None, sampling.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ArgumentError(
                "sampling",
                f"={sampling!r}: write keys of config.sampling and their values, such as "
                "clip=dynamic,churn=40",
            )
        found[name.strip()] = value.strip()
    return found


@dataclass(frozen=True)
class _Guide:
    """A classifier that is to guide a model: a run, or a file of guided-diffusion."""

    source: str
    config: ConfigDict
    facts: Facts
    tensors: Tensors | None = None  # of a file

    @classmethod
    def read(cls, source: str, resolution: int) -> "_Guide":
        """The classifier at `source`. `resolution` is that of its images if a file does not give
        it."""
        path = Path(source)
        if path.is_dir():
            stored = folders.read_config(path)
            return cls(source, configs.typed(stored["config"]), Facts.read(stored["data"]))
        if not path.is_file():
            raise UserError(f"classifier={source}: no such run or file")
        tensors = guided_diffusion.state_dict(path)
        config = released.config_of(path, tensors, "classifier")
        return cls(source, config, released.facts_of(path, config, tensors, resolution), tensors)

    @property
    def key(self) -> str:
        """The name of this classifier in errors."""
        return f"classifier={self.source}"

    def join(self, system: ModuleType, config: ConfigDict, facts: Facts, scale: float) -> Facts:
        """Makes the classifier guide the model that `config` and `facts` describe.

        Changes `config` in place and returns the facts of the guided model: a model without classes
        gets those of the classifier. Raises UserError if the classifier does not fit the model.
        """
        system.check_guide(self.key, self.config, self.facts, config, facts)
        if system.knows_classes(config):
            self._check_classes(facts)
        else:  # the classes are the classifier's
            own = ("num_classes", "class_names", "empty_classes")
            facts = facts._replace(**{name: getattr(self.facts, name) for name in own})
        system.guide(config, self.config, self.source, scale)
        return facts

    def _check_classes(self, facts: Facts) -> None:
        theirs = self.facts.class_names
        numbered = class_names.are_numbers(facts.class_names)
        if not theirs and self.config.data.reading == "first" and numbered:
            theirs = tuple(sorted(facts.class_names))  # as the first revision numbered folders
        other = class_names.disagree(theirs, facts.class_names)
        if other:
            raise UserError(
                f"{self.key} has learnt other classes: {other} of the model; name a classifier of "
                "the model's own classes"
            )

    def into(self, experiment: Experiment, net: str, state: TrainState) -> TrainState:
        """The state with the classifier's weights as its net called `net`."""
        shapes = experiment.shapes()["state"].nets[net].params
        if self.tensors is None:
            found = read_arrays(self.source, net, self.key)
        else:
            released.check_fits(self.tensors, shapes, self.key)
            found = trees.named_leaves(*guided_diffusion.to_trees(self.tensors))
        empty = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
        params, _, report = restore.replace(found, "*", empty, {}, self.key, self.source)
        if report[1:]:
            raise UserError(f"{self.key} does not fit: {report[1]}")
        net_of_guide = Net(experiment.mesh.copy(params), {}, {})
        return state.replace(nets={**state.nets, net: net_of_guide})
