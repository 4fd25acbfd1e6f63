"""Losses on arrays: the adversarial family on logits, and distances between paired images.

Discriminators always return logits; no loss here expects a probability.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from gan_jax.errors import UserError


class Adversarial(NamedTuple):
    """One adversarial loss in the forms that the generator and the discriminator need.

    `fool` and `discriminate` work element by element, so they also give per-example values; the
    methods are their means over logits of any shape [B, ...] (patch discriminators included). The
    discriminator's loss is `real(...) + fake(...)`: weight it where it is used.
    """

    fool: Callable[[Array], Array]
    """Fake logits → the generator's loss, element by element."""
    discriminate: Callable[[Array, Array | float], Array]
    """Logits and targets (1 = real, 0 = fake) → the discriminator's loss, element by element."""
    boundary: float
    """The logit at which the discriminator is undecided."""
    real_target: float
    """The target of real images: 1, or less with one-sided label smoothing."""

    def generator(self, fake_logits: Array) -> Array:
        """The generator's loss, a scalar."""
        return jnp.mean(self.fool(fake_logits))

    def real(self, real_logits: Array, flipped: Array | bool = False) -> Array:
        """The discriminator's loss on real images, a scalar; `flipped` [B] get the fake target."""
        wrong = _per_example(flipped, real_logits)
        return jnp.mean(self.discriminate(real_logits, jnp.where(wrong, 0.0, self.real_target)))

    def fake(self, fake_logits: Array, flipped: Array | bool = False) -> Array:
        """The discriminator's loss on fakes, a scalar; `flipped` [B] get the real target."""
        wrong = _per_example(flipped, fake_logits)
        return jnp.mean(self.discriminate(fake_logits, jnp.where(wrong, self.real_target, 0.0)))

    def discriminator_metrics(
        self, real_logits: Array, fake_logits: Array, real_loss: Array, fake_loss: Array
    ) -> dict[str, Array]:
        """The metrics of a discriminator by name: its losses, and its accuracies in [0, 1]."""
        return {
            "loss/disc_real": real_loss,
            "loss/disc_fake": fake_loss,
            "accuracy/real": self.real_accuracy(real_logits),
            "accuracy/fake": self.fake_accuracy(fake_logits),
        }

    def real_accuracy(self, real_logits: Array) -> Array:
        """Share of logits on the real side, in [0, 1]; the boundary itself is on neither side."""
        return jnp.mean(real_logits > self.boundary, dtype=jnp.float32)

    def fake_accuracy(self, fake_logits: Array) -> Array:
        """Share of logits on the fake side, in [0, 1]; the boundary itself is on neither side."""
        return jnp.mean(fake_logits < self.boundary, dtype=jnp.float32)


def adversarial(name: str, real_target: float = 1.0) -> Adversarial:
    """The adversarial loss called `name`.

    - `non_saturating`: cross entropy; the generator minimises -log D(fake) (Goodfellow 2014, §3).
    - `saturating`: the same discriminator; the generator minimises log(1 - D(fake)), the minimax
      game as written, whose gradient vanishes where the discriminator is sure.
    - `least_squares`: targets 1 and 0 (Mao 2017). No factor 1/2 inside: PyTorch-GAN halves the
      discriminator's sum, StudioGAN halves the generator's loss as well.
    - `hinge`: (Lim & Ye 2017) max(0, 1 - real) + max(0, 1 + fake), generator -fake.
    - `wasserstein`: fake - real, generator -fake; needs a penalty or clipping (penalties.py).

    With every loss, also hinge and wasserstein, a flipped example is treated as the other kind.

    Args:
      name: one of the five above.
      real_target: target of real images, in (0.5, 1]; below 1 is one-sided label smoothing
        (Salimans 2016), which only the cross entropies and least squares can express.

    Raises:
      UserError: unknown name, or a real target that this loss cannot express.
    """
    if name not in _LOSSES:
        raise UserError(
            f"config.loss.name: found {name!r}, accepted are {', '.join(_LOSSES)}; choose one"
        )
    fool, discriminate, boundary, soft = _LOSSES[name]
    if not 0.5 < real_target <= 1:
        raise UserError(
            f"config.loss.real_target: found {real_target}, accepted is 0.5 < target <= 1; "
            "set 1.0, or 0.9 for label smoothing"
        )
    if real_target != 1 and not soft:
        raise UserError(
            f"config.loss.real_target: found {real_target}, but the {name} loss has no soft "
            "targets and accepts 1.0 only; set it to 1.0 or choose a cross entropy or least_squares"
        )
    return Adversarial(fool, discriminate, boundary, real_target)


def binary_cross_entropy(logits: Array, targets: Array | float) -> Array:
    """-t log σ(x) - (1-t) log(1-σ(x)), element by element.

    It has two softplus terms instead of relu(x) - t·x + log1p(e^-|x|), because JAX's derivative of
    the latter is wrong by 1/2 at 0, where a discriminator with zero weights starts.
    """
    return targets * jax.nn.softplus(-logits) + (1 - targets) * jax.nn.softplus(logits)


def l1(x: Array, y: Array) -> Array:
    """Mean |x - y|, a scalar."""
    return jnp.mean(jnp.abs(x - y))


def mse(x: Array, y: Array) -> Array:
    """Mean (x - y)², a scalar."""
    return jnp.mean(jnp.square(x - y))


def reconstruction(fake: Array, real: Array, norm: str = "l1") -> Array:
    """Distance of fakes to the real images they are paired with, a scalar.

    The "distance to real" term beside an adversarial loss: mean |fake - real| for `l1`, mean over
    examples of the root mean square difference for `l2` (with a zero gradient at equality).

    Args:
      fake, real: [B, ...], any range.
      norm: `l1` or `l2`.

    Raises:
      UserError: another norm.
    """
    if norm == "l1":
        return l1(fake, real)
    if norm == "l2":
        squares = jnp.mean(jnp.square(fake - real).reshape(fake.shape[0], -1), axis=1)  # [B]
        return jnp.mean(safe_sqrt(squares))
    raise UserError(f"config.loss.reconstruction_norm: found {norm!r}, accepted are l1 and l2")


def flip_labels(key: Array, count: int, probability: float) -> Array:
    """Which of `count` examples are shown to the discriminator under the other label: bool [B]."""
    return jax.random.bernoulli(key, probability, (count,))


def safe_sqrt(x: Array) -> Array:
    """√x for x ≥ 0, with derivative 0 instead of infinity at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def _per_example(flipped: Array | bool, logits: Array) -> Array:
    """A mask [B] in the rank of logits [B, ...]: [B] against [B, 1] would give [B, B]."""
    flipped = jnp.asarray(flipped)
    return flipped.reshape(flipped.shape + (1,) * (logits.ndim - 1)) if flipped.ndim else flipped


def _least_squares(logits: Array, targets: Array | float) -> Array:
    return jnp.square(logits - targets)


def _hinge(logits: Array, targets: Array | float) -> Array:
    return jnp.where(jnp.asarray(targets) > 0.5, jax.nn.relu(1 - logits), jax.nn.relu(1 + logits))


def _wasserstein(logits: Array, targets: Array | float) -> Array:
    return jnp.where(jnp.asarray(targets) > 0.5, -logits, logits)


_LOSSES = {  # name: (fool, discriminate, boundary, takes soft targets)
    "non_saturating": (lambda x: jax.nn.softplus(-x), binary_cross_entropy, 0.0, True),
    "saturating": (lambda x: -jax.nn.softplus(x), binary_cross_entropy, 0.0, True),
    "least_squares": (lambda x: _least_squares(x, 1.0), _least_squares, 0.5, True),
    "hinge": (jnp.negative, _hinge, 0.0, False),
    "wasserstein": (jnp.negative, _wasserstein, 0.0, False),
}
