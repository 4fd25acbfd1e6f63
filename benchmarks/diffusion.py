"""Times of a diffusion model's training step, group norm and samplers, with contenders to compare.

    make bench-diffusion       sets up an environment with PyTorch, then runs
    python -m benchmarks.diffusion --parts=step --seconds=60
    python -m benchmarks.diffusion --small

step     A step of guided-diffusion's U-Net with a learned variance: noise is added; squared error
         and the term of the bound; AdamW; one average. It is compared with plain PyTorch code, with
         images in PyTorch's own order and with "channels last".
norm     The group norm of the U-Net, compared with means over groups as JAX differentiates them and
         with PyTorch's: forward, and with the gradients of input, scale and bias.
sample   Images drawn by the system's sample_step, as launch.py draws them, compared with as many
         bare passes of the network as the sampler has steps.

Contenders run in turn in one process until `seconds` have passed, with as many threads as there are
cores. Before they are timed, the training steps must agree on their losses, for the same weights,
noise and times. Cells of step and sample are the median and the fastest call. If other programs are
running, restrict all contenders to one core, as in benchmarks/layers.py:
taskset -c 0 python -m benchmarks.diffusion
"""

import argparse
import os
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import layers, progan, torch_unet
from benchmarks.torch_unet import COLOURS, Shape
from gan_jax import config as configs
from gan_jax.core import train_step
from gan_jax.core.system import Facts
from gan_jax.models import convolution, unet
from gan_jax.models.unet_blocks import normalized
from gan_jax.ops.diffusion import noise_schedules
from gan_jax.run.experiment import Experiment

try:
    import torch
except ImportError:
    torch = None

LOSSES = ("loss/mse", "loss/vb", "loss/unet")
STEPS = 20  # of the samplers


SHAPES = (Shape(64, 4, 64, (1, 2, 3, 4), 2, (16, 8)), Shape(32, 32, 64, (1, 2, 2), 1, (8,)))
SAMPLED = Shape(32, 16, 32, (1, 2, 2), 1, (8,))
NORM = (32, 32 * 32, 64)  # [B, H·W, C] of the larger maps of a step


def setup_of(shape: Shape, sampler: str = "ancestral") -> Experiment:
    """The system of a shape, with a config's default values except for STEPS sampling steps."""
    made = configs.defaults("diffusion")
    made.data.update(source="synthetic", resolution=shape.side, channels="rgb")
    made.batch_size = shape.batch
    made.model.update(num_channels=shape.width, channel_mult=shape.multipliers)
    made.model.update(num_res_blocks=shape.blocks, attention_resolutions=shape.attention)
    made.sampling.update(sampler=sampler, steps=str(STEPS))
    return Experiment(made, Facts(shape.side, COLOURS, 0, shape.batch))


def filled(carry: train_step.TrainCarry, experiment: Experiment) -> train_step.TrainCarry:
    """The same with no weights at zero, so that every layer contributes to the result."""
    random, net = np.random.default_rng(0), carry.state.nets["unet"]

    def add(leaf):
        return leaf + random.normal(0, 0.02, leaf.shape).astype(leaf.dtype)

    net = net.replace(params=experiment.mesh.copy(jax.tree.map(add, net.params)))
    return carry._replace(state=carry.state.replace(nets={"unet": net}))


def pixels_of(shape: Shape) -> np.ndarray:
    """Images of noise, uint8 [B, H, W, C]."""
    size = (shape.batch, shape.side, shape.side, COLOURS)
    return np.random.default_rng(1).integers(0, 256, size).astype(np.uint8)


class Ours(progan.Ours):
    """The training step as the loop runs it, from weights that are not zero."""

    def __init__(self, shape: Shape):
        experiment = setup_of(shape)
        given = {"image": pixels_of(shape), "label": np.zeros(shape.batch, np.int32)}
        super().__init__(experiment, experiment.system.stages[0], given)
        self.carry = filled(self.carry, experiment)


def drawn(shape: Shape) -> Iterator[dict[str, np.ndarray]]:
    """What a step draws at random, beside its images; one time is 0, where the bound differs."""
    random, given = np.random.default_rng(2), pixels_of(shape)
    while True:
        yield {
            "image": given,
            "label": np.zeros(shape.batch, np.int32),
            "level": np.append(0, random.integers(0, 1000, shape.batch - 1)).astype(np.int32),
            "noise": random.normal(size=given.shape).astype(np.float32),
            "weight": np.ones(shape.batch, np.float32),
        }


def agree(contenders: dict, shape: Shape, steps: int = 2) -> None:
    """Raises AssertionError unless all have equal losses for some steps. Trains each of them."""
    for number, batch in zip(range(steps), drawn(shape), strict=False):
        expected = None
        for name, call in contenders.items():
            metrics = call(batch)
            values = np.array([float(metrics[n]) for n in LOSSES])
            expected = values if expected is None else expected
            message = f"losses of {name} in step {number}"
            np.testing.assert_allclose(values, expected, rtol=1e-3, err_msg=message)


# the rendition, see torch_unet


def torch_step(ours: Ours, shape: Shape, channels_last: bool = False):
    """The same step from the same weights.

    It leaves out what ours computes in addition: norms of gradients and weights, losses by quarters
    of the chain, and the check for gradients that are not finite.
    """
    made, params = ours.experiment.config, ours.carry.state.nets["unet"].params
    order = torch.channels_last if channels_last else torch.contiguous_format
    net = torch_unet.UNet(shape, made.model.num_heads)
    net.load(params)
    net = net.to(memory_format=order)
    o, weights = made.optim.unet, list(net.parameters())
    average = [p.detach().clone() for p in weights]
    adam = torch.optim.AdamW(
        weights, o.lr, (o.b1, o.b2), o.eps, weight_decay=o.weight_decay, fused=True
    )
    chain = noise_schedules.chain(made.discrete.schedule, made.discrete.steps)
    signal, sigma = (
        torch.tensor(np.sqrt(v), dtype=torch.float32)
        for v in (chain.alphas_cumprod, 1 - chain.alphas_cumprod)
    )
    terms = torch_unet.loss_terms(chain)
    images = torch.tensor(pixels_of(shape).transpose(0, 3, 1, 2).copy())  # uint8

    def call(batch=None):
        image = (images.float() / 127.5 - 1).to(memory_format=order)
        if batch is None:
            t, noise = torch.randint(0, chain.steps, (len(images),)), torch.randn_like(image)
        else:
            t = torch.tensor(batch["level"]).long()
            noise = torch.tensor(batch["noise"].transpose(0, 3, 1, 2).copy())
        x = signal[t].view(-1, 1, 1, 1) * image + sigma[t].view(-1, 1, 1, 1) * noise
        mse, vb = terms(net(x, t), image, x, noise, t)
        loss = (mse + vb).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - o.ema[0])
        values = (mse.mean(), vb.mean(), loss)
        return {n: v.item() for n, v in zip(LOSSES, values, strict=True)}

    return call


def step_part(shapes: tuple[Shape, ...], seconds: float) -> None:
    for shape in shapes:
        ours = Ours(shape)
        count = unet.count(ours.carry.state.nets["unet"].params)
        print(f"\nstep: {shape}, {count:,} parameters", flush=True)
        contenders = {"gan_jax": ours}
        if layers.beside():
            contenders["torch"] = torch_step(ours, shape)
            contenders["torch, channels last"] = torch_step(ours, shape, channels_last=True)
        agree(contenders, shape)
        progan.report(progan.race(contenders, seconds), "torch")


# group norm


def by_groups(x, scale, bias, groups: int):
    """Group norm of [B, P, C] by its definition: means over a group's pixels and channels."""
    h = x.reshape(*x.shape[:2], groups, -1)
    h = h - jnp.mean(h, (1, 3), keepdims=True)
    h = h * jax.lax.rsqrt(jnp.mean(jnp.square(h), (1, 3), keepdims=True) + 1e-5)
    return h.reshape(x.shape) * scale + bias


def norm_part(size: tuple[int, int, int], seconds: float, groups: int = 32) -> None:
    print(f"\nnorm: {list(size)}, {groups} groups; fastest call (times as long as torch)")
    random = np.random.default_rng(0)
    arrays = [random.normal(size=s).astype(np.float32) for s in (size, size[2:], size[2:], size)]
    calls = {"gan_jax": jax_norm(normalized, groups, *arrays)}
    calls["by groups"] = jax_norm(by_groups, groups, *arrays)
    if layers.beside():
        calls["torch"] = torch_norm(groups, *arrays)
    expected = [np.asarray(a) for a in jax.tree.leaves(calls["gan_jax"][1]())]
    for name, (_, both) in calls.items():
        for ours, theirs in zip(expected, jax.tree.leaves(both()), strict=True):
            if name == "torch":
                theirs = theirs.detach().mT if theirs.ndim == 3 else theirs
            np.testing.assert_allclose(theirs, ours, rtol=1e-3, atol=1e-3, err_msg=name)
    print(f"{'':37s}" + "  ".join(f"{name:24s}" for name in calls))
    for row, title in enumerate(("forward", "forward and gradients")):
        contenders = {name: pair[row] for name, pair in calls.items()}
        print(layers.row(title, layers.race(contenders, seconds / 2)), flush=True)


def jax_norm(function, groups: int, *arrays: np.ndarray) -> tuple[layers.Call, layers.Call]:
    """Calls for the output, and for (output, gradients), compiled like a training step."""

    def forward(x, scale, bias, pull):
        return function(x, scale, bias, groups)

    def both(x, scale, bias, pull):
        y, back = jax.vjp(lambda *inputs: function(*inputs, groups), x, scale, bias)
        return y, back(pull)

    def timed(function):
        run = jax.jit(function, compiler_options=convolution.compiler_options(training=True))
        placed = jax.device_put(arrays)
        return lambda: jax.block_until_ready(run(*placed))

    return timed(forward), timed(both)


def torch_norm(groups: int, *arrays: np.ndarray) -> tuple[layers.Call, layers.Call]:
    """The same two calls in PyTorch, on maps [B, C, P]."""
    x, scale, bias, pull = map(torch.tensor, arrays)
    inputs = [v.requires_grad_() for v in (x.mT.contiguous(), scale, bias)]
    pull = pull.mT.contiguous()

    def function():
        return torch.nn.functional.group_norm(inputs[0], groups, *inputs[1:])

    def both():
        y = function()
        return y, torch.autograd.grad(y, inputs, pull)

    return torch.no_grad()(function), both


# samplers


def sample_part(shape: Shape, seconds: float) -> None:
    print(f"\nsample: {shape}, {STEPS} steps; milliseconds of a batch", flush=True)
    experiment = setup_of(shape)
    state = filled(experiment.fresh(), experiment).state
    params = state.nets["unet"].params
    network = unet.unet(experiment.config.model, shape.side, COLOURS, 2 * COLOURS, 0)
    x = jax.random.normal(jax.random.key(1), (shape.batch, shape.side, shape.side, COLOURS))
    time = jnp.full(shape.batch, 500.0)

    def passes(options):
        one = jax.jit(
            lambda params, x, time: network.apply(params, {}, x, time)[0], compiler_options=options
        )

        def call():
            for _ in range(STEPS):
                jax.block_until_ready(one(params, x, time))

        return call

    def sampled(sampler: str):
        other = setup_of(shape, sampler)
        draw, batch = other.sampler(shape.batch), other.sample_batch(range(shape.batch))
        return lambda: draw(state, batch, other.last, ("raw",))

    contenders = {
        "bare passes": passes(convolution.compiler_options(training=False)),
        "bare passes, XLA's choice": passes(None),
        "ancestral": sampled("ancestral"),
        "dpm++": sampled("dpm++"),
    }
    times = progan.race(contenders, seconds)
    progan.report(times, "bare passes", slower=True)
    for name in ("ancestral", "dpm++"):
        print(f"  {name}: {min(times[name]) / shape.batch:.1f} ms per image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="step,norm,sample")
    parser.add_argument("--small", action="store_true", help="to try it out: an eighth of a batch")
    parser.add_argument("--seconds", type=float, default=60.0, help="per table")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if wrong := set(parts) - {"step", "norm", "sample"}:
        parser.error(f"--parts: {', '.join(sorted(wrong))}; accepted are step, norm and sample")
    if layers.beside():
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    versions = f"jax {jax.__version__}" + (f", torch {torch.__version__}" if torch else "")
    print(f"{versions} on {jax.devices()[0].device_kind}, {jax.default_backend()}")
    print("milliseconds of a call, median and fastest; by either: times as fast as torch, or times")
    print("as long as bare passes")

    def small(shape):
        return shape._replace(batch=max(shape.batch // 8, 2), width=32)

    shrunk = small if options.small else lambda shape: shape
    if "step" in parts:
        step_part(tuple(map(shrunk, SHAPES)), options.seconds)
    if "norm" in parts:
        norm_part((4, *NORM[1:]) if options.small else NORM, options.seconds / 4)
    if "sample" in parts:
        sample_part(shrunk(SAMPLED), options.seconds)


if __name__ == "__main__":
    main()
