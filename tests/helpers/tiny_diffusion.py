"""Small diffusion systems for tests: configs, batches, states without a compilation of `init`."""

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import config as configs
from gan_jax.core import optim
from gan_jax.core.system import Facts

FACTS = Facts(8, 3, 10, 64, 16)


def tiny_config(**sections):
    """configs/diffusion_mnist.py:tiny with keys changed, such as discrete=dict(target="v")."""
    config = configs.load_file("configs/diffusion_mnist.py", "tiny")
    config.run.steps = "20"
    config.model.resblock_updown = True  # which compiles faster
    config.optim.update(configs.defaults("diffusion").optim)
    for name, values in sections.items():
        if isinstance(values, dict):
            config[name].update(values)
        else:
            config[name] = values
    return config


def stepper(system):
    return jax.jit(lambda state, batch, key: system.train_step(state, batch, key, stage_of(system)))


def stage_of(system):
    return system.stages[0]


def with_weights(state, params):
    """The state with other weights of the U-Net, its averages beginning at them."""
    net = optim.restarted(state.nets["unet"], jax.tree.map(jnp.asarray, params), {})
    return state.replace(nets={**state.nets, "unet": net})


def zeros_like_init(system, batch):
    """A state of the right shapes without drawing weights, which takes long to compile."""
    stage = stage_of(system)
    shapes = jax.eval_shape(lambda k: system.init(k, batch, stage), jax.random.key(0))
    params = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes.nets["unet"].params)

    def begin(key, params):
        return with_weights(system.init(key, batch, stage), params)

    return jax.jit(begin)(jax.random.key(0), params)


BATCH = {
    "image": np.random.RandomState(0).randint(0, 256, (8, 8, 8, 3)).astype(np.uint8),
    "label": np.arange(8, dtype=np.int32),
}


def filled(system, batch=BATCH):
    """A state with weights that are zero nowhere."""
    state = zeros_like_init(system, batch)
    random = np.random.RandomState(1)

    def draw(s):
        return jnp.asarray(0.2 * random.randn(*s.shape), s.dtype)

    return with_weights(state, jax.tree.map(draw, state.nets["unet"].params))
