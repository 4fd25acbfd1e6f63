"""The training step of a case beside PyTorch's: times, work and memory."""

import ctypes.util
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax

from benchmarks import agreement, apart, machine, ours, timing, twins
from benchmarks.apart import Distant
from benchmarks.cases import Case, torch_is_here
from benchmarks.ours import Ours, ready
from gan_jax import backend, heaps
from gan_jax.ops import onednn
from gan_jax.run.experiment import Experiment

HALF = "bfloat16"
PLAIN = "gan_jax, without oneDNN"
KEPT = "gan_jax, with tcmalloc"


class Opened:
    """A case that is being measured: our step, and the process of PyTorch's contenders."""

    def __init__(self, case: Case, seconds: float, small: bool = False):
        """`seconds`: how long the contenders of a part run in turn."""
        self.case, self.seconds, self.small = case, seconds, small
        # contenders that cannot run here, with the reason
        self.left_out: Mapping[str, str] = {}
        self._processes: list[apart.Apart] = []

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The case's experiment, without data."""
        return self.case.experiment(self.small)

    @functools.cached_property
    def step(self) -> Ours:
        """Our step; nothing of it is compiled."""
        return Ours(self.experiment)

    @property
    def _apart_is_possible(self) -> bool:
        """Whether PyTorch can compute the case here. Two processes cannot use a TPU."""
        here = bool(self.case.contender) and torch_is_here()
        return here and jax.default_backend() != "tpu"

    @functools.cached_property
    def _apart(self) -> apart.Apart:
        """The process of PyTorch's contenders, which begins when it is first asked for."""
        return self._begun(apart.Apart(twins.made, self.case, self.small))

    def _begun(self, process: apart.Apart) -> apart.Apart:
        """A process, to be ended by `close`."""
        self._processes.append(process)
        return process

    @functools.cached_property
    def _agree(self) -> Callable[[], None]:
        """Returns when PyTorch's contenders are known to agree, which a process on the CPU finds
        out, on a GPU."""
        return agreement.started(self.case)

    def begin(self) -> None:
        """Lets work for PyTorch's contenders begin that does not disturb the compiler.

        They are made meanwhile, but on a GPU, where kernels are chosen by their times.
        """
        if self._apart_is_possible and machine.accelerated():
            _ = self._agree
        elif self._apart_is_possible:
            _ = self._apart

    def twins(self, part: str) -> dict[str, Distant]:
        """PyTorch's contenders for a part by their names; {} without PyTorch.

        Raises UserError if they compute something else than ours.
        """
        if not self._apart_is_possible:
            return {}
        if machine.accelerated():
            self._agree()
        found, self.left_out = self._apart.contenders()
        return {name: distant for (of, name), distant in found.items() if of == part}

    def close(self) -> None:
        """Ends the processes of other contenders."""
        for process in self._processes:
            process.close()

    def kept(self) -> Distant | None:
        """Our step in a process with tcmalloc, where that is installed and not used by all."""
        library = ctypes.util.find_library("tcmalloc_minimal")
        if machine.accelerated() or heaps.allocator() or not library:
            return None
        before = os.environ.get("LD_PRELOAD", "")
        environment = {"LD_PRELOAD": f"{library} {before}".strip()}
        process = apart.Apart(twins.alone, self.case, self.small, environment=environment)
        return self._begun(process).contenders()[0].get("gan_jax")

    def halved(self) -> Ours | None:
        """Our step in bfloat16, compiled, on GPUs and TPUs."""
        if not machine.accelerated() or "dtype" not in self.case.load(self.small).model:
            return None
        return self._another(model__dtype=HALF)

    def plain(self) -> Ours | None:
        """Our step without oneDNN's convolutions, compiled, where they are in use."""
        if not onednn.in_use():
            return None
        with backend.plain_programs():
            return self._another()

    def _another(self, **changes: Any) -> Ours:
        """A step of its own, compiled; `changes` as for `Case.load`."""
        experiment = self.case.experiment(self.small, **changes)
        step = Ours(experiment)
        step.compile()
        return step


def measure(opened: Opened) -> dict[str, Any]:
    """The part "step": times of all contenders, and our step's operations and memory."""
    opened.begin()
    step = opened.step
    program = step.compile()
    contenders = {"gan_jax": ready(step), **opened.twins("step")}
    if (halved := opened.halved()) is not None:
        contenders[f"gan_jax, {HALF}"] = ready(halved)
    if (plain := opened.plain()) is not None:
        contenders[PLAIN] = ready(plain)
    if (kept := opened.kept()) is not None:
        contenders[KEPT] = kept
    times = timing.race(contenders, opened.seconds)
    return {
        "images": step.images,
        "operations": ours.operations(step),
        "memory": ours.memory(program),
        "times": {name: found.summary() for name, found in times.items()},
        "left_out": opened.left_out,
    }


def best(times: dict[str, dict[str, float]], half: bool = False) -> tuple[str, float] | None:
    """The name and the median of the fastest PyTorch contender in float32 or bfloat16."""
    found = {
        name: value["median"]
        for name, value in times.items()
        if name.startswith("PyTorch") and (HALF in name) == half
    }
    if not found:
        return None
    name = min(found, key=found.get)
    return name, found[name]
