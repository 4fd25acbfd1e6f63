"""A small system of every kind, in any precision and number of parts, and single steps of it.

With plain SGD what a step subtracts from the weights, divided by the rate, is the gradient.
"""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from gan_jax import config as configs
from gan_jax.core.mesh import fetch
from gan_jax.core.system import Facts

RATE = 2.0**-7  # a power of two, so that nothing is rounded when it is divided out again
BATCH, CLASSES = 8, 4
PLAIN = {"name": "sgd", "lr": RATE, "b1": 0.0, "ema": (0.0,), "weight_decay": 0.0}
# system: side, channels, settings
SMALL: dict[str, tuple[int, int, dict[str, Any]]] = {
    "gan": (8, 1, {"model.disc.minibatch_stddev": 4, "model.disc.spectral_norm": True}),
    "pix2pix": (
        16, 3,
        {"data.pairs": "inpaint", "model.gen.name": "original", "model.disc.name": "original",
         "loss.gradient_penalty": 10.0, "model.disc.norm": "instance", "model.disc.layers": 2},
    ),
    "progan": (8, 1, {"growth.initial_resolution": 8, "growth.batch": "8:8"}),
    "classifier": (8, 1, {}),
    "diffusion": (8, 1, {"model.attention_resolutions": (8,)}),
    "noisy_classifier": (8, 1, {"model.attention_resolutions": (8,)}),
    "warpgan": (32, 3, {"data.pairs": "identities", "model.blocks": 1}),
}  # fmt: skip


class Small(NamedTuple):
    """A system, its state at step 0 on the host, and a batch."""

    system: Any
    state: Any
    batch: dict[str, np.ndarray]

    @property
    def stage(self):
        return self.system.stages[0]


def made(name: str, side: int = 0, **settings: Any) -> Small:
    """The system called `name`, with `SMALL`'s settings and others by key, dots as "__".

    `side` 0 is that of `SMALL`.
    """
    usual_side, channels, usual = SMALL[name]
    side = side or usual_side
    config = configs.defaults(name)
    changes = usual | {key.replace("__", "."): value for key, value in settings.items()}
    if "data.pairs" in changes:
        config.data.pairs = changes["data.pairs"]
    configs.tiny(config, side, "rgb" if channels == 3 else "grey")
    config.update_from_flattened_dict(changes)
    for section in config.optim.values():
        section.update(PLAIN)
        section.schedule.name = "constant"
    facts = Facts(
        side, channels, CLASSES, 64, input_channels=channels if config.data.pairs != "none" else 0
    )
    system = configs.SYSTEMS[name].make(config, facts)
    state = jax.jit(system.init, static_argnums=2)(jax.random.key(0), {}, system.stages[0])
    return Small(system, fetch(state), drawn(side, channels, config.data.pairs))


def drawn(side: int, channels: int, pairs: str) -> dict[str, np.ndarray]:
    """A batch: images or pairs, grey levels as floats, and classes."""
    rng = np.random.default_rng(0)
    names = ("image",) if pairs == "none" else ("input", "target")
    shape = (BATCH, side, side, channels)
    found = {name: rng.integers(0, 256, shape).astype(np.float32) for name in names}
    label = {"label": np.arange(BATCH, dtype=np.int32) % CLASSES}
    return found | (label if pairs in ("none", "identities") else {})


class Step(NamedTuple):
    """A state and the metrics after one step, and the gradient of each net as one vector."""

    state: Any
    metrics: dict[str, np.ndarray]
    grads: dict[str, np.ndarray]


def stepper(small: Small):
    """The compiled step: state → `Step`."""
    jitted = jax.jit(small.system.train_step, static_argnums=3)

    def step(state: Any) -> Step:
        after, metrics = fetch(jitted(state, small.batch, jax.random.key(1), small.stage))
        return Step(after, metrics, {n: gradient(state, after, n) for n in after.nets})

    return step


def gradient(before: Any, after: Any, net: str) -> np.ndarray:
    """What SGD subtracted from the weights of a net, divided by the rate."""
    pairs = zip(*(jax.tree.leaves(s.nets[net].params) for s in (before, after)), strict=True)
    return np.concatenate([np.ravel((old - new) / RATE) for old, new in pairs])


def doubles(tree: Any) -> Any:
    """The same tree with its floats in double precision."""
    return jax.tree.map(lambda x: np.array(x, np.float64 if x.dtype.kind == "f" else x.dtype), tree)


@functools.cache
def products(name: str, dtype: str) -> tuple[list[str], Any]:
    """(the types of the operands of all products and convolutions of a step, the `Small`)."""
    small = made(name, model__dtype=dtype)
    traced = jax.make_jaxpr(small.system.train_step, static_argnums=3)(
        small.state, small.batch, jax.random.key(1), small.stage
    )
    return operands(traced.jaxpr), small


def operands(jaxpr) -> list[str]:
    """The type of the first operand of every product and convolution, inner functions included."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            found.append(str(equation.invars[0].aval.dtype))
        for inner in jax.core.jaxprs_in_params(equation.params):
            found += operands(inner)
    return found
