"""WarpGAN's losses in closed forms, for a discriminator that knows nothing, or everything."""

from types import SimpleNamespace

import numpy as np

from gan_jax.core.system import Net
from gan_jax.systems import warpgan_losses
from gan_jax.systems.warpgan_losses import Answer, Pairs, Rendered

CLASSES = 5
WEIGHTS = SimpleNamespace(
    identity_weight=1.0, patch_weight=2.0, reconstruction_weight=10.0, style_reconstruction=0.5
)
LABELS = (np.array([1, 4]), np.array([0, 2]), np.array([0, 2]))


def certain(labels: np.ndarray, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Logits [*shape, count] that leave no doubt about `labels`."""
    return 100 * np.broadcast_to(np.eye(count)[labels], (*shape, count)).astype(np.float32)


def knowing() -> Answer:
    """A discriminator that is right about all of A, B and BA."""
    return Answer(
        [certain(np.array(k), 3, (2, 4, 4)) for k in range(3)],
        [certain(LABELS[k] + k * CLASSES, 3 * CLASSES, (2,)) for k in range(3)],
    )


def guessing() -> Answer:
    return Answer([np.zeros((2, 4, 4, 3))] * 3, [np.zeros((2, 3 * CLASSES))] * 3)


def test_the_discriminators_loss_is_of_three_kinds_of_images():
    found = warpgan_losses.disc_losses(WEIGHTS, CLASSES, guessing(), LABELS)
    np.testing.assert_allclose(found["loss/identity_disc"], 3 * np.log(3 * CLASSES), rtol=1e-6)
    np.testing.assert_allclose(found["loss/patch_disc"], 2 * 3 * np.log(3), rtol=1e-6)
    found = warpgan_losses.disc_losses(WEIGHTS, CLASSES, knowing(), LABELS)
    assert max(found.values()) < 1e-6


def test_the_generator_wants_caricatures_of_its_photos_identities():
    image = np.zeros((2, 4, 4, 3))
    pairs = Pairs(image, image, np.zeros((2, 8)), LABELS)
    made = Rendered(image + 0.25, image - 0.5, image, image, np.zeros((2, 1, 2)))
    fooled = knowing()
    fooled.patches[2] = certain(np.array(0), 3, (2, 4, 4))
    fooled.identities[2] = certain(LABELS[1], 3 * CLASSES, (2,))
    found = warpgan_losses.gen_losses(WEIGHTS, CLASSES, fooled, pairs, made)
    assert found["loss/identity_gen"] < 1e-6
    assert found["loss/patch_gen"] < 1e-6
    np.testing.assert_allclose(found["loss/reconstruction_caricature"], 10 * 0.25)
    np.testing.assert_allclose(found["loss/reconstruction_photo"], 10 * 0.5)


def test_accuracies_are_of_generated_patches_and_photos():
    found = warpgan_losses.accuracies(CLASSES, knowing(), LABELS)
    assert set(map(float, found.values())) == {1.0}
    wrong = knowing()
    wrong.identities[1] = wrong.identities[0]
    found = warpgan_losses.accuracies(CLASSES, wrong, LABELS)
    assert (found["accuracy/patch_generated"], found["accuracy/identity_photo"]) == (1, 0)


def test_weight_decay_is_of_the_kernels_of_networks_with_a_rate():
    params = {"layer": {"kernel": np.full((2, 3), 2.0), "bias": np.full(3, 5.0)}}
    nets = {name: Net(params=params, stats={}, opt={}) for name in ("gen", "disc")}
    assert warpgan_losses.weight_decay({"gen": 0.1}, nets) == 0.5 * np.float32(0.1) * 24
