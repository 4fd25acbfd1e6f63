"""Small networks of ProGAN, filled with random numbers."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.models import progan as models

SMALL = dict(fmap_base=24, fmap_max=6, z_dim=5)


@functools.cache
def trees(resolution: int = 16, classes: int = 2, **options) -> dict:
    """Parameters of small networks by the original's names, G unlike its average Gs."""
    model = SimpleNamespace(**{**models.defaults(), **SMALL, **options})
    gen, disc = models.build(model, resolution, 3, classes)
    label = jnp.zeros((1, classes))
    image = jnp.zeros((1, resolution, resolution, 3))
    found = {}
    for seed, (name, net, x) in enumerate(
        (("G", gen, jnp.zeros((1, 5))), ("D", disc, image), ("Gs", gen, jnp.zeros((1, 5))))
    ):
        random = np.random.default_rng(seed)
        init = functools.partial(net.init, jax.random.key(0))
        shapes, _ = jax.eval_shape(lambda x, init=init: init(x, label, resolution, 0.0), x)
        found[name] = jax.tree.map(
            lambda leaf, random=random: random.normal(size=leaf.shape).astype(np.float32), shapes
        )
    return found


def zeros(*shape: int) -> np.ndarray:
    """Zeros in single precision."""
    return np.zeros(shape, np.float32)
