"""The metrics' Inception network: uint8 images of 299 px to 2048 features, without the resize.

As the metrics run it, and with XLA's own choice of kernels.
"""

from functools import partial

import jax
import numpy as np

from benchmarks.details import Detail, beside_torch
from benchmarks.timing import Contender
from gan_jax.models import convolution, inception

BATCHES = (16, 32)


def random_params(seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Weights of the true shapes that keep activations near 1."""
    random = np.random.default_rng(seed)
    params = {}
    for name, (kernel, inputs, outputs) in inception.layers().items():
        fan_in = kernel[0] * kernel[1] * inputs
        shape = (*kernel, inputs, outputs)
        params[name] = {
            "kernel": (random.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32),
            "bias": np.zeros(outputs, np.float32),
        }
    return params


def jax_features(params, pixels: np.ndarray, options: bool = True):
    """Ours: pixels uint8 [B, 299, 299, 3] → features on the host. `options`: as the metrics run it,
    or with XLA's own choice of kernels."""
    params = jax.device_put(params)

    def features(params, pixels):
        x = (pixels.astype(np.float32) - 128) / 128
        return inception.apply(params, x, ("2048",))["2048"]

    run = jax.jit(
        features, compiler_options=convolution.compiler_options(products=False) if options else None
    )
    return lambda: np.asarray(run(params, pixels))


def make(batch: int, small: bool) -> dict[str, Contender]:
    """Ours with both choices of kernels, and PyTorch's."""
    shape = (1 if small else batch, inception.SIDE, inception.SIDE, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    params = random_params()
    calls = {
        "gan_jax": jax_features(params, pixels),
        "XLA's choice": jax_features(params, pixels, options=False),
    }
    if beside_torch():
        from benchmarks.contenders import inception as contender

        for last in (False, True):
            name = "PyTorch, channels last" if last else "PyTorch"
            calls[name] = contender.features(params, pixels, channels_last=last)
            ours, theirs = calls["gan_jax"](), calls[name]()
            # the times can be compared only if the networks are the same
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())
    return {name: Contender(call) for name, call in calls.items()}


DETAILS = tuple(
    Detail(
        f"inception_{batch}", "inception", f"Inception features of {batch} images",
        partial(make, batch), batch, torch=True,
    )
    for batch in BATCHES
)  # fmt: skip
