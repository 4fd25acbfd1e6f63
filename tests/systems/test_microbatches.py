"""`config.microbatches` makes the update of the whole batch where nothing mixes its examples, and
is refused, with the reason, where something does."""

import jax
import numpy as np
import pytest

from gan_jax.core import grads
from gan_jax.core.system import Stage
from gan_jax.errors import UserError
from tests.helpers import small_steps

PARTS = 2
# of every system what a batch may be divided with: spectral norm, penalties, groups of images,
# random labels, several discriminator steps, both orders of updates
ALIKE = {
    "gan": dict(
        model__gen__name="dense", model__disc__batch_norm="off", loss__gradient_penalty=10.0,
        loss__r1=1.0, loss__flip=0.25, loss__reconstruction=1.0, loss__reconstruction_norm="l2",
        loss__orthogonal=1e-2, model__disc__minibatch_stddev=2, loss__order="discriminator_first",
    ),
    "pix2pix": dict(
        model__gen__norm="instance", model__gen__dropout=0.0, loss__order="discriminator_first",
        loss__gradient_penalty=10.0,
    ),
    "progan": dict(model__minibatch_stddev=4),
    "progan joint": dict(model__minibatch_stddev=2, loss__order="joint"),
    "classifier": dict(
        model__name="warpgan", model__width=16, model__disc_width=2, model__bottleneck=8,
    ),
    "warpgan": dict(loss__style_reconstruction=10.0),
}  # fmt: skip


def small(case: str, parts: int) -> small_steps.Small:
    name = case.split()[0]
    side = 32 if case == "classifier" else 0  # as large as WarpGAN's trunk needs
    return small_steps.made(name, side=side, microbatches=parts, **ALIKE[case])


@pytest.mark.parametrize("case", ALIKE)
def test_parts_of_a_batch_make_the_update_of_the_whole(case):
    """In doubles: gradients, metrics, statistics and states after one step."""
    ends = []
    with jax.enable_x64(True):
        for parts in (1, PARTS):
            made = small(case, parts)
            made = made._replace(batch=small_steps.doubles(made.batch))
            ends.append(small_steps.stepper(made)(small_steps.doubles(made.state)))
    whole, divided = ends
    for net, gradient in whole.grads.items():
        assert np.linalg.norm(gradient) > 1e-6, net
        away = np.linalg.norm(divided.grads[net] - gradient)
        assert away <= 1e-12 * max(np.linalg.norm(gradient), 1), net
    assert whole.metrics.keys() == divided.metrics.keys()
    for key, value in whole.metrics.items():
        np.testing.assert_allclose(divided.metrics[key], value, rtol=1e-10, atol=1e-12, err_msg=key)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
        whole.state.nets, divided.state.nets,
    )  # fmt: skip


MIXED = {
    "batch norm of a GAN": ("gan", {}, "batch norm, in disc and gen,"),
    "batch norm of a discriminator": (
        "gan", dict(model__gen__name="dense", model__disc__batch_norm="on"), "batch norm, in disc,",
    ),
    "discrimination": (
        "gan", ALIKE["gan"] | dict(model__disc__minibatch_discrimination=4),
        "minibatch_discrimination compares all images",
    ),
    "mode seeking": (
        "gan", ALIKE["gan"] | dict(loss__mode_seeking=1.0), "mode_seeking is a ratio",
    ),
    "groups": (
        "gan", ALIKE["gan"] | dict(model__disc__minibatch_stddev=8),
        "the 4 images of a part, .* do not divide into groups of 8",
    ),
    "groups of a ProGAN": ("progan", dict(model__minibatch_stddev=8), "groups of 8"),
    "batch norm of a translator": (
        "pix2pix", dict(model__gen__norm="batch"), "batch norm, in gen,",
    ),
    "batch norm of a classifier": ("classifier", {}, "batch norm, in classifier,"),
}  # fmt: skip


@pytest.mark.parametrize("case", MIXED)
def test_what_mixes_the_examples_of_a_batch_is_refused(case):
    name, settings, why = MIXED[case]
    with pytest.raises(
        UserError, match=rf"config\.microbatches=2: .*{why}.*; set it to 1"
    ) as found:
        small_steps.made(name, microbatches=2, **settings)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", small_steps.SMALL)
def test_parts_divide_the_batch(name):
    with pytest.raises(UserError, match=r"config\.microbatches=3: must divide .*=8.*; set .*=1"):
        small_steps.made(name, microbatches=3)


def test_devices_share_every_part():
    stages = [Stage(8, 16, 0, 10)]
    grads.check_shared(2, stages, 8)
    grads.check_shared(1, [Stage(8, 4, 0, 10)], 8)  # another check is of whole batches
    with pytest.raises(UserError, match=r"config\.microbatches=4: the 16 images .* by 8 devices"):
        grads.check_shared(4, stages, 8)
