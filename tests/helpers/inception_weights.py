"""Weights of an Inception network of two layers, so that files are written in no time."""

import numpy as np

from gan_jax.models import inception as network

FIRST = "Conv2d_1a_3x3"
SMALL = {FIRST: network.Layer((3, 3), 3, 32), "Mixed_5b.branch1x1": network.Layer((1, 1), 192, 64)}


def assert_same_params(found, expected) -> None:
    """Bit for bit."""
    assert sorted(found) == sorted(expected)
    for layer, leaves in expected.items():
        assert sorted(found[layer]) == ["bias", "kernel"]
        for leaf, array in leaves.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(found[layer][leaf], array, strict=True, err_msg=layer)


def small_tensors(scale: bool = True) -> dict[str, np.ndarray]:
    """A state dict of the layers in SMALL and the logits."""
    random = np.random.default_rng(0)
    found = {}
    for layer, (kernel, inputs, outputs) in SMALL.items():
        found[f"{layer}.conv.weight"] = random.standard_normal((outputs, inputs, *kernel))
        if scale:
            found[f"{layer}.bn.weight"] = random.uniform(0.5, 2, outputs)
        found[f"{layer}.bn.bias"] = random.standard_normal(outputs)
        found[f"{layer}.bn.running_mean"] = random.standard_normal(outputs)
        found[f"{layer}.bn.running_var"] = random.uniform(0.5, 2, outputs)
    found["fc.weight"], found["fc.bias"] = random.standard_normal((1008, 2048)), np.arange(1008.0)
    return {name: array.astype(np.float32) for name, array in found.items()}
