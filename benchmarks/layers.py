"""Times of strided and transposed convolutions and of a DCGAN step, compared with PyTorch.

    make bench                               sets up an environment with PyTorch, then runs
    python -m benchmarks.layers              without PyTorch, its columns are left out
    python -m benchmarks.layers --seconds=10

Contenders of a row run in turn, a few calls each, for `seconds` per row. A cell is the fastest call
of each, so that neither a busy machine nor a warm-up favours one of them. If other programs are
running, PyTorch's threads wait for each other, up to tens of times as long. Restricting all
contenders to one core is fair then: taskset -c 0 python -m benchmarks.layers
"""

import argparse
import time
from collections.abc import Callable
from unittest import mock

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import train_step
from gan_jax.models import convolution
from gan_jax.run.experiment import Experiment

try:
    import torch
except ImportError:
    torch = None

Call = Callable[[], object]  # returns when the work is done
Contenders = dict[str, Call]

FORMS = tuple(form for form in convolution.FORMS if form != "auto")
QUICKSTART = "configs/quickstart.py"
# kernel 4, stride 2, padding 1 everywhere; batch, height = width, channels in and out
CONVOLUTIONS = ((64, 28, 1, 64), (64, 14, 64, 128), (4, 64, 64, 128))
TRANSPOSED = ((64, 7, 128, 64), (64, 14, 64, 1), (4, 32, 128, 64))
CALLS = 3  # in a row, so that each contender finds its own memory and threads warm


def beside() -> bool:
    """Whether PyTorch runs too: its code here is for a CPU."""
    return torch is not None and jax.default_backend() == "cpu"


def race(contenders: Contenders, seconds: float) -> dict[str, float]:
    """Fastest call of each in milliseconds; they run in turn until `seconds` have passed."""
    best = dict.fromkeys(contenders, float("inf"))
    for call in contenders.values():
        call()  # compiles, allocates
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 2 or time.perf_counter() < end:
        for name, call in contenders.items():
            for _ in range(CALLS):
                began = time.perf_counter()
                call()
                best[name] = min(best[name], time.perf_counter() - began)
        rounds += 1
    return {name: 1e3 * value for name, value in best.items()}


def layer(transposed: bool, batch: int, size: int, channels: int, features: int) -> Contenders:
    """One layer, forward and backward: its output and the gradients of input and kernel."""
    rng = np.random.default_rng(0)
    out = size * 2 if transposed else size // 2
    x = rng.normal(size=(batch, size, size, channels)).astype(np.float32)
    kernel = rng.normal(size=(4, 4, channels, features)).astype(np.float32)
    pull = rng.normal(size=(batch, out, out, features)).astype(np.float32)
    contenders = {form: jax_layer(transposed, form, x, kernel, pull) for form in FORMS}
    if beside():
        contenders["torch"] = torch_layer(transposed, x, kernel, pull)
    return contenders


def jax_layer(transposed: bool, form: str, *arrays: np.ndarray) -> Call:
    def forward(x, kernel):
        if transposed:
            return convolution.conv_transpose(x, kernel, 2, 1, form=form)
        return convolution.conv(x, kernel, 2, 1, form)

    @jax.jit
    def both(x, kernel, pull):
        # the output is returned: nothing else needs it, and XLA would leave the forward pass out
        y, gradients = jax.vjp(forward, x, kernel)
        return y, gradients(pull)

    placed = jax.device_put(arrays)
    return lambda: jax.block_until_ready(both(*placed))


def torch_layer(transposed: bool, x: np.ndarray, kernel: np.ndarray, pull: np.ndarray) -> Call:
    # as PyTorch keeps kernels: [O, C, kh, kw], transposed convolutions [C, O, kh, kw]
    order = (2, 3, 0, 1) if transposed else (3, 2, 0, 1)
    x, pull = (torch.tensor(a.transpose(0, 3, 1, 2).copy()) for a in (x, pull))
    kernel = torch.tensor(kernel.transpose(order).copy(), requires_grad=True)
    x.requires_grad_()
    function = torch.nn.functional
    forward = function.conv_transpose2d if transposed else function.conv2d
    return lambda: torch.autograd.grad(forward(x, kernel, None, 2, 1), (x, kernel), pull)


def dcgan() -> ConfigDict:
    """A plain DCGAN of quickstart's size on the digits: cross entropy, batch norm, Adam."""
    config = configs.defaults("gan")
    config.data.source = "digits"
    config.model.z_dim = 64
    config.model.gen.update(name="deconv", width=32)
    config.model.disc.update(name="conv", width=32)
    config.optim.gen.ema = (0.998,)
    return config


def jax_step(experiment: Experiment, form: str = "auto", batch: dict | None = None) -> Call:
    """A training step as the loop runs it, metrics included; on `batch`, or the first batch."""
    stage = experiment.system.stages[0]
    batch = experiment.mesh.put(images(experiment) if batch is None else batch)
    train = train_step.train_function(experiment.system, experiment.mesh)
    carry = experiment.fresh()

    def call():
        nonlocal carry
        carry, metrics = train(carry, batch, experiment.key, stage)
        jax.block_until_ready((carry, metrics))

    # the first call traces: networks ask for "auto" and get this form
    conv, transposed = convolution.conv, convolution.conv_transpose
    with mock.patch.multiple(
        convolution,
        conv=lambda *a: conv(*a[:-1], form),
        conv_transpose=lambda *a: transposed(*a[:-1], form),
    ):
        call()
    return call


def images(experiment: Experiment) -> dict[str, np.ndarray]:
    """The first training batch: uint8 [B, H, W, C] and labels."""
    return next(experiment.data("train", experiment.system.stages[0], 0))


def torch_step(experiment: Experiment) -> Call:
    """The same step in plain PyTorch: generator first, its fakes shown to the discriminator again.

    Adam, cross entropy on logits and the average of the generator's weights and statistics are as
    in the config. It leaves out what ours measures in addition: gradient norms and accuracies.
    """
    config, nn = experiment.config, torch.nn
    z_dim, width, wide = config.model.z_dim, config.model.gen.width, config.model.disc.width
    gen = nn.Sequential(
        nn.Linear(z_dim, 2 * width * 49),
        nn.Unflatten(1, (2 * width, 7, 7)),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1),
        nn.Tanh(),
    )
    disc = nn.Sequential(
        nn.Conv2d(1, wide, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(wide, 2 * wide, 4, 2, 1),
        nn.BatchNorm2d(2 * wide),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * wide * 49, 1),
    )
    check_size(experiment, {"gen": gen, "disc": disc})
    adam = {
        name: torch.optim.Adam(net.parameters(), lr=o.lr, betas=(o.b1, o.b2), eps=o.eps)
        for name, net, o in (("gen", gen, config.optim.gen), ("disc", disc, config.optim.disc))
    }
    state = [t for t in gen.state_dict().values() if t.is_floating_point()]
    average = [t.clone() for t in state]
    entropy = nn.functional.binary_cross_entropy_with_logits
    pixels = torch.tensor(images(experiment)["image"].transpose(0, 3, 1, 2).copy())  # uint8
    ones, zeros = torch.ones(len(pixels), 1), torch.zeros(len(pixels), 1)

    def call():
        real = pixels.float() / 127.5 - 1
        fake = gen(torch.randn(len(pixels), z_dim))
        adam["gen"].zero_grad()
        entropy(disc(fake), ones).backward()
        adam["gen"].step()
        with torch.no_grad():
            torch._foreach_lerp_(average, state, 1 - config.optim.gen.ema[0])
        adam["disc"].zero_grad()
        (entropy(disc(real), ones) + entropy(disc(fake.detach()), zeros)).backward()
        adam["disc"].step()

    return call


def check_size(experiment: Experiment, nets: dict) -> None:
    """Raises ValueError if the config's networks differ in size from those written in PyTorch."""
    ours = train_step.shapes(experiment.system, experiment.key, experiment.batch()).state.nets
    for name, net in nets.items():
        here = sum(p.numel() for p in net.parameters())
        there = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(ours[name].params))
        if here != there:
            raise ValueError(f"{name} has {there} parameters, its PyTorch twin {here}")


def row(title: str, times: dict[str, float]) -> str:
    """Milliseconds of every contender, with ratios to native and to PyTorch."""
    cells = []
    for value in times.values():
        ratios = [f"{value / times[other]:5.2f}" for other in ("native", "torch") if other in times]
        cells.append(f"{value:9.3f} ({' '.join(ratios)})")
    return f"{title:37s}" + "  ".join(f"{cell:24s}" for cell in cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="per row")
    seconds = parser.parse_args().seconds
    names = [*FORMS, *(["torch"] if beside() else [])]
    versions = f"jax {jax.__version__}" + (f", torch {torch.__version__}" if beside() else "")
    print(f"{versions} on {jax.devices()[0].device_kind}, {jax.default_backend()}")
    others = " and of torch" if beside() else ""
    print(f"fastest call in milliseconds (as a multiple of native{others})")
    if torch is None:
        print("PyTorch is not installed: pip install -r benchmarks/requirements-bench.txt")
    elif not beside():
        print("PyTorch is left out: it is measured on CPUs only")
    print(
        f"\n{'forward and backward, k4 s2 p1':37s}" + "  ".join(f"{n:>9s}{'':15s}" for n in names)
    )
    for transposed, shapes in ((False, CONVOLUTIONS), (True, TRANSPOSED)):
        for shape in shapes:
            title = "{} {}, {}x{}, {} to {}".format(
                "transposed" if transposed else "strided", shape[0], shape[1], *shape[1:]
            )
            print(row(title, race(layer(transposed, *shape), seconds)), flush=True)
    for title, config in (("DCGAN", dcgan()), (QUICKSTART, configs.load_file(QUICKSTART))):
        experiment = Experiment(config)
        steps: Contenders = {form: jax_step(experiment, form) for form in FORMS}
        if beside() and title != QUICKSTART:  # no other config is written in PyTorch
            steps["torch"] = torch_step(experiment)
        size = experiment.system.stages[0].batch_size
        print(row(f"{title}: a step of {size}", race(steps, 3 * seconds)), flush=True)


if __name__ == "__main__":
    main()
