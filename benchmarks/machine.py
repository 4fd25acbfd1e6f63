"""The machine that is measured on: what it is, and the most that it computes in a second."""

import functools
import importlib.metadata
import os
import platform
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks import timing
from gan_jax import heaps
from gan_jax.ops import onednn

SIDES = {"cpu": 2048, "gpu": 8192, "tpu": 8192}  # of the square matrices whose product is timed


def accelerated() -> bool:
    """Whether programs run on a GPU or TPU."""
    return jax.default_backend() != "cpu"


def describe() -> dict[str, str]:
    """The machine and the libraries, in words, by what they are."""
    found = {
        "device": _device(),
        "cores": str(cores()),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
    }
    if torch := _version("torch"):
        found["torch"] = torch
    if onednn.in_use():
        found["onednn"] = onednn.VERSION
    if name := heaps.allocator():
        found["allocator"] = name
    if os.environ.get("XLA_FLAGS"):
        found["XLA_FLAGS"] = os.environ["XLA_FLAGS"]
    return found


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _device() -> str:
    """The model of what computes: of the GPUs or TPUs, otherwise of the processor."""
    if accelerated():
        return f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _version(package: str) -> str:
    """The version of an installed package, "" without it."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def peaks(seconds: float, side: int = 0) -> dict[str, float]:
    """Floating point operations a second of a large product of matrices, by the type of its input.

    float32 is computed as JAX computes it in training: on GPUs that have TF32, with it. bfloat16 is
    measured on GPUs and TPUs only. `side` is that of the matrices; 0 is the usual one.
    """
    side = side or SIDES.get(jax.default_backend(), SIDES["cpu"])
    found = {}
    for dtype in ("float32", "bfloat16") if accelerated() else ("float32",):
        a, b = (jax.random.normal(jax.random.key(n), (side, side), dtype) for n in (0, 1))
        call = functools.partial(jax.jit(jnp.matmul), a, b)
        contender = timing.Contender(call, jax.block_until_ready)
        best = timing.race({dtype: contender}, seconds)[dtype].fastest
        found[dtype] = 2 * side**3 / best
    return found
