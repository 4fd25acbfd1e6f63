"""oneDNN's convolutions are those of XLA, and are used only where they can be."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax import backend
from gan_jax import config as configs
from gan_jax.core import sharing
from gan_jax.core.system import Facts
from gan_jax.models import convolution
from gan_jax.ops import onednn
from gan_jax.run import trial
from gan_jax.run.experiment import Experiment
from tests.helpers.onednn import only_where_it_exists
from tests.helpers.shell import launch, python

pytestmark = only_where_it_exists

# batch, side, inputs, outputs, taps, strides, padding, output padding of the transposed convolution
SHAPES = (
    (2, 6, 8, 24, (3, 3), 1, 1, 0),
    (2, 7, 3, 16, (4, 4), 2, 1, 0),
    (1, 6, 20, 5, (2, 3), 1, 1, 0),
    (2, 5, 16, 4, (5, 5), 2, 2, 1),
    (1, 4, 16, 16, (1, 1), 1, 0, 0),
    # more images than threads, and rows that no kernel reaches
    (19, 8, 8, 16, (3, 3), 2, 0, 1),
    (19, 6, 8, 16, (1, 1), 2, 0, 1),
)


@pytest.fixture
def switched_on(monkeypatch):
    """oneDNN computes every convolution, as on a machine with one device."""
    monkeypatch.setenv(onednn.SWITCH, "1")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    monkeypatch.setattr(onednn, "_worth", lambda problem: True)
    assert onednn.in_use()


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def problem(kind: str = "forward", **other) -> onednn.Problem:
    usual = dict(
        dtype="float32", batch=4, image=(16, 16), inputs=32, small=(16, 16), outputs=32,
        taps=(3, 3), strides=1, padding=1, swapped=False,
    )  # fmt: skip
    return onednn.Problem(kind, **{**usual, **other})


def with_derivatives(function):
    """The function of (x, kernel) with its derivatives of the first and second order, jitted."""

    def first(x, kernel):
        return jax.grad(lambda *a: jnp.sum(function(*a) ** 3), (0, 1))(x, kernel)

    def second(x, kernel):
        def squares(*given):
            return sum(jnp.sum(g**2) for g in first(*given))

        return jax.grad(squares, (0, 1))(x, kernel)

    return jax.jit(lambda *a: (function(*a), first(*a), second(*a)))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_results_of_xla(switched_on, shape, transposed):
    batch, side, inputs, outputs, taps, strides, padding, more = shape
    given = numbers(batch, side, side, inputs), numbers(*taps, inputs, outputs, seed=1) / 8

    def function(x, kernel):
        if transposed:
            return convolution.conv_transpose(x, kernel, strides, padding, more, "explicit")
        return convolution.conv(x, kernel, strides, padding, "explicit")

    ours = with_derivatives(function)
    program = str(jax.make_jaxpr(ours)(*given))
    assert "ffi_call" in program
    assert "conv_general_dilated" not in program
    with backend.plain_programs():
        plain = with_derivatives(lambda *a: function(*a))
        assert "ffi_call" not in str(jax.make_jaxpr(plain)(*given))
        expected = plain(*given)
    for here, there in zip(jax.tree.leaves(ours(*given)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=3e-6 * np.abs(there).max())


# side, channels in and out, taps, strides, padding: images that are computed in several strips
LARGE = (
    (66, 96, 80, 3, 1, 1),
    (67, 64, 96, 5, 2, 2),
    (130, 64, 64, 4, 2, 1),
    (97, 128, 128, 1, 1, 0),
)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large_images_are_computed_in_strips(switched_on, shape, dtype):
    """The results of XLA, and the same bits in any batch."""
    side, inputs, outputs, taps, strides, padding = shape
    x, kernel = numbers(3, side, side, inputs), numbers(taps, taps, inputs, outputs, seed=1) / 32
    x, kernel = x.astype(dtype), kernel.astype(dtype)

    def results(x, kernel):
        y, back = jax.vjp(lambda *a: convolution.conv(*a, strides, padding, "explicit"), x, kernel)
        return y, *back(jnp.cos(y))

    run = jax.jit(results)
    found = run(x, kernel)
    with backend.plain_programs():
        expected = jax.jit(lambda *a: results(*a))(*(a.astype(np.float32) for a in (x, kernel)))
    near = {"float32": 1e-5, "bfloat16": 0.02}[dtype]
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=near * np.abs(there).max())
    alone = run(x[1:2], kernel)
    for whole, one in zip(found[:2], alone[:2], strict=True):
        np.testing.assert_array_equal(whole[1:2], one)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), ((0, 1), (0, None))], ids=str)
@pytest.mark.parametrize("derivative", [False, True])
def test_several_at_a_time(switched_on, axes, derivative):
    """Under vmap, over images, kernels and both, and twice over images."""
    nested = isinstance(axes[0], tuple)
    lead = [(3, 2) if nested else (3,) if axis is not None else () for axis in axes]
    x = numbers(*(lead[0]), 2, 6, 6, 4)
    kernel = numbers(*((3,) if nested else lead[1]), 3, 3, 4, 8, seed=1)

    def plain(x, kernel):
        return convolution.conv(x, kernel, 1, 1, "explicit")

    def cubes(x, kernel):
        return jnp.sum(plain(x, kernel) ** 3)

    one = jax.grad(cubes, (0, 1)) if derivative else plain

    several = jax.vmap(one, (0, None) if nested else axes)
    if nested:
        several = jax.vmap(several, (0, 0))
    assert "ffi_call" in str(jax.make_jaxpr(several)(x, kernel))
    found = jax.jit(several)(x, kernel)
    with backend.plain_programs():
        expected = jax.jit(lambda *a: several(*a))(x, kernel)
    for here, there in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=3e-6 * np.abs(there).max())


def test_half_precision_has_sums_in_single_precision(switched_on):
    """4608 ones: a sum in bfloat16 would stay at 256."""
    one = problem(dtype="bfloat16", inputs=512, padding=0, small=(14, 14))
    if not onednn.implementation(one):  # a processor without instructions for it
        assert not onednn.takes(one)
        return
    x, kernel = jnp.ones((4, 16, 16, 512), jnp.bfloat16), jnp.ones((3, 3, 512, 32), jnp.bfloat16)
    found = jax.jit(lambda *a: onednn.convolve(one, *a))(x, kernel)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found, np.full((4, 14, 14, 32), 4608, found.dtype))
    x, kernel = numbers(2, 6, 6, 16), numbers(3, 3, 16, 24, seed=1) / 16

    def function(x, kernel):
        y = convolution.conv(x, kernel, 1, 1, "explicit")
        return y, jax.grad(lambda k: jnp.sum(convolution.conv(x, k, 1, 1, "explicit") ** 2))(kernel)

    half = jax.jit(function)(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    for here, there in zip(half, function(x, kernel), strict=True):
        np.testing.assert_allclose(here, there, rtol=0, atol=0.02 * np.abs(there).max())


def test_the_same_bits_again_and_in_any_batch(switched_on):
    x, kernel = numbers(8, 16, 16, 64), numbers(3, 3, 64, 64, seed=1)

    def function(x, kernel):
        return convolution.conv(x, kernel, 1, 1, "explicit")

    run, slope = jax.jit(function), jax.jit(jax.grad(lambda *a: jnp.sum(function(*a) ** 2), 1))
    whole, gradient = run(x, kernel), slope(x, kernel)
    for _ in range(3):
        np.testing.assert_array_equal(run(x, kernel), whole)
        np.testing.assert_array_equal(slope(x, kernel), gradient)
    np.testing.assert_array_equal(run(x[:1], kernel), whole[:1])
    np.testing.assert_array_equal(run(x[3:6], kernel), whole[3:6])


def test_what_xla_keeps(monkeypatch):
    monkeypatch.setenv(onednn.SWITCH, "1")
    assert onednn.takes(problem())
    assert onednn.takes(problem("weights", outputs=3))
    assert not onednn.takes(problem(image=(4, 4), small=(4, 4), inputs=8, outputs=8))
    assert not onednn.takes(problem(dtype="float64"))
    assert not onednn.takes(problem(dtype="float16"))
    assert onednn.takes(problem(taps=(4, 4), image=(17, 17)))
    # no image of this size has a result of that one
    assert not onednn.takes(problem(small=(40, 40)))


@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_who_computes_an_image_does_not_depend_on_the_batch(monkeypatch, side):
    monkeypatch.setenv(onednn.SWITCH, "1")
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    x, kernel = numbers(64, side, side, 16), numbers(3, 3, 16, 16, seed=1)
    run = jax.jit(lambda x, kernel: convolution.conv(x, kernel, 1, 1))
    np.testing.assert_array_equal(run(x[:1], kernel), run(x, kernel)[:1])


def test_where_it_is_not_in_use(monkeypatch):
    monkeypatch.setenv(onednn.SWITCH, "1")
    assert not onednn.in_use()  # the session has eight devices
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert onednn.in_use()
    with backend.programs_for("tpu"):
        assert not onednn.in_use()
    with backend.plain_programs():
        assert not onednn.in_use()
    for word in ("0", "off", "False"):
        monkeypatch.setenv(onednn.SWITCH, word)
        assert not onednn.in_use()


OTHER_PROCESSORS = """
import hashlib
import os
import jax, jax.numpy as jnp, numpy as np
from gan_jax import backend
from gan_jax.models import convolution
from gan_jax.ops import onednn

onednn._worth = lambda problem: True
x = jax.random.normal(jax.random.key(0), (16, 33, 33, 1))
kernel = jax.random.normal(jax.random.key(1), (5, 5, 1, 64))

def functions():
    def loss(x, kernel):
        parts = [jnp.sum(convolution.conv(x * i, kernel, 2, 2) ** 2) for i in range(1, 13)]
        return sum(parts)
    return jax.jit(jax.value_and_grad(loss, (0, 1)))

run = functions()
assert "ffi_call" in str(jax.make_jaxpr(run)(x, kernel))
before = len(os.listdir("/proc/self/task"))
found = jax.block_until_ready(run(x, kernel))
more = len(os.listdir("/proc/self/task")) - before
with backend.plain_programs():
    expected = functions()(x, kernel)
for here, there in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
    np.testing.assert_allclose(here, there, rtol=0, atol=1e-5 * np.abs(there).max())
assert more == 0, f"{more} threads of oneDNN's own"
image = jnp.tile(kernel.reshape(1, 40, 40, 1), (1, 2, 2, 96))  # computed in several strips
images = jax.jit(lambda x, k: convolution.conv(x, k, 1, 1))(image, jnp.ones((3, 3, 96, 96)))
print([hashlib.sha256(np.asarray(leaf)).hexdigest() for leaf in (found[0], found[1][0], images)])
"""


@pytest.mark.parametrize("instructions", ["AVX512_CORE", "AVX2", "SSE41"])
def test_older_processors_and_many_at_a_time(instructions):
    """oneDNN has other programs for each set of instructions. The twelve convolutions do not depend
    on each other, so that XLA begins several. Images have the same bits for any number of threads,
    and OpenMP begins none."""
    environment = {
        onednn.SWITCH: "1", "ONEDNN_MAX_CPU_ISA": instructions, "OMP_NUM_THREADS": "8",
    }  # fmt: skip
    found = set()
    for threads in ("8", "1"):
        done = python(OTHER_PROCESSORS, environment={**environment, "NPROC": threads})
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


def test_several_threads_of_python(switched_on):
    x, kernel = numbers(5, 16, 16, 32), numbers(3, 3, 32, 32, seed=1)
    run = jax.jit(jax.value_and_grad(lambda *a: jnp.sum(convolution.conv(*a, 1, 1) ** 2), (0, 1)))
    expected = jax.tree.leaves(run(x, kernel))
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: jax.tree.leaves(run(x, kernel)), range(40)):
            for here, there in zip(found, expected, strict=True):
                np.testing.assert_array_equal(here, there)


def test_what_reads_programs_sees_it(switched_on, monkeypatch):
    """The work of a step is counted without it, and no convolution of it goes into a loop."""
    config = configs.load_file("dcgan_mnist", "tiny")
    config.update_from_flattened_dict({"run.devices": 1, "batch_size": 8})  # kernels of 4x4, too
    facts = Facts(28, 1, 10, 100, 10)
    made = Experiment(config, facts._replace(resolution=config.data.resolution))
    given = numbers(1, 8, 8, 4), numbers(3, 3, 4, 4)
    program = jax.make_jaxpr(lambda x, k: convolution.conv(x, k, 1, 1))(*given)
    assert "conv_general_dilated" not in str(program)
    assert sharing.has_convolution(program.jaxpr)
    step = made.lowered_step(made.last)
    assert onednn.TARGET in step.as_text()
    counted = trial._work(made, made.last)
    assert onednn.TARGET in made.lowered_step(made.last).as_text()
    monkeypatch.setenv(onednn.SWITCH, "0")
    plain = Experiment(config, made.facts)
    assert onednn.TARGET not in plain.lowered_step(plain.last).as_text()
    assert counted == trial._work(plain, plain.last)
    assert counted > 1.5 * float(step.cost_analysis()["flops"])


def test_a_run_says_so_and_goes_on_with_the_same_bits(tmp_path):
    """Six steps, and four with two more after a resume."""
    words = ["--config=configs/diffusion_mnist.py:tiny", "--config.run.sample_every=0"]
    words += ["--config.run.log_every=1", "--config.run.eval_every=0"]
    words += ["--config.optim.unet.schedule.name=constant"]

    def run(folder: str, steps: int) -> subprocess.CompletedProcess:
        where = [f"--workdir={tmp_path / folder}", f"--config.run.steps={steps}"]
        done = launch(*words, *where, environment={onednn.SWITCH: "1"})
        assert done.returncode == 0, done.stderr
        return done

    assert "convolutions by oneDNN" in run("whole", 6).stdout
    run("parted", 4)
    run("parted", 6)
    versions = json.loads((tmp_path / "whole" / "config.json").read_text())["versions"]
    assert versions["onednn-cpu-gomp"] == "2023.2.0"
    whole, parted = (_losses(tmp_path / name) for name in ("whole", "parted"))
    assert [*whole] == [1, 2, 3, 4, 5, 6]
    assert parted == whole


def _losses(folder: Path) -> dict[int, float]:
    """The loss of each step of a run."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {row["step"]: row["loss/unet"] for row in rows if "loss/unet" in row}
