"""Times of WarpGAN's warp (spline flow, bilinear sampling), compared with plain PyTorch code.

    make bench-warpgan         sets up an environment with PyTorch, then runs
    python -m benchmarks.warpgan --batch=8 --size=256 --seconds=20

With 16 control points, it times the forward pass, and the forward and backward passes with the
gradients of image and displacements. The PyTorch code solves the same system in pixels, evaluates
it with one matrix of all pixels and points, and samples with grid_sample. Before they are timed,
both must give the same images and gradients in float64; the times are of float32. Both run in turn
in one process until `seconds` have passed; a cell is the fastest call of each. If other programs
are running, restrict both to one core, as in benchmarks/layers.py:
taskset -c 0 python -m benchmarks.warpgan
"""

import argparse

import jax
import numpy as np

from benchmarks import layers
from gan_jax.ops import warping

try:
    import torch
except ImportError:
    torch = None

POINTS = 4  # along either side
REGULARIZATION = 1e-6
CLOSE = 1e-6  # results may differ in float64 by this share of the largest value


def inputs(batch: int, size: int) -> tuple[np.ndarray, ...]:
    """Image and cotangent [B, H, W, 3], points and displacements [B, 16, 2], in float32.

    Points lie near a grid: if two random points were next to each other, the system in pixels would
    lose all its digits in float32.
    """
    random = np.random.default_rng(0)
    grid = (np.indices((POINTS, POINTS)).reshape(2, -1).T + 0.5) * (size / POINTS)
    shape = (batch, len(grid), 2)
    made = (
        random.uniform(-1, 1, (batch, size, size, 3)),
        random.normal(size=(batch, size, size, 3)),
        grid + random.uniform(-0.2, 0.2, shape) * (size / POINTS),
        random.normal(0, size / 50, shape),
    )
    return tuple(a.astype(np.float32) for a in made)


def ours(image, cotangent, points, displacements) -> layers.Contenders:
    """The calls; the arrays that they return are ready."""

    def warped(image, displacements):
        return warping.warp(image, points, points + displacements, 2, REGULARIZATION)[0]

    @jax.jit
    def both(image, displacements):
        # the image is returned: nothing else needs it, and XLA would leave it out
        made, pull = jax.vjp(warped, image, displacements)
        return made, *pull(cotangent)

    forward, placed = jax.jit(warped), jax.device_put((image, displacements))
    return {
        "forward": lambda: jax.block_until_ready((forward(*placed),)),
        "forward and backward": lambda: jax.block_until_ready(both(*placed)),
    }


def torch_warp(image, source, displacements):
    """image [B, C, H, W], the rest [B, N, 2] as (y, x): the warped image."""
    height, width = image.shape[2:]
    points = source + displacements
    batch, count, _ = points.shape
    rows, columns = (torch.arange(n, dtype=points.dtype) for n in (height, width))
    query = torch.cartesian_prod(rows, columns).expand(batch, -1, 2)

    def affine(p):
        return torch.cat((p, torch.ones_like(p[..., :1])), 2)

    def phi(a, b):
        square = sum((a[:, :, None, axis] - b[:, None, :, axis]) ** 2 for axis in (0, 1))
        return 0.5 * square * torch.log(square.clamp_min(1e-10))

    top = torch.cat(
        (
            phi(points, points) + REGULARIZATION * torch.eye(count, dtype=points.dtype),
            affine(points),
        ),
        2,
    )
    bottom = torch.cat((affine(points).mT, points.new_zeros(batch, 3, 3)), 2)
    right = torch.cat((displacements, points.new_zeros(batch, 3, 2)), 1)
    weights = torch.linalg.solve(torch.cat((top, bottom), 1), right)
    flow = phi(query, points) @ weights[:, :count] + affine(query) @ weights[:, count:]
    at = (query - flow).flip(2).reshape(batch, height, width, 2)
    grid = 2 * at / points.new_tensor((width - 1, height - 1)) - 1
    return torch.nn.functional.grid_sample(image, grid, padding_mode="border", align_corners=True)


def rendition(image, cotangent, points, displacements) -> layers.Contenders:
    """The same in PyTorch, with channels first."""
    image, cotangent = (torch.tensor(a.transpose(0, 3, 1, 2).copy()) for a in (image, cotangent))
    points, displacements = torch.tensor(points), torch.tensor(displacements)

    def forward():
        with torch.no_grad():
            return (torch_warp(image, points, displacements),)

    def both():
        given = [a.clone().requires_grad_() for a in (image, displacements)]
        made = torch_warp(given[0], points, given[1])
        return made, *torch.autograd.grad(made, given, cotangent)

    return {"forward": forward, "forward and backward": both}


def arrays(call: layers.Call) -> list[np.ndarray]:
    """What a call returns; images with their channels last."""
    made = [np.asarray(a.detach() if torch and torch.is_tensor(a) else a) for a in call()]
    return [a.transpose(0, 2, 3, 1) if a.ndim == 4 and a.shape[1] == 3 else a for a in made]


def compare(given: tuple[np.ndarray, ...]) -> None:
    """Raises AssertionError unless both give the same results in float64; prints how far the
    results in float32 are from these."""
    doubles = tuple(a.astype(np.float64) for a in given)
    with jax.enable_x64(True):
        made = {name: arrays(call) for name, call in ours(*doubles).items()}
    for name, call in rendition(*doubles).items():
        for found, known in zip(made[name], arrays(call), strict=True):
            np.testing.assert_allclose(found, known, rtol=0, atol=CLOSE * np.abs(known).max())
    known, *_ = made["forward"]
    for name, contender in (("gan_jax", ours), ("torch", rendition)):
        found, *_ = arrays(contender(*given)["forward"])
        print(f"{name}: image in float32 off by at most {np.abs(found - known).max():.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="height and width in pixels")
    parser.add_argument("--seconds", type=float, default=20.0, help="per row")
    options = parser.parse_args()
    beside = layers.beside()
    versions = f"jax {jax.__version__}" + (f", torch {torch.__version__}" if beside else "")
    print(f"{versions} on {jax.devices()[0].device_kind}, {jax.default_backend()}")
    given = inputs(options.batch, options.size)
    contenders = {"gan_jax": ours(*given)}
    if beside:
        contenders["torch"] = rendition(*given)
        compare(given)
    print("fastest call in milliseconds (as a multiple of torch)")
    print(f"{'':37s}" + "  ".join(f"{name:>9s}{'':15s}" for name in contenders))
    for name in contenders["gan_jax"]:
        calls = {contender: made[name] for contender, made in contenders.items()}
        print(layers.row(name, layers.race(calls, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
