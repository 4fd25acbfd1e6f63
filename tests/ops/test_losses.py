"""Adversarial losses: values by hand, gradients where the forms differ, smoothing and flips."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.ops import losses

LN2 = np.log(2.0)
LN3 = np.log(3.0)  # σ(ln 3) = 3/4

# logits 0 and ln 3, worked out by hand: -log σ = ln 2, ln 4/3; -log(1 - σ) = ln 2, ln 4
VALUES = {  # name: (generator, real, fake)
    "non_saturating": (
        (LN2 + np.log(4 / 3)) / 2,
        (LN2 + np.log(4 / 3)) / 2,
        (LN2 + np.log(4.0)) / 2,
    ),
    "saturating": (
        -(LN2 + np.log(4.0)) / 2,
        (LN2 + np.log(4 / 3)) / 2,
        (LN2 + np.log(4.0)) / 2,
    ),
    "least_squares": ((1 + (LN3 - 1) ** 2) / 2, (1 + (LN3 - 1) ** 2) / 2, LN3**2 / 2),
    "hinge": (-LN3 / 2, 0.5, (1 + 1 + LN3) / 2),
    "wasserstein": (-LN3 / 2, -LN3 / 2, LN3 / 2),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_worked_out_by_hand(name):
    loss = losses.adversarial(name)
    logits = jnp.array([[0.0], [LN3]])  # [B, 1]
    found = jax.jit(lambda x: [loss.generator(x), loss.real(x), loss.fake(x)])(logits)
    np.testing.assert_allclose(found, VALUES[name], rtol=1e-6)


@pytest.mark.parametrize("name", VALUES)
def test_both_sides_pull_the_logits_in_opposite_directions(name):
    loss = losses.adversarial(name)
    sides = (loss.generator, loss.real, loss.fake)
    slopes = jax.jit(lambda x: [jax.grad(side)(x) for side in sides])(jnp.array([0.2, 0.3]))
    generator, real, fake = map(np.asarray, slopes)
    assert (generator < 0).all()  # descent raises D(fake)
    assert (real < 0).all()
    assert (fake > 0).all()


def test_saturating_gradient_vanishes_where_the_discriminator_is_sure():
    sure = jnp.array([-20.0])  # the discriminator calls the fake a fake
    saturating = jax.grad(losses.adversarial("saturating").generator)(sure)[0]
    non_saturating = jax.grad(losses.adversarial("non_saturating").generator)(sure)[0]
    np.testing.assert_allclose(saturating, -np.exp(-20.0), rtol=1e-4)
    np.testing.assert_allclose(non_saturating, -1, rtol=1e-6)


def test_cross_entropy_is_finite_and_has_the_right_slope_at_extremes_and_at_zero():
    value_and_slope = jax.value_and_grad(losses.binary_cross_entropy)
    value_and_slope = jax.jit(jax.vmap(value_and_slope, (0, None)))
    logits = jnp.array([-200.0, -30.0, 0.0, 30.0, 200.0])
    for target in (0.0, 0.9, 1.0):
        values, slopes = value_and_slope(logits, target)
        x = np.asarray(logits, np.float64)
        expected = target * np.logaddexp(0, -x) + (1 - target) * np.logaddexp(0, x)
        np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-30)
        np.testing.assert_allclose(slopes, 1 / (1 + np.exp(-x)) - target, atol=1e-6)


@pytest.mark.parametrize("name", ["non_saturating", "saturating", "least_squares"])
def test_one_sided_smoothing_moves_the_optimum_of_real_logits_only(name):
    plain, smooth = losses.adversarial(name), losses.adversarial(name, real_target=0.9)
    optimum = jnp.array([0.9 if name == "least_squares" else np.log(9.0)])  # σ(ln 9) = 0.9
    np.testing.assert_allclose(jax.grad(smooth.real)(optimum), 0, atol=1e-6)
    assert (jax.grad(plain.real)(optimum) < -0.05).all()
    assert smooth.fake(optimum) == plain.fake(optimum)
    assert smooth.generator(optimum) == plain.generator(optimum)


@pytest.mark.parametrize("name", ["hinge", "wasserstein"])
def test_losses_without_soft_targets_refuse_smoothing(name):
    with pytest.raises(UserError, match=r"config\.loss\.real_target.*0\.9.*" + name):
        losses.adversarial(name, real_target=0.9)


@pytest.mark.parametrize("target", [0.5, 0.0, 1.1, float("nan")])
def test_a_real_target_outside_its_range_is_an_error(target):
    with pytest.raises(UserError, match=r"config\.loss\.real_target"):
        losses.adversarial("non_saturating", real_target=target)


def test_an_unknown_loss_names_the_known_ones():
    with pytest.raises(UserError, match=r"'softmax'.*non_saturating.*wasserstein"):
        losses.adversarial("softmax")


@pytest.mark.parametrize(
    ("name", "shape"), [*((name, (4,)) for name in VALUES), ("hinge", (4, 1)), ("hinge", (4, 2, 1))]
)
def test_flipped_examples_play_the_other_role(name, shape):
    loss = losses.adversarial(name)

    @jax.jit
    def both_ways(logits, flipped):
        kept, turned = logits[1:3], logits[::3]
        real = (loss.real(kept) + loss.fake(turned)) / 2
        fake = (loss.fake(kept) + loss.real(turned)) / 2
        found, slopes = jax.value_and_grad(loss.real)(logits, flipped)
        return (found, real), (loss.fake(logits, flipped), fake), slopes

    logits = np.random.default_rng(0).uniform(0.1, 0.9, shape).astype(np.float32)
    *pairs, slopes = both_ways(logits, np.array([True, False, False, True]))
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    slopes = np.asarray(slopes)
    assert (slopes[::3] > 0).all()  # a flipped real is pushed down
    assert (slopes[1:3] < 0).all()


def test_flips_come_as_often_as_asked():
    flips = losses.flip_labels(jax.random.key(3), 4000, 0.1)
    assert flips.shape == (4000,)
    assert flips.dtype == bool
    assert abs(float(flips.mean()) - 0.1) < 0.02
    assert not losses.flip_labels(jax.random.key(3), 100, 0.0).any()


def test_accuracies_use_the_boundary_of_the_loss():
    logits = jnp.array([-1.0, 0.2, 0.4, 0.7])
    hinge, squares = losses.adversarial("hinge"), losses.adversarial("least_squares")
    assert (hinge.real_accuracy(logits), hinge.fake_accuracy(logits)) == (0.75, 0.25)
    assert (squares.real_accuracy(logits), squares.fake_accuracy(logits)) == (0.25, 0.75)
    undecided = jnp.zeros(4)
    assert hinge.real_accuracy(undecided) == hinge.fake_accuracy(undecided) == 0


def test_dtypes_follow_the_logits():
    loss = losses.adversarial("non_saturating", real_target=0.9)
    for dtype in (jnp.bfloat16, jnp.float32):
        logits, flipped = jax.ShapeDtypeStruct((2, 1), dtype), jax.ShapeDtypeStruct((2,), bool)
        assert jax.eval_shape(loss.real, logits, flipped).dtype == dtype
        assert jax.eval_shape(loss.generator, logits).dtype == dtype


def test_reconstruction_distances():
    fake, real = jnp.array([[0.0, 0.0], [1.0, 1.0]]), jnp.array([[3.0, 4.0], [1.0, 1.0]])
    assert losses.l1(fake, real) == 7 / 4
    assert losses.mse(fake, real) == 25 / 4
    assert losses.reconstruction(fake, real, "l1") == 7 / 4
    np.testing.assert_allclose(
        losses.reconstruction(fake, real, "l2"), np.sqrt(12.5) / 2, rtol=1e-6
    )
    slopes = jax.jit(jax.grad(lambda x: losses.reconstruction(x, real, "l2")))(fake)
    slopes = np.asarray(slopes)
    assert (slopes[0] < 0).all()  # towards the real image
    np.testing.assert_array_equal(slopes[1], 0)  # already there: 0, not nan
    with pytest.raises(UserError, match="l1 and l2"):
        losses.reconstruction(fake, real, "l3")
