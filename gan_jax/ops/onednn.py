"""Convolutions by oneDNN on a CPU, where its package is installed (`pip install '.[cpu]'`).

PyTorch computes its convolutions on CPUs with this library. Its three operations are those of
`gan_jax.models.convolution`: forward is the convolution, backward by data the transposed one, and
backward by weights the weight gradient. XLA calls them through onednn.cc, which is compiled here.
"""

import contextlib
import ctypes
import hashlib
import logging
import math
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax import backend
from gan_jax.files import cache_folder, write_bytes

logger = logging.getLogger(__name__)

TARGET = "gan_jax_convolve"  # the operation's name in XLA's programs
SWITCH = "GAN_JAX_ONEDNN"  # the variable of the environment that is 0 where XLA computes all
PACKAGE = "onednn-cpu-gomp"
SOURCE = Path(__file__).with_suffix(".cc")
LIBRARY = "libdnnl.so.3"
COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 120  # seconds that the compiler may take, which needs four
SPINS = "10000"  # how often a thread of oneDNN looks for more work before it sleeps

# Floating point operations: with fewer, XLA has done its work before oneDNN's threads are awake.
# The reasons for this and the next number: `make bench SYSTEM=onednn`
LEAST = 2**21
FEW_CHANNELS = 4

Kind = Literal["forward", "data", "weights"]
KINDS = ("forward", "data", "weights")
DTYPES = ("float32", "bfloat16")


class Problem(NamedTuple):
    """A convolution of x [batch, *image, inputs] to y [batch, *small, outputs], or its derivative.

    Attributes:
      kind: what is computed of the other two: "forward" y, "data" x, "weights" the kernel.
      dtype: the type of all three; sums are in float32.
      taps: height and width of the kernel [*taps, inputs, outputs].
      padding: zeros on every side of x.
      swapped: the kernel is [*taps, outputs, inputs].
    """

    kind: Kind
    dtype: str
    batch: int
    image: tuple[int, int]
    inputs: int
    small: tuple[int, int]
    outputs: int
    taps: tuple[int, int]
    strides: int
    padding: int
    swapped: bool

    @property
    def operations(self) -> int:
        """Floating point operations, those with zeros of the padding included."""
        pixels = self.batch * math.prod(self.small)
        return 2 * pixels * math.prod(self.taps) * self.inputs * self.outputs

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the result."""
        if self.kind == "forward":
            return (self.batch, *self.small, self.outputs)
        if self.kind == "data":
            return (self.batch, *self.image, self.inputs)
        features = (self.inputs, self.outputs)
        return (*self.taps, *(features[::-1] if self.swapped else features))

    @property
    def numbers(self) -> np.ndarray:
        """The problem as onednn.cc reads it, int64."""
        found = (
            KINDS.index(self.kind), DTYPES.index(self.dtype), self.batch, *self.image, self.inputs,
            *self.small, self.outputs, *self.taps, self.strides, self.padding, self.swapped,
        )  # fmt: skip
        return np.array(found, np.int64)


def takes(problem: Problem) -> bool:
    """Whether oneDNN is faster than XLA at this problem, if it is in use."""
    if problem.operations < LEAST or problem.dtype not in DTYPES or _thin(problem):
        return False
    return implementation(problem).partition(":")[0] not in ("", "ref")


def _thin(problem: Problem) -> bool:
    """Whether few channels come from a kernel with an even side, where XLA is faster."""
    few = problem.kind != "weights" and problem.shape[-1] <= FEW_CHANNELS
    return few and problem.taps[0] % 2 == 0


def in_use() -> bool:
    """Whether programs that are traced here leave convolutions to oneDNN.

    Not if it is not installed or switched off, or if programs are for another device than a single
    CPU: XLA cannot split an operation that it does not know.
    """
    if backend.plain() or os.environ.get(SWITCH, "1") == "0":
        return False
    here = backend.kind() == jax.default_backend() == "cpu" and jax.device_count() == 1
    return here and library() is not None


def convolve(problem: Problem, first: Array, second: Array) -> Array:
    """The result of a problem: y of (x, kernel), x of (y, kernel), or the kernel of (x, y)."""
    result = jax.ShapeDtypeStruct(problem.shape, jnp.dtype(problem.dtype))
    call = jax.ffi.ffi_call(TARGET, result, vmap_method="sequential")
    return call(first, second, problem=problem.numbers)


@cache
def implementation(problem: Problem) -> str:
    """What oneDNN computes a problem with, such as "brgconv:avx512_core"; "" if it cannot."""
    numbers = problem.numbers
    ask = library().gan_jax_implementation
    ask.restype = ctypes.c_char_p
    return ask(numbers.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))).decode()


@cache
def library() -> ctypes.CDLL | None:
    """onednn.cc, compiled and registered with XLA; None where the package is not installed.

    A line says why it cannot be compiled or loaded, if so; XLA then computes everything. Threads of
    oneDNN would wait actively for more work, which holds up XLA's, so they may do so only for
    microseconds; OMP_WAIT_POLICY and GOMP_SPINCOUNT of the environment go before that.
    """
    root = Path(sysconfig.get_path("data"))
    headers = [root / "include", Path(jax.ffi.include_dir())]
    found = root / "lib" / LIBRARY
    if not sys.platform.startswith("linux") or not found.is_file():
        return None
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        opened = _compiled(found, headers)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or error
        reason = " ".join(str(reason).split())[:300]
        logger.warning(f"note: {PACKAGE} is installed but cannot be used: {reason}")
        return None
    handler = jax.ffi.pycapsule(opened.gan_jax_convolve)
    jax.ffi.register_ffi_target(TARGET, handler, platform="cpu")
    return opened


def _compiled(found: Path, headers: list[Path]) -> ctypes.CDLL:
    """onednn.cc as a library, compiled unless the user's cache folder has it whole.

    Raises:
      OSError: there is no compiler, or a file cannot be written.
      subprocess.SubprocessError: the compiler failed or took too long.
    """
    linked = [f"-L{found.parent}", f"-l:{found.name}", f"-Wl,-rpath,{found.parent}"]
    options = ["-std=c++17", "-O2", "-fPIC", "-shared", "-w", *(f"-I{path}" for path in headers)]
    made_of = repr((SOURCE.read_text(), options, linked, jax.lib.__version__))
    target = cache_folder() / "onednn" / f"{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    if target.is_file():
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(target))
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise OSError(f"there is no C++ compiler ({', '.join(COMPILERS)})")
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("compiling gan_jax/ops/onednn.cc, once for this machine")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / target.name
        command = [compiler, *options, str(SOURCE), "-o", str(made), *linked]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE)
        write_bytes(target, made.read_bytes())  # at once: another process may do the same
    return ctypes.CDLL(str(target))
