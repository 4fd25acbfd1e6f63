"""WarpGAN's losses (Shi et al. 2019, section 3): patches, identities, reconstruction, styles.

A is a caricature, B a photo of the same identity and BA the image generated from B. All three go
through the discriminator in one batch; tuples hold their values in this order.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan_jax.core import optim
from gan_jax.core.system import Array, Metrics, Net, PyTree

CARICATURE, PHOTO, GENERATED = range(3)  # classes of a patch, and thirds of the identity classes

Labels = tuple[Array, Array, Array]  # identities [B] of A, B and BA, which has its photo's


class Pairs(NamedTuple):
    """Caricatures and photos of the same identities."""

    a: Array  # caricatures [B, H, W, C], standardised, as photos are
    b: Array  # photos
    z: Array  # styles [B, style_size]
    labels: Labels


class Rendered(NamedTuple):
    """What the generator makes of pairs: images [B, H, W, C]."""

    again_a: Array  # A in its own style
    again_b: Array  # B in its own style
    texture: Array  # B in the style z
    ba: Array  # the texture warped: the caricature
    displacements: Array  # [B, P, 2] of the control points, in pixels


class Answer(NamedTuple):
    """The discriminator's logits of A, B and BA."""

    patches: list[Array]  # [B, h, w, 3]
    identities: list[Array]  # [B, 3·C]: C caricatures, C photos, C generated ones


def disc_losses(weights: Any, classes: int, answer: Answer, labels: Labels) -> Metrics:
    """The discriminator's cross entropies: for each patch, whether it is of a caricature, a photo
    or a generated image; for each image, this and its identity.

    `weights` is the section `loss` of the config and `classes` the number C of identities, here and
    below.
    """
    kinds = (CARICATURE, PHOTO, GENERATED)
    return {
        "loss/identity_disc": weights.identity_weight
        * sum(_cross_entropy(answer.identities[k], labels[k] + k * classes) for k in kinds),
        "loss/patch_disc": weights.patch_weight * sum(_patch(answer.patches[k], k) for k in kinds),
    }


def gen_losses(weights: Any, classes: int, answer: Answer, pairs: Pairs, made: Rendered) -> Metrics:
    """The generator's losses: what it makes should be classified as a caricature with its photo's
    identity, and images rendered in their own style should not change."""
    wanted = pairs.labels[GENERATED] + CARICATURE * classes
    return {
        "loss/identity_gen": weights.identity_weight
        * _cross_entropy(answer.identities[GENERATED], wanted),
        "loss/patch_gen": weights.patch_weight * _patch(answer.patches[GENERATED], CARICATURE),
        "loss/reconstruction_caricature": weights.reconstruction_weight
        * jnp.mean(jnp.abs(made.again_a - pairs.a)),
        "loss/reconstruction_photo": weights.reconstruction_weight
        * jnp.mean(jnp.abs(made.again_b - pairs.b)),
    }


def style_loss(weights: Any, read: Array, z: Array) -> Metrics:
    """The mean distance of the styles recovered from textures, `read` [B, style_size], from the
    styles z that they were made with."""
    away = jnp.mean(jnp.abs(read.astype(jnp.float32) - z))
    return {"loss/style_reconstruction": weights.style_reconstruction * away}


def weight_decay(decays: Mapping[str, float], nets: Mapping[str, Net]) -> Array:
    """λ/2 Σ w² over the kernels of the networks, a scalar; `decays` has each network's λ."""
    return sum(
        0.5 * decays[name] * _kernel_squares(net.params)
        for name, net in nets.items()
        if name in decays
    )


def accuracies(classes: int, answer: Answer, labels: Labels) -> Metrics:
    """How often the discriminator classifies generated patches, and the identity of photos,
    correctly."""
    patch = jnp.argmax(answer.patches[GENERATED], -1) == GENERATED
    share = jnp.mean(patch, dtype=jnp.float32)
    photo = jnp.argmax(answer.identities[PHOTO], -1) == labels[PHOTO] + PHOTO * classes
    return {
        "accuracy/patch_generated": share,
        "accuracy/identity_photo": jnp.mean(photo, dtype=jnp.float32),
    }


def _cross_entropy(logits, classes):
    """Mean over all but the last axis of −log softmax at `classes`, a scalar."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, classes))


def _patch(logits, kind: int):
    """Mean over patches [B, h, w, 3] of the cross entropy with one class, a scalar."""
    return _cross_entropy(logits, jnp.full(logits.shape[:-1], kind))


def _kernel_squares(params: PyTree) -> Array:
    """Σ w² over the kernels, the parameters that weight decay applies to, a scalar."""
    mask = optim.decay_mask("kernels")(params)
    squares = jax.tree.map(lambda w, on: jnp.sum(jnp.square(w)) if on else 0.0, params, mask)
    return sum(jax.tree.leaves(squares))
