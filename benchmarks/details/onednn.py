"""Convolutions of U-Nets by oneDNN, where it is in use, by XLA and by PyTorch."""

from functools import partial

import numpy as np

from benchmarks.details import Detail, beside_torch, timed, trained
from benchmarks.step import PLAIN
from benchmarks.timing import Contender
from gan_jax import backend
from gan_jax.models import convolution
from gan_jax.ops import onednn

# kernel 3, stride 1, padding 1; batch, height = width, channels in and out
SHAPES = ((4, 64, 64, 64), (4, 64, 192, 64), (32, 16, 128, 128), (2, 8, 16, 16))


def make(shape: tuple[int, ...], small: bool) -> dict[str, Contender]:
    """The output, and the gradients of input and kernel."""
    batch, size, inputs, outputs = (min(n, 16) for n in shape) if small else shape
    random = np.random.default_rng(0)
    sizes = ((batch, size, size, inputs), (3, 3, inputs, outputs), (batch, size, size, outputs))
    given = tuple(random.normal(size=s).astype(np.float32) for s in sizes)
    *inputs, pull = given
    call = trained(_convolved, True, inputs, pull)
    expected = np.asarray(call()[0])
    found = {"gan_jax": timed(call)}
    if onednn.in_use():
        with backend.plain_programs():
            plain = trained(lambda *a: _convolved(*a), True, inputs, pull)
            np.testing.assert_allclose(plain()[0], expected, rtol=1e-3, atol=1e-3)
        found[PLAIN] = timed(plain)
    if beside_torch():
        from benchmarks.contenders import convolutions

        for layout in (False, True):
            call = convolutions.call(False, given, channels_last=layout, strides=1)
            np.testing.assert_allclose(convolutions.output(call()), expected, rtol=1e-3, atol=1e-3)
            found["PyTorch, channels last" if layout else "PyTorch"] = Contender(call)
    return found


def _convolved(x, kernel):
    return convolution.conv(x, kernel, 1, 1)


DETAILS = tuple(
    Detail(
        f"onednn_{'x'.join(map(str, shape))}", "onednn",
        f"3x3 convolution and gradients, batch {shape[0]}, {shape[1]} px, {shape[2]} → {shape[3]}",
        partial(make, shape), torch=True,
    )
    for shape in SHAPES
)  # fmt: skip
