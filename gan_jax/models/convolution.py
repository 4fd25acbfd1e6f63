"""Convolutions with PyTorch's arithmetic, in the form that is fast on the backend at hand.

XLA on a CPU runs a convolution fast if its window fits into its input, and 10 to 250 times more
slowly if the window is larger: it then swaps the two, and has no fast kernel for the reversed
result. JAX's own derivatives contain such convolutions: the weight gradient of a transposed
convolution, and of every convolution inside a gradient penalty. The form "explicit" avoids them.

A convolution is the trilinear form sum(y * conv(x, k)) seen from y. Seen from x it is the
transposed convolution, seen from k the weight gradient, and every derivative of any of the three,
of any order, is again one of the three. Each is spelled here as one convolution of the fast kind,
or, where the small image has few pixels and the kernel is large, as one matrix product.
"""

from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from gan_jax import backend
from gan_jax.ops import onednn

FORMS = ("auto", "native", "explicit")
# A product of matrices is the faster form for at most this many pixels of the small image, over the
# batch, and a kernel of at least this size (inputs times outputs): `make bench SYSTEM=unet_layers`
FEW_PIXELS = 256
LARGE_KERNEL = 2**16
FEW_OUTPUTS = 4  # and for the weight gradient of stride 1 with at most this many channels in y


class Geometry(NamedTuple):
    """What the shapes of two of the three arrays do not determine about the third."""

    strides: int
    padding: int  # zeros on every side of the large image
    image: tuple[int, int]  # height and width of the large image
    taps: tuple[int, int]  # height and width of the kernel
    swapped: bool = False  # the kernel's last two axes are those of a transposed convolution
    foreign: bool = False  # oneDNN may compute it; kept here so that jax's traces depend on it


def conv(x: Array, kernel: Array, strides: int, padding: int, form: str = "auto") -> Array:
    """torch.nn.functional.conv2d on NHWC: x [B, H, W, C], kernel [kh, kw, C, O] → [B, H', W', O].

    `padding` zeros are added on every side; H' = (H + 2*padding - kh) // strides + 1. `form` is one
    of FORMS; "explicit" only has reverse-mode derivatives, of any order.
    """
    x, kernel = _promote(x, kernel)
    if _explicit(form):
        seen = Geometry(strides, padding, x.shape[1:3], kernel.shape[:2], foreign=onednn.in_use())
        return _shrink(seen, x, kernel)
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
        seen = Geometry(strides, padding, image, taps, swapped=True, foreign=onednn.in_use())
        return _grow(seen, x, kernel)
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
    return form == "explicit" or (form == "auto" and backend.kind() == "cpu")


def compiler_options(products: bool) -> dict[str, str] | None:
    """`compiler_options` for a jitted function of stride-1 convolutions on a CPU; None elsewhere.

    jaxlib 0.10 hands every convolution to the library YNNPACK, although XLA's own kernels are 1.3
    to 7 times as fast on the maps of an Inception network (benchmarks/details/inception.py), and
    at weight gradients of maps of 32 px and more. With `products` YNNPACK keeps the products of
    matrices and the sums, such as those for biases (`make bench SYSTEM=progan`) and of attention.
    pix2pix, most of whose maps are small and strided, is faster without these options.
    """
    kept = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE" if products else ""
    options = {"xla_cpu_experimental_ynn_fusion_type": kept}
    return options if backend.kind() == "cpu" and _known(**options) else None


@cache
def _known(**options: str) -> bool:
    """Whether XLA has these options: another version may not."""
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(0)
    except jax.errors.JaxRuntimeError:
        return False
    return True


# x [B, *image, I] is the large image, y [B, H', W', O] the small one, kernel [*taps, I, O], or with
# `swapped` [*taps, O, I]: a large kernel is not turned around, which would take as long as its use


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _shrink(geometry: Geometry, x: Array, kernel: Array) -> Array:
    """y: the convolution."""
    s, p, image, taps, swapped, _ = geometry
    size = tuple((n + 2 * p - k) // s + 1 for n, k in zip(image, taps, strict=True))
    if _few(x.shape[0], size, *kernel.shape[2:]):
        columns, kernel = _columns(geometry, x, size), _flat(kernel)  # [taps, pixels, I]
        matrix = (lambda t: kernel[t].T) if swapped else (lambda t: kernel[t])
        # a loop, because one product for all taps and then a sum is several times slower
        y = lax.fori_loop(
            1, len(kernel), lambda t, y: y + columns[t] @ matrix(t), columns[0] @ matrix(0)
        )
        return y.reshape(x.shape[0], *size, -1)
    if problem := _problem("forward", geometry, x, size, _features(geometry, kernel)):
        return onednn.convolve(problem, x, kernel)
    layout = ("NHWC", "HWOI" if swapped else "HWIO", "NHWC")
    return _correlate(x, kernel, [(p, p), (p, p)], layout, strides=s)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _grow(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """x: the transposed convolution."""
    s, p, image, taps, swapped, _ = geometry
    if _few(y.shape[0], y.shape[1:3], *kernel.shape[2:]):
        pixels = jnp.broadcast_to(_rows(y), (kernel.shape[0] * kernel.shape[1], *_rows(y).shape))
        columns = jnp.einsum("tno,toi->tni" if swapped else "tno,tio->tni", pixels, _flat(kernel))
        return _fold(geometry, columns, y.shape[:3])
    if problem := _problem("data", geometry, y, y.shape[1:3], _features(geometry, kernel)):
        return onednn.convolve(problem, y, kernel)
    if s > 1 and all(k % s == 0 and (n + 2 * p) % s == 0 for n, k in zip(image, taps, strict=True)):
        return _grow_phases(geometry, y, kernel)
    sides = []
    for n, k, size in zip(y.shape[1:3], taps, image, strict=True):
        low = k - 1 - p
        sides.append((low, size + k - 2 - (n - 1) * s - low))
    layout = ("NHWC", "HWIO" if swapped else "HWOI", "NHWC")
    return _correlate(y, kernel[::-1, ::-1], sides, layout, dilation=s)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _taps(geometry: Geometry, x: Array, y: Array) -> Array:
    """kernel: the weight gradient, a convolution over the batch whose window is the small image."""
    s, p, image, taps, swapped, _ = geometry
    if _few(y.shape[0], y.shape[1:3], x.shape[3], y.shape[3]):
        columns = _columns(geometry, x, y.shape[1:3])
        pixels = jnp.broadcast_to(_rows(y), (columns.shape[0], *_rows(y).shape))
        pair = (pixels, columns) if swapped else (columns, pixels)
        return jnp.einsum("tni,tno->tio", *pair).reshape(*taps, pair[0].shape[2], -1)
    if problem := _problem("weights", geometry, x, y.shape[1:3], (x.shape[3], y.shape[3])):
        return onednn.convolve(problem, x, y)
    if s == 1 and y.shape[3] <= FEW_OUTPUTS:
        kernel = _taps_of_few_outputs(geometry, x, y)
        return kernel.swapaxes(2, 3) if swapped else kernel
    sides = [
        (p, k + (n - 1) * s - size - p)
        for n, k, size in zip(y.shape[1:3], taps, image, strict=True)
    ]
    layout = ("CHWN", "IHWO", "HWCN" if swapped else "HWNC")
    return _correlate(x, y, sides, layout, window_dilation=s)


def _features(geometry: Geometry, kernel: Array) -> tuple[int, int]:
    """The channels of x and of y."""
    return kernel.shape[:1:-1] if geometry.swapped else kernel.shape[2:]


def _problem(
    kind: onednn.Kind,
    geometry: Geometry,
    image: Array,
    small: tuple[int, int],
    features: tuple[int, int],
) -> onednn.Problem | None:
    """What oneDNN is to compute; None if it is not. `image` is x or y, `small` the size of y,
    `features` the channels of x and of y."""
    inputs, outputs = features
    found = onednn.Problem(
        kind, image.dtype.name, image.shape[0], geometry.image, inputs, small, outputs,
        geometry.taps, geometry.strides, geometry.padding, geometry.swapped,
    )  # fmt: skip
    return found if geometry.foreign and onednn.takes(found) else None


def _flat(kernel: Array) -> Array:
    """[kh, kw, I, O] → [kh*kw, I, O]."""
    return kernel.reshape(-1, *kernel.shape[2:])


def _rows(y: Array) -> Array:
    """[B, H, W, C] → [B*H*W, C]."""
    return y.reshape(-1, y.shape[3])


def _taps_of_few_outputs(geometry: Geometry, x: Array, y: Array) -> Array:
    """`_taps` for stride 1 and few channels in y: y is copied once for each tap, so that a single
    product of matrices over all pixels of x is left."""
    _, p, _, taps, *_ = geometry
    x = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    free = [n - m for n, m in zip(x.shape[1:3], y.shape[1:3], strict=True)]
    moved = [
        jnp.pad(y, ((0, 0), (i, free[0] - i), (j, free[1] - j), (0, 0)))
        for i in range(taps[0])
        for j in range(taps[1])
    ]
    kernel = _rows(x).T @ _rows(jnp.concatenate(moved, axis=3))  # [I, kh*kw*O]
    return kernel.reshape(x.shape[3], *taps, y.shape[3]).transpose(1, 2, 0, 3)


def _grow_phases(geometry: Geometry, y: Array, kernel: Array) -> Array:
    """`_grow` without zeros between the pixels of y: one convolution of stride 1 computes the s*s
    phases of x as channels, which are then put in their places."""
    s, p, image, (kh, kw), swapped, _ = geometry
    kernel = kernel.swapaxes(2, 3) if swapped else kernel
    inputs, outputs = kernel.shape[2:]
    split = kernel.reshape(kh // s, s, kw // s, s, inputs, outputs).transpose(0, 2, 1, 3, 4, 5)
    window = split.reshape(kh // s, kw // s, s * s * inputs, outputs)
    sides = [(k // s - 1, k // s - 1) for k in (kh, kw)]
    phases = _correlate(y, window[::-1, ::-1], sides, ("NHWC", "HWOI", "NHWC"))
    batch, rows, columns, _ = phases.shape
    x = phases.reshape(batch, rows, columns, s, s, inputs).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(batch, rows * s, columns * s, inputs)
    return x[:, p : p + image[0], p : p + image[1]]


def _few(batch: int, size: tuple[int, ...], inputs: int, outputs: int) -> bool:
    """Whether a matrix product is faster: few pixels in the small image, a large kernel."""
    return inputs * outputs >= LARGE_KERNEL and batch * size[0] * size[1] <= FEW_PIXELS


def _columns(geometry: Geometry, x: Array, size: tuple[int, ...]) -> Array:
    """The pixel that each tap of the kernel reads for each pixel of the small image:
    [kh*kw, B*h*w, I]."""
    s, p, _, taps, *_ = geometry
    x = jnp.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    batch, _, _, features = x.shape
    ends = [(n - 1) * s + 1 for n in size]
    met = [
        lax.slice(x, (0, i, j, 0), (batch, i + ends[0], j + ends[1], features), (1, s, s, 1))
        for i in range(taps[0])
        for j in range(taps[1])
    ]
    return jnp.stack(met).reshape(len(met), -1, features)


def _fold(geometry: Geometry, columns: Array, small: tuple[int, ...]) -> Array:
    """The transpose of `_columns`: [kh*kw, B*h*w, I] added up into [B, *image, I]; `small` is
    (B, h, w)."""
    s, p, image, taps, *_ = geometry
    size, zero = small[1:], jnp.zeros((), columns.dtype)
    # as large as the padded image, output padding included
    full = [max(n + 2 * p, (m - 1) * s + k) for n, m, k in zip(image, size, taps, strict=True)]
    total = zero
    for i in range(taps[0]):
        for j in range(taps[1]):
            sides = [
                (at, n - at - (m - 1) * s - 1, s - 1)
                for at, n, m in zip((i, j), full, size, strict=True)
            ]
            tap = columns[i * taps[1] + j].reshape(*small, -1)
            total += lax.pad(tap, zero, [(0, 0, 0), *sides, (0, 0, 0)])
    return total[:, p : p + image[0], p : p + image[1]]


def _correlate(
    x: Array,
    window: Array,
    sides: list[tuple[int, int]],
    layout: tuple[str, str, str],
    strides: int = 1,
    dilation: int = 1,
    window_dilation: int = 1,
) -> Array:
    """One convolution. Zeros are written out if the window would not fit into the bare input."""
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
