"""The compiled programs of every system on several devices: each computes its share of the work,
and no image, activation or latent moves from one to another."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from benchmarks import scaling
from gan_jax.core.mesh import Mesh
from tests.helpers import contract
from tests.helpers.collectives import PRIME, strays

DEVICES = 8
ROWS = 8 * PRIME  # images of each device


@pytest.fixture(scope="module", params=contract.FLOAT32)
def system(request):
    """(name, its experiments on one device and on eight)."""
    one = scaling.load(request.param)
    return request.param, one, scaling.on_devices(one, DEVICES)


@pytest.mark.parametrize("part", scaling.PARTS)
def test_each_device_does_its_share_and_no_row_moves(system, part):
    name, one, many = system
    if part == "sampling" and many.system.sample_step is None:
        assert not contract.makes_images(name)
        return
    rows = ROWS * DEVICES
    program = scaling.lowered(many, rows, part).compile()
    assert strays(name, rows, program, many.carry) == []
    whole = scaling.work(scaling.lowered(one, rows, part).compile())
    assert scaling.work(program) <= 1.1 * whole / DEVICES


@pytest.mark.parametrize("name", ["mlpgan_mnist:wgan_gp", "diffusion_cifar10:vlb,classes"])
def test_no_row_moves_in_steps_of_several_updates_and_of_a_history(name):
    many = scaling.on_devices(scaling.load(name), DEVICES)
    rows = 2 * ROWS * DEVICES
    program = scaling.lowered(many, rows).compile()
    assert strays(name, rows, program, many.carry) == []


def test_the_inspection_sees_what_moves():
    """A lookup across the batch, as a warp of all images at once would have it."""
    mesh, rows = Mesh(DEVICES), ROWS * DEVICES
    batch = mesh.rows(rows, (4, 4), jnp.float32)

    def across(x):
        at = jnp.argsort(x.reshape(-1))
        return jnp.sum(x.reshape(-1)[at] * jnp.arange(x.size)), jnp.mean(x, axis=0)

    program = jax.jit(across, out_shardings=mesh.replicated).lower(batch).compile()
    found = scaling.moved(program)
    assert scaling.Moved("all-reduce", "f32", (4, 4)) in found
    assert "all-gather" in {moved.kind for moved in found}
    assert max(moved.size for moved in found) >= rows * 16


def test_sixty_four_devices_share_the_work_too():
    """In a process of its own: how many devices there are is settled when the first is used."""
    arguments = ["--devices=64", "--parts=step", "mlpgan_mnist", "classifier_mnist"]
    shown = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", *arguments],
        cwd=contract.ROOT, env=os.environ, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    shares = [line.split() for line in shown.stdout.splitlines() if " step " in line]
    assert [row[0] for row in shares] == arguments[2:]
    assert all(float(row[-1]) <= 1.1 for row in shares)
    assert " x " not in shown.stdout.partition("\n")[2], shown.stdout  # nothing but reductions
