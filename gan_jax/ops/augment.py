"""Differentiable changes to images before the discriminator sees them: DiffAugment and noise.

DiffAugment (Zhao 2020): every image gets its own random changes, and one key gives the same changes
to real and fake images of the same batch size; gradients flow through to the generator.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError

TRANSLATION = 0.125
"""Largest shift, as a share of the side."""
CUTOUT = 0.5
"""Side of the square cut out, as a share of the image's side."""

Policy = Callable[[Array, Array], Array]
"""(images [B, H, W, C], key) → images of the same shape."""


def policy(names: tuple[str, ...]) -> Policy:
    """The chosen augmentations as one function of (images, key), applied in the order named.

    Args:
      names: any of `color`, `translation`, `cutout`; () leaves images unchanged.

    Raises:
      UserError: an unknown name.
    """
    names = tuple(part for name in names for part in name.split(","))  # "color,cutout" is two
    for name in names:
        if name not in _AUGMENTATIONS:
            raise UserError(
                f"config.augment: found {name!r}, accepted are {', '.join(_AUGMENTATIONS)} "
                "separated by commas; remove it or choose one of these"
            )

    def augment(x: Array, key: Array) -> Array:
        # each kind has a fixed place among the keys, so leaving one out does not change the others
        keys = dict(zip(_AUGMENTATIONS, jax.random.split(key, len(_AUGMENTATIONS)), strict=True))
        for name in names:
            x = _AUGMENTATIONS[name](x, keys[name])
        return x

    return augment


def color(x: Array, key: Array) -> Array:
    """Brightness + U(-0.5, 0.5), saturation × U(0, 2), contrast × U(0.5, 1.5), in this order.

    x [B, H, W, C]. Saturation scales the distance from the mean over channels, contrast the one
    from the mean over the image. Grey images (C = 1) have no saturation.
    """
    brightness, saturation, contrast = jax.random.uniform(key, (3, len(x), 1, 1, 1), x.dtype)
    x = x + (brightness - 0.5)
    if x.shape[-1] > 1:
        grey = jnp.mean(x, axis=-1, keepdims=True)
        x = grey + (x - grey) * (2 * saturation)
    mean = jnp.mean(x, axis=(1, 2, 3), keepdims=True)
    return mean + (x - mean) * (contrast + 0.5)


def translation(x: Array, key: Array) -> Array:
    """Shifts by whole pixels, up to an eighth of each side, filled with 0: x [B, H, W, C]."""
    batch, height, width, channels = x.shape
    most = [int(side * TRANSLATION + 0.5) for side in (height, width)]
    key_y, key_x = jax.random.split(key)
    tops = jax.random.randint(key_y, (batch,), 0, 2 * most[0] + 1)
    lefts = jax.random.randint(key_x, (batch,), 0, 2 * most[1] + 1)
    padded = jnp.pad(x, [(0, 0), (most[0],) * 2, (most[1],) * 2, (0, 0)])

    # the fastest of five ways to write this on a CPU, backward pass included
    def window(image: Array, top: Array, left: Array) -> Array:
        return jax.lax.dynamic_slice(image, (top, left, 0), (height, width, channels))

    return jax.vmap(window)(padded, tops, lefts)


def cutout(x: Array, key: Array) -> Array:
    """Sets a rectangle of half of each side to 0, its centre anywhere inside: x [B, H, W, C]."""
    batch, height, width, _ = x.shape
    key_y, key_x = jax.random.split(key)
    rows, columns = _span(key_y, batch, height), _span(key_x, batch, width)
    hole = rows[:, :, None, None] & columns[:, None, :, None]  # [B, H, W, 1]
    return jnp.where(hole, 0, x)


def instance_noise(x: Array, key: Array, sigma: Array | float) -> Array:
    """x + σ·N(0, 1), for real and fake images alike (Sønderby 2016)."""
    return x + jnp.asarray(sigma, x.dtype) * jax.random.normal(key, x.shape, x.dtype)


def noise_sigma(step: Array | int, sigma: float, steps: int) -> Array:
    """σ at `step`: falls linearly from `sigma` at step 0 to exactly 0 at step `steps` and after.

    Raises:
      UserError: steps < 1.
    """
    if steps < 1:
        raise UserError(
            f"config.loss.noise_steps: found {steps}, accepted are 1 and more; "
            "set after how many steps the noise is gone"
        )
    return sigma * jnp.clip(1 - jnp.asarray(step, jnp.float32) / steps, 0, 1)


def _span(key: Array, batch: int, side: int) -> Array:
    """Which of the `side` places of an axis the cut covers, per example: bool [B, side]."""
    size = int(side * CUTOUT + 0.5)
    # the centre of an even cut lies between pixels, so it has one more possible place
    centre = jax.random.randint(key, (batch, 1), 0, side + 1 - size % 2)
    offset = jnp.arange(side) - (centre - size // 2)
    return (offset >= 0) & (offset < size)


_AUGMENTATIONS = {"color": color, "translation": translation, "cutout": cutout}
