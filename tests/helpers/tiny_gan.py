"""A gan system of a few units, and single steps of it.

With plain SGD at rate 1, what a step subtracts from the weights is the gradient.
"""

import functools
import json
from typing import NamedTuple

import jax
import numpy as np

from gan_jax import config as configs
from gan_jax.core import saved_states
from gan_jax.core.mesh import fetch
from gan_jax.core.system import Facts
from gan_jax.models import gan as networks

B, Z, SIZE, CLASSES = 4, 3, 8, 4
PLAIN = {
    "model.z_dim": Z,
    "model.gen": {"name": "dense", "width": 4},
    "model.disc": {"name": "dense", "width": 4},
    "batch_size": B,
    "run.steps": "100",
    **{
        f"optim.{net}": {"name": "sgd", "lr": 1.0, "b1": 0.0, "ema": (0.0,)}
        for net in ("gen", "disc")
    },
}


class Made(NamedTuple):
    """A system, its networks, its compiled step and its state at step 0."""

    system: object
    gen: networks.Network
    disc: networks.Network
    step: object
    state: object

    @property
    def stage(self):
        return self.system.stages[0]


class Step(NamedTuple):
    """One step: states on the host, metrics, and the gradients that plain SGD took."""

    before: object
    after: object
    metrics: dict
    grads: dict[str, dict[str, np.ndarray]]


def settings(options: dict):
    """The config of the smallest system, changed by {"section.key": value}."""
    config = configs.defaults("gan")
    for key, value in [*PLAIN.items(), *options.items()]:
        *path, last = key.split(".")
        section = functools.reduce(getattr, path, config)
        if isinstance(value, dict):
            section[last].update(value)
        else:
            section[last] = value
    return config


def make(options: dict) -> Made:
    """The system with these options; made once."""
    return _make(json.dumps(options))


@functools.cache
def _make(options: str) -> Made:
    options = json.loads(options, object_hook=_tuples)
    config = settings(options)
    system = configs.SYSTEMS["gan"].make(config, Facts(SIZE, 1, CLASSES, 64))
    gen, disc = networks.build(config.model, SIZE, 1, CLASSES)
    own = {k: v for k, v in options.items() if k.startswith(("model", "optim"))}
    step = jax.jit(system.train_step, static_argnums=3)
    if own == options:
        start = jax.jit(system.init, static_argnums=2)
        return Made(system, gen, disc, step, start(jax.random.key(0), {}, system.stages[0]))
    return Made(system, gen, disc, step, make(own).state)  # losses change nothing at the start


def _tuples(section: dict) -> dict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}


def batch(count: int = B, seed: int = 0) -> dict[str, np.ndarray]:
    """Images, classes, latents and WGAN-GP's mixing weights."""
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, SIZE, SIZE, 1)).astype(np.uint8),
        "label": np.arange(count, dtype=np.int32) % CLASSES,
        "z": rng.standard_normal((count, Z)).astype(np.float32),
        "alpha": rng.uniform(size=(count, 1, 1, 1)).astype(np.float32),
    }


def one_step(options: dict | None = None, given=None, state=None) -> Step:
    """A step from `state` (the initial one) on the batch `given` (`batch()`)."""
    made = make(options or {})
    state = made.state if state is None else state
    given = batch(made.stage.batch_size) if given is None else given
    after, metrics = made.step(state, given, jax.random.key(1), made.stage)
    before, after = fetch(state), fetch(after)
    grads = {
        name: {
            k: v - saved_states.named(after.nets[name].params)[k]
            for k, v in saved_states.named(before.nets[name].params).items()
        }
        for name in before.nets
    }
    return Step(before, after, fetch(metrics), grads)
