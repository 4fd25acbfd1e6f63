"""Convolutions with PyTorch's arithmetic, in the form that is fast on the backend at hand.

XLA on a CPU runs a convolution fast when its window fits into its input and slowly, by a factor of
10 to 250, when the window is larger: it then swaps the two, and no fast kernel knows the reversed
result. Derivatives as JAX makes them contain such convolutions: the weight gradient of a transposed
convolution, and of every convolution inside a gradient penalty. The form "explicit" avoids them.

A convolution is the trilinear form sum(y * conv(x, k)) seen from y. Seen from x it is the
transposed convolution, seen from k the weight gradient, and every derivative of any of the three,
of any order, is again one of the three. Each is spelled here as one convolution of the fast kind.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

FORMS = ("auto", "native", "explicit")


class Geometry(NamedTuple):
    """What the shapes of two of the three arrays leave open about the third."""

    strides: int
    padding: int  # zeros on every side of the large image
    image: tuple[int, int]  # height and width of the large image
    taps: tuple[int, int]  # height and width of the kernel


def conv(x: Array, kernel: Array, strides: int, padding: int, form: str = "auto") -> Array:
    """torch.nn.functional.conv2d on NHWC: x [B, H, W, C], kernel [kh, kw, C, O] → [B, H', W', O].

    `padding` zeros go on every side; H' = (H + 2*padding - kh) // strides + 1.
    "explicit" knows reverse-mode derivatives only, of any order.
    """
    x, kernel = _promote(x, kernel)
    if _explicit(form):
        return _shrink(Geometry(strides, padding, x.shape[1:3], kernel.shape[:2]), x, kernel)
    sides = ((padding, padding), (padding, padding))
    return lax.conv_general_dilated(
        x, kernel, (strides, strides), sides, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def conv_transpose(
    x: Array,
    kernel: Array,
    strides: int,
    padding: int,
    output_padding: int = 0,
    form: str = "auto",
) -> Array:
    """torch.nn.functional.conv_transpose2d on NHWC: x [B, H, W, C], kernel [kh, kw, C, O].

    H' = (H - 1)*strides - 2*padding + kh + output_padding. The kernel is PyTorch's [C, O, kh, kw]
    transposed by (2, 3, 0, 1), its taps in the same order.
    """
    x, kernel = _promote(x, kernel)
    taps = kernel.shape[:2]
    if _explicit(form):
        image = tuple(
            (n - 1) * strides - 2 * padding + k + output_padding
            for n, k in zip(x.shape[1:3], taps, strict=True)
        )
        return _grow(Geometry(strides, padding, image, taps), x, kernel.swapaxes(2, 3))
    sides = [(k - 1 - padding, k - 1 - padding + output_padding) for k in taps]
    return lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), sides, (strides, strides),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip


def _promote(x: Array, kernel: Array) -> tuple[Array, Array]:
    dtype = jnp.result_type(x, kernel)
    return x.astype(dtype), kernel.astype(dtype)


def _explicit(form: str) -> bool:
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; accepted: {', '.join(FORMS)}")
    return form == "explicit" or (form == "auto" and jax.default_backend() == "cpu")


# x [B, *image, I] is the large image, y [B, H', W', O] the small one, kernel [*taps, I, O].


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _shrink(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """y: the convolution."""
    p = geometry.padding
    return _correlate(
        x, kernel, [(p, p), (p, p)], ("NHWC", "HWIO", "NHWC"), strides=geometry.strides
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _grow(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """x: the transposed convolution."""
    s, p, image, taps = geometry
    sides = []
    for n, k, size in zip(y.shape[1:3], taps, image, strict=True):
        low = k - 1 - p
        sides.append((low, size + k - 2 - (n - 1) * s - low))
    return _correlate(y, kernel[::-1, ::-1], sides, ("NHWC", "HWOI", "NHWC"), dilation=s)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _taps(geometry: Geometry, x: Array, y: Array) -> Array:
    """kernel: the weight gradient, a convolution over the batch whose window is the small image."""
    s, p, image, taps = geometry
    sides = [
        (p, k + (n - 1) * s - size - p)
        for n, k, size in zip(y.shape[1:3], taps, image, strict=True)
    ]
    return _correlate(x, y, sides, ("CHWN", "IHWO", "HWNC"), window_dilation=s)


def _correlate(
    x: Array,
    window: Array,
    sides: list[tuple[int, int]],
    layout: tuple[str, str, str],
    strides: int = 1,
    dilation: int = 1,
    window_dilation: int = 1,
) -> Array:
    """One convolution, its zeros written out where the window would not fit into the bare input."""
    sizes = [(n - 1) * dilation + 1 for n in x.shape[1:3]]
    windows = [(n - 1) * window_dilation + 1 for n in window.shape[1:3]]
    if layout[1].startswith("HW"):
        windows = list(window.shape[:2])
    if min(sum(sides, ())) < 0 or any(w > n for w, n in zip(windows, sizes, strict=True)):
        zeros = [(low, high, dilation - 1) for low, high in sides]
        x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *zeros, (0, 0, 0)])
        sides, dilation = [(0, 0), (0, 0)], 1
    return lax.conv_general_dilated(
        x, window, (strides, strides), sides, (dilation, dilation),
        (window_dilation, window_dilation), dimension_numbers=layout,
    )  # fmt: skip


def _saving(function):
    return lambda geometry, a, b: (function(geometry, a, b), (a, b))


_shrink.defvjp(
    _saving(_shrink),
    lambda geometry, saved, y: (_grow(geometry, y, saved[1]), _taps(geometry, saved[0], y)),
)
_grow.defvjp(
    _saving(_grow),
    lambda geometry, saved, x: (_shrink(geometry, x, saved[1]), _taps(geometry, x, saved[0])),
)
_taps.defvjp(
    _saving(_taps),
    lambda geometry, saved, kernel: (
        _grow(geometry, saved[1], kernel),
        _shrink(geometry, saved[0], kernel),
    ),
)
