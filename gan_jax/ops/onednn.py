"""Convolutions by oneDNN on a CPU, where its package is installed (`pip install '.[cpu]'`).

PyTorch computes its convolutions on CPUs with this library. Its three operations are those of
`gan_jax.models.convolution`: forward is the convolution, backward by data the transposed one, and
backward by weights the weight gradient. XLA calls them through onednn.cc, which is compiled here
and lets XLA's own threads do the work.
"""

import contextlib
import ctypes
import hashlib
import importlib.metadata
import logging
import math
import os
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from gan_jax import backend, caches
from gan_jax.files import reason, write_bytes

logger = logging.getLogger(__name__)

TARGET = "gan_jax_convolve"  # the operation's name in XLA's programs
SWITCH = "GAN_JAX_ONEDNN"  # the variable of the environment that is OFF where XLA computes all
OFF = ("0", "false", "no", "off")
PACKAGE, HEADERS, VERSION = "onednn-cpu-gomp", "onednn-devel-cpu-gomp", "2023.2.0"
SOURCE = Path(__file__).with_suffix(".cc")
LIBRARY, HEADER = "/libdnnl.so.3", "/oneapi/dnnl/dnnl.hpp"
COMPILERS = ("c++", "g++", "clang++")
COMPILER_SECONDS = 120  # at most; it needs about four

# Floating point operations, those for a single image where images are computed: of fewer, calling
# oneDNN is too large a part
LEAST = 2**17

Kind = Literal["forward", "data", "weights"]
KINDS = get_args(Kind)
DTYPES = ("float32", "bfloat16")

_loading = threading.Lock()


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
    """Whether oneDNN computes a problem where it is in use."""
    if problem.dtype not in DTYPES or problem.batch == 0 or not _worth(problem):
        return False
    return implementation(problem).partition(":")[0] not in ("", "ref")


def _worth(problem: Problem) -> bool:
    """Whether a problem is large enough for oneDNN to be faster than XLA (docs/performance.md).

    Of an image the answer is the same in any batch, and so are its bits.
    """
    of_images = 1 if problem.kind == "weights" else problem.batch
    return problem.operations // of_images >= LEAST


def in_use() -> bool:
    """Whether programs that are traced here leave convolutions to oneDNN.

    Not if it is not installed or switched off, or if programs are for another device than a single
    CPU: XLA cannot split an operation that it does not know.
    """
    if backend.plain() or os.environ.get(SWITCH, "").lower() in OFF:
        return False
    here = backend.kind() == jax.default_backend() == "cpu" and jax.device_count() == 1
    return here and library() is not None


def convolve(problem: Problem, first: Array, second: Array) -> Array:
    """The result of a problem: y of (x, kernel), x of (y, kernel), or the kernel of (x, y)."""
    result = jax.ShapeDtypeStruct(problem.shape, jnp.dtype(problem.dtype))
    call = jax.ffi.ffi_call(TARGET, result, vmap_method="expand_dims")
    return call(first, second, problem=problem.numbers)


@cache
def implementation(problem: Problem) -> str:
    """What oneDNN computes a problem with, such as "brgconv:avx512_core"; "" if it cannot."""
    numbers = problem.numbers
    ask = library().gan_jax_implementation
    ask.restype, ask.argtypes = ctypes.c_char_p, (ctypes.c_void_p,)
    return ask(numbers.ctypes.data).decode()


def library() -> ctypes.CDLL | None:
    """What `_loaded` gives, which threads that trace programs may ask for at the same time."""
    with _loading:
        return _loaded()


@cache
def _loaded() -> ctypes.CDLL | None:
    """onednn.cc, compiled and registered with XLA; None where the packages are not installed.

    A line says why they cannot be used, if so; XLA then computes everything.
    """
    try:
        binary, header = _installed(PACKAGE, LIBRARY), _installed(HEADERS, HEADER)
        if binary is None:
            return None
        if header is None:
            raise OSError(f"its headers are missing: pip install {HEADERS}=={VERSION}")
        opened = _compiled(binary, header.parents[2])
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        logger.warning(
            f"note: {PACKAGE} is installed but cannot be used, so XLA computes convolutions "
            f"({SWITCH}=0: without this line): {reason(error)}"
        )
        return None
    handler = jax.ffi.pycapsule(opened.gan_jax_convolve)
    jax.ffi.register_ffi_target(TARGET, handler, platform="cpu")
    return opened


def _installed(package: str, ending: str) -> Path | None:
    """The file of a package whose path ends so; None without it.

    Raises OSError for another version of the package.
    """
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None
    if found.version != VERSION:
        raise OSError(f"{package} {found.version} is there, and version {VERSION} is needed")
    paths = (f for f in found.files or () if f.as_posix().endswith(ending))
    return next((Path(found.locate_file(path)).resolve() for path in paths), None)


def _compiled(binary: Path, headers: Path) -> ctypes.CDLL:
    """onednn.cc as a library: that in the user's cache folder, if it is whole, else a new one.

    Raises:
      OSError, RuntimeError: there is no compiler, it failed, or there is no folder for files.
      subprocess.SubprocessError: the compiler took too long.
    """
    linked = [f"-L{binary.parent}", f"-l:{binary.name}", f"-Wl,-rpath,{binary.parent}"]
    places = [f"-I{headers}", f"-I{jax.ffi.include_dir()}"]
    options = ["-std=c++17", "-O2", "-fPIC", "-shared", "-w", *places]
    read = [SOURCE.read_text(), *(p.read_text() for p in sorted(SOURCE.parent.glob("*.h")))]
    made_of = repr((read, options, linked, jax.lib.__version__))
    kept = _Kept(hashlib.sha256(made_of.encode()).hexdigest()[:16])
    if (opened := kept.opened()) is not None:
        return opened
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise OSError(f"there is no C++ compiler ({', '.join(COMPILERS)})")
    logger.info("compiling gan_jax/ops/onednn.cc, once for this machine")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "onednn.so"
        command = [compiler, *options, str(SOURCE), "-o", str(made), *linked]
        how = dict(capture_output=True, text=True, errors="replace", timeout=COMPILER_SECONDS)
        done = subprocess.run(command, **how)
        if done.returncode:
            raise RuntimeError(f"{compiler}: {done.stderr}")
        kept.keep(made.read_bytes())
        return kept.opened() or ctypes.CDLL(str(made))


class _Kept:
    """A library in the user's cache folder, with the checksum of its file beside it: the system
    ends a process that loads half a library."""

    def __init__(self, name: str):
        self._name = name

    @property
    def _library(self) -> Path:
        return caches.folder() / "onednn" / f"{self._name}.so"

    @property
    def _checksum(self) -> Path:
        return self._library.with_suffix(".sha256")

    def opened(self) -> ctypes.CDLL | None:
        """The library; None if it is not there, not whole or another user's."""
        with contextlib.suppress(OSError):
            found = self._library.read_bytes()
            own = self._library.stat().st_uid == os.getuid()
            checksum = hashlib.sha256(found).hexdigest().encode()
            if own and checksum == self._checksum.read_bytes():
                return ctypes.CDLL(str(self._library))
        return None

    def keep(self, made: bytes) -> None:
        """Writes both files, if that is possible."""
        with contextlib.suppress(OSError):
            self._library.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_bytes(self._library, made)
            write_bytes(self._checksum, hashlib.sha256(made).hexdigest().encode())
