"""L*a*b*: known colours, there and back, the host's lightness."""

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax.data import pairs
from gan_jax.ops import colour, images

# sRGB primaries, white, mid grey: CIE L*a*b* under D65 (published conversions, two decimals)
KNOWN = {
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (255, 255, 255): (100.0, 0.0, 0.0),
    (0, 0, 0): (0.0, 0.0, 0.0),
    (128, 128, 128): (53.59, 0.0, 0.0),
}


def test_known_colours():
    x = images.to_unit(np.uint8(list(KNOWN)))
    np.testing.assert_allclose(colour.rgb_to_lab(x), list(KNOWN.values()), atol=0.02)


def test_there_and_back_for_a_cube_of_colours():
    levels = np.linspace(-1, 1, 9, dtype=np.float32)
    x = jnp.asarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 3))
    lab = colour.rgb_to_lab(x)
    assert float(jnp.abs(lab[:, 1:]).max()) < colour.CHROMA
    np.testing.assert_allclose(colour.lab_to_rgb(lab), x, atol=2e-4)
    made = colour.coloured(lab[:, :1] / 50 - 1, colour.chroma(x))
    np.testing.assert_allclose(made, x, atol=2e-4)


def test_gradients_are_finite_at_the_corners():
    """Black and white, and colours that sRGB does not have."""
    x = jnp.asarray([[-1.0, -1, -1], [1, 1, 1], [-1, 1, -1]])
    assert np.isfinite(jax.grad(lambda x: jnp.sum(colour.rgb_to_lab(x)))(x)).all()
    ab = jnp.asarray([[1.0, -1.0], [0.0, 0.0]])
    lightness = jnp.asarray([[-1.0], [1.0]])
    grad = jax.grad(lambda ab: jnp.sum(colour.coloured(lightness, ab)))(ab)
    assert np.isfinite(grad).all()
    assert float(jnp.abs(colour.coloured(lightness, ab)).max()) <= 1


def test_the_hosts_lightness_is_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3)).astype(np.uint8)
    ours = np.asarray(colour.rgb_to_lab(images.to_unit(pixels)))[:, 0]
    theirs = pairs.lightness(pixels)[:, 0] / 2.55
    assert np.abs(ours - theirs).max() < 0.5 / 2.55 + 0.01
