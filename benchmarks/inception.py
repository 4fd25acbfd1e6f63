"""Times of the metrics' Inception network, compared with plain PyTorch code of the same network.

    make bench-inception          sets up an environment with PyTorch, then runs
    python -m benchmarks.inception --batches=16,32 --seconds=60

Random weights turn uint8 images of 299x299 pixels into 2048 float32 features; both leave out the
resize. Contenders run in turn in one process until `seconds` have passed; a cell is the fastest
call of each.
"""

import argparse

import jax
import numpy as np

from benchmarks import layers
from gan_jax.models import convolution, inception

try:
    import torch
except ImportError:
    torch = None


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


def jax_features(params, pixels: np.ndarray, options: bool = True) -> layers.Call:
    """Ours: pixels uint8 [B, 299, 299, 3] → features on the host. `options`: as the metrics run it,
    or with XLA's own choice of kernels."""
    params = jax.device_put(params)

    def features(params, pixels):
        x = (pixels.astype(np.float32) - 128) / 128
        return inception.apply(params, x, ("2048",))["2048"]

    run = jax.jit(
        features, compiler_options=convolution.compiler_options(training=False) if options else None
    )
    return lambda: np.asarray(run(params, pixels))


def torch_features(params, pixels: np.ndarray) -> layers.Call:
    """The same in PyTorch: convolution, batch norm and ReLU as modules, in evaluation mode."""
    nn, functional = torch.nn, torch.nn.functional

    def conv(name: str, stride: int = 1, padding=0) -> nn.Module:
        kernel = params[name]["kernel"]
        layer = nn.Conv2d(*kernel.shape[2:], kernel.shape[:2], stride, padding, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1).copy()))
        norm = nn.BatchNorm2d(kernel.shape[3], eps=inception.EPSILON)
        norm.running_var.fill_(1 - inception.EPSILON)  # ours has the norm in the kernel already
        return nn.Sequential(layer, norm)

    modules = nn.ModuleDict()

    def run(name: str, x, stride: int = 1, padding=0):
        key = name.replace(".", "/")
        if key not in modules:
            modules[key] = conv(name, stride, padding).eval()
        return functional.relu(modules[key](x))

    def mean(x):
        return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def block_a(n, x):
        five = run(f"{n}.branch5x5_2", run(f"{n}.branch5x5_1", x), padding=2)
        double = run(f"{n}.branch3x3dbl_2", run(f"{n}.branch3x3dbl_1", x), padding=1)
        double = run(f"{n}.branch3x3dbl_3", double, padding=1)
        return [run(f"{n}.branch1x1", x), five, double, run(f"{n}.branch_pool", mean(x))]

    def block_b(n, x):
        double = run(f"{n}.branch3x3dbl_2", run(f"{n}.branch3x3dbl_1", x), padding=1)
        double = run(f"{n}.branch3x3dbl_3", double, 2)
        return [run(f"{n}.branch3x3", x, 2), double, functional.max_pool2d(x, 3, 2)]

    def block_c(n, x):
        seven = run(f"{n}.branch7x7_2", run(f"{n}.branch7x7_1", x), padding=(0, 3))
        seven = run(f"{n}.branch7x7_3", seven, padding=(3, 0))
        double = run(f"{n}.branch7x7dbl_1", x)
        for place, padding in ((2, (3, 0)), (3, (0, 3)), (4, (3, 0)), (5, (0, 3))):
            double = run(f"{n}.branch7x7dbl_{place}", double, padding=padding)
        return [run(f"{n}.branch1x1", x), seven, double, run(f"{n}.branch_pool", mean(x))]

    def block_d(n, x):
        three = run(f"{n}.branch3x3_2", run(f"{n}.branch3x3_1", x), 2)
        seven = run(f"{n}.branch7x7x3_2", run(f"{n}.branch7x7x3_1", x), padding=(0, 3))
        seven = run(f"{n}.branch7x7x3_4", run(f"{n}.branch7x7x3_3", seven, padding=(3, 0)), 2)
        return [three, seven, functional.max_pool2d(x, 3, 2)]

    def block_e(n, x):
        three = run(f"{n}.branch3x3_1", x)
        double = run(f"{n}.branch3x3dbl_2", run(f"{n}.branch3x3dbl_1", x), padding=1)
        pairs = [
            run(f"{n}.{branch}{side}", y, padding=padding)
            for branch, y in (("branch3x3_2", three), ("branch3x3dbl_3", double))
            for side, padding in (("a", (0, 1)), ("b", (1, 0)))
        ]
        pool = mean(x) if n == "Mixed_7b" else functional.max_pool2d(x, 3, 1, 1)
        return [run(f"{n}.branch1x1", x), *pairs, run(f"{n}.branch_pool", pool)]

    blocks = {"5": block_a, "6a": block_b, "6": block_c, "7a": block_d, "7": block_e}
    images = torch.tensor(pixels.transpose(0, 3, 1, 2).copy())

    @torch.inference_mode()
    def call():
        x = run("Conv2d_1a_3x3", (images.float() - 128) / 128, 2)
        x = run("Conv2d_2b_3x3", run("Conv2d_2a_3x3", x), padding=1)
        x = run("Conv2d_3b_1x1", functional.max_pool2d(x, 3, 2))
        x = functional.max_pool2d(run("Conv2d_4a_3x3", x), 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = torch.cat(blocks.get(name, blocks[name[0]])(f"Mixed_{name}", x), 1)
        return x.mean((2, 3)).numpy()

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", default="16,32", help="batch sizes")
    parser.add_argument("--seconds", type=float, default=60.0, help="per row")
    options = parser.parse_args()
    beside = layers.beside()
    versions = f"jax {jax.__version__}" + (f", torch {torch.__version__}" if beside else "")
    print(f"{versions} on {jax.devices()[0].device_kind}, {jax.default_backend()}")
    print("fastest call in milliseconds (as a multiple of torch)")
    params = random_params()
    for batch in map(int, options.batches.split(",")):
        shape = (batch, inception.SIDE, inception.SIDE, 3)
        pixels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
        calls = {
            "gan_jax": jax_features(params, pixels),
            "XLA's choice": jax_features(params, pixels, options=False),
        }
        if beside:
            calls["torch"] = torch_features(params, pixels)
            ours, theirs = calls["gan_jax"](), calls["torch"]()
            # the times can be compared only if the networks are the same
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3 * np.abs(theirs).max())
        times = layers.race(calls, options.seconds)
        print(layers.row(f"Inception features: {batch} images", times), flush=True)
        rates = ", ".join(f"{name} {batch / ms * 1e3:.1f}" for name, ms in times.items())
        print(f"  images per second: {rates}", flush=True)


if __name__ == "__main__":
    main()
