"""The U-Net's attention, beside the same with heads after tokens and weights that sum to 1."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.details import Detail, beside_torch, timed, trained
from benchmarks.timing import Contender
from gan_jax.models.unet_blocks import attention

SIZE, HEADS = (32, 256, 384), 4  # tokens [B, T, 3C] of diffusion_32's maps of 16 px


def by_definition(qkv: jax.Array, heads: int, order: str) -> jax.Array:
    """softmax(q kᵀ / √d) v in the order of the formula."""
    batch, tokens, wide = qkv.shape
    parts = qkv.reshape(batch, tokens, heads, 3, wide // 3 // heads)
    q, k, v = jnp.moveaxis(parts, 3, 0)
    logits = jnp.einsum("bthd,bshd->bhts", q, k) * q.shape[-1] ** -0.5
    weights = jax.nn.softmax(logits, axis=-1)
    return jnp.einsum("bhts,bshd->bthd", weights, v).reshape(batch, tokens, wide // 3)


def make(backward: bool, small: bool) -> dict[str, Contender]:
    """The output, or with `backward` also the gradient."""
    batch, tokens, wide = (2, 16, 48) if small else SIZE
    random = np.random.default_rng(0)
    qkv = random.normal(size=(batch, tokens, wide)).astype(np.float32)
    pull = random.normal(size=(batch, tokens, wide // 3)).astype(np.float32)
    ways = {"gan_jax": attention, "in the order of the formula": by_definition}
    calls = {
        name: trained(partial(way, heads=HEADS, order="legacy"), backward, [qkv], pull)
        for name, way in ways.items()
    }
    found = {name: timed(call) for name, call in calls.items()}
    results = {name: [np.asarray(a) for a in call()] for name, call in calls.items()}
    if beside_torch():
        from benchmarks.contenders import attention as theirs

        call = theirs.call(qkv, HEADS, pull, backward)
        found["PyTorch"] = Contender(call)
        results["PyTorch"] = [a.detach().numpy() for a in call()]
    for name, result in results.items():
        for here, there in zip(results["gan_jax"], result, strict=True):
            np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-3, err_msg=name)
    return found


DETAILS = tuple(
    Detail(
        f"attention_{name}", "attention", f"attention of {list(SIZE)}, {title}",
        partial(make, backward), torch=True,
    )
    for name, title, backward in (
        ("forward", "forward", False),
        ("both", "forward and backward", True),
    )
)  # fmt: skip
