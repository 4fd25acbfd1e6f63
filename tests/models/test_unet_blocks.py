"""How the blocks of a U-Net are traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_jax import backend
from gan_jax.models import convolution, unet, unet_blocks


def test_blocks_that_are_alike_are_traced_once(monkeypatch):
    """Three blocks on each side have the same shapes, or two where channels are joined."""
    seen = []
    for block in (unet_blocks.ResBlock, unet_blocks.Attention):

        def compute(self, x, *rest, plain=block.compute):
            seen.append((type(self).__name__, x.shape))
            return plain(self, x, *rest)

        monkeypatch.setattr(block, "compute", compute)
    model = ConfigDict(unet.defaults() | unet.TINY)
    # sizes that no other test has, so that nothing has been traced before
    model.update(num_channels=12, norm_groups=3, num_res_blocks=3, attention_resolutions=(8,))
    model.update(num_head_channels=6, remat="blocks")
    net = unet.unet(model, 8, 1, 1, 0)
    x, time = jnp.zeros((3, 8, 8, 1)), jnp.zeros(3)
    params, _ = jax.eval_shape(net.init, jax.random.key(0), x, time)
    seen.clear()  # weights are made block by block

    def loss(params):
        return jnp.mean(net.apply(params, {}, x, time, train=True)[0] ** 2)

    jax.eval_shape(jax.grad(loss), params)
    assert len(seen) == len(set(seen))
    blocks = [name for name in params if name.startswith(("input", "middle", "output"))]
    assert len(seen) < len(blocks) / 2
    again = len(seen)
    jax.eval_shape(jax.grad(loss), params)
    assert len(seen) == again


def shapes_of(block, x, embedding):
    """The shapes of a block's weights."""
    return jax.eval_shape(lambda key: block.init(key, x, embedding, False), jax.random.key(0))


def test_programs_for_other_devices_are_traced_anew(monkeypatch):
    """The form of a convolution depends on the device."""
    block = unet_blocks.ResBlock(10, groups=5)
    x, embedding = jnp.zeros((1, 4, 4, 10)), jnp.zeros((1, 3))
    params = shapes_of(block, x, embedding)

    def program():
        return str(jax.make_jaxpr(lambda p: block.apply(p, x, embedding, False))(params))

    own = program()
    assert "custom_vjp" in own
    with backend.programs_for("tpu"):
        assert not convolution._explicit("auto")
        other = program()
    assert other != own
    assert program() == own


def test_dropout_draws_what_flax_would_draw():
    block = unet_blocks.ResBlock(8, dropout=0.5, groups=4)
    random = np.random.RandomState(0)
    x, embedding = jnp.asarray(random.randn(2, 4, 4, 8)), jnp.asarray(random.randn(2, 3))
    params = jax.tree.map(
        lambda s: jnp.asarray(random.randn(*s.shape), s.dtype), shapes_of(block, x, embedding)
    )
    rngs = {"dropout": jax.random.key(1)}
    found = block.apply(params, x, embedding, True, rngs=rngs)
    expected = block.apply(
        params, x, embedding, True, rngs=rngs, method=unet_blocks.ResBlock.compute
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    other = block.apply(params, x, embedding, True, rngs={"dropout": jax.random.key(2)})
    assert np.abs(other - found).max() > 0.1


@pytest.mark.parametrize("order", unet_blocks.ORDERS)
def test_attention_is_the_softmax_of_its_definition(order):
    """Values and gradients, in float64; logits of thousands do not overflow."""
    rng = np.random.default_rng(0)
    qkv, pull = rng.normal(size=(2, 5, 3 * 6)), rng.normal(size=(2, 5, 6))
    qkv[1] *= 40

    def by_definition(qkv):
        parts = qkv.reshape(2, 5, *((2, 3, 3) if order == "legacy" else (3, 2, 3)))
        q, k, v = (parts[:, :, :, i] if order == "legacy" else parts[:, :, i] for i in range(3))
        weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / 3**0.5, axis=-1)
        return jnp.einsum("bhts,bshd->bthd", weights, v).reshape(2, 5, 6)

    with jax.enable_x64(True):
        found, back = jax.vjp(lambda x: unet_blocks.attention(x, 2, order), jnp.asarray(qkv))
        expected, back_expected = jax.vjp(by_definition, jnp.asarray(qkv))
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(back(pull)[0], back_expected(pull)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_attention_in_half_precision_does_not_overflow(dtype):
    """4096 equal weights on values of 100, whose undivided sum is beyond float16."""
    qkv = jnp.zeros((1, 4096, 3), dtype).at[..., 2].set(100)
    found = jax.jit(lambda x: unet_blocks.attention(x, 1, "legacy"))(qkv)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.astype(np.float32), 100)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_a_sum_over_all_groups_repeats_their_values(dtype):
    """Bit by bit, and a group whose value is not finite is kept to itself."""
    with jax.enable_x64(dtype == "float64"):
        values = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(jnp.dtype(dtype))
        values[0, 0] = [np.inf, -np.inf, np.nan, 1]
        found = jax.jit(jax.vmap(lambda v: unet_blocks._looked_up(v, 6, 1)))(values)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, np.repeat(values, 6, axis=2))
