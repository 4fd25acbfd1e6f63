"""Strided and transposed convolutions, forward and backward, in the forms of models/convolution.py.

First those of DCGANs, then all of pix2pix's U-Net at 256 px, for batches of 1 and 4.
"""

from functools import partial

import jax
import numpy as np

from benchmarks.details import Detail, beside_torch, timed
from benchmarks.timing import Contender
from gan_jax.models import convolution

FORMS = tuple(form for form in convolution.FORMS if form != "auto")
# kernel 4, stride 2, padding 1 everywhere; batch, height = width, channels in and out
STRIDED = ((64, 28, 1, 64), (64, 14, 64, 128), (4, 64, 64, 128))
TRANSPOSED = ((64, 7, 128, 64), (64, 14, 64, 1), (4, 32, 128, 64))
CHANNELS = (3, 64, 128, 256, 512, 512, 512, 512, 512)  # of the U-Net, level by level
DOWN = tuple((256 >> i, CHANNELS[i], CHANNELS[i + 1]) for i in range(8))
UP = tuple((2**i, CHANNELS[8 - i] * (1 if i == 0 else 2), CHANNELS[7 - i]) for i in range(7))


def arrays(transposed: bool, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Input [B, H, W, C], kernel [4, 4, C, O] and the gradient of the output."""
    batch, size, channels, features = shape
    rng, out = np.random.default_rng(0), size * 2 if transposed else size // 2
    shapes = (
        (batch, size, size, channels),
        (4, 4, channels, features),
        (batch, out, out, features),
    )
    return tuple(rng.normal(size=s).astype(np.float32) for s in shapes)


def make(transposed: bool, shape: tuple[int, ...], small: bool) -> dict[str, Contender]:
    """Our forms and PyTorch's convolution: output and the gradients of input and kernel."""
    shape = (min(shape[0], 2), *shape[1:2], *(min(n, 16) for n in shape[2:])) if small else shape
    given = arrays(transposed, shape)
    calls = {form: _ours(transposed, form, given) for form in FORMS}
    found = {form: timed(call) for form, call in calls.items()}
    if beside_torch():
        from benchmarks.contenders import convolutions

        expected, *_ = calls[FORMS[0]]()
        for layout in (False, True):
            call = convolutions.call(transposed, given, channels_last=layout)
            close = dict(rtol=1e-2, atol=1e-3 * float(np.abs(expected).max()))
            np.testing.assert_allclose(convolutions.output(call()), expected, **close)
            found["PyTorch, channels last" if layout else "PyTorch"] = Contender(call)
    return found


def _ours(transposed: bool, form: str, given: tuple[np.ndarray, ...]):
    def forward(x, kernel):
        if transposed:
            return convolution.conv_transpose(x, kernel, 2, 1, form=form)
        return convolution.conv(x, kernel, 2, 1, form)

    @jax.jit
    def both(x, kernel, pull):
        # the output is returned: nothing else needs it, and XLA would leave the forward pass out
        y, gradients = jax.vjp(forward, x, kernel)
        return y, gradients(pull)

    return partial(both, *jax.device_put(given))


def _details():
    for transposed, shapes in ((False, STRIDED), (True, TRANSPOSED)):
        for shape in shapes:
            kind = "transposed" if transposed else "strided"
            title = "{}: {} images of {} px, {} to {} channels".format(kind, *shape)
            yield Detail(
                f"{kind}_{'_'.join(map(str, shape))}", "convolutions", title,
                partial(make, transposed, shape), torch=True,
            )  # fmt: skip
    for batch in (1, 4):
        for way, layers in (("down", DOWN), ("up", UP)):
            for size, channels, features in layers:
                title = f"U-Net {way}, {batch} x {size} px, {channels} to {features}"
                yield Detail(
                    f"unet_{way}_{batch}_{size}", "unet_layers", title,
                    partial(make, way == "up", (batch, size, channels, features)), torch=True,
                )  # fmt: skip


DETAILS = tuple(_details())
