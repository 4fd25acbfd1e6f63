"""The training step of a case beside PyTorch's: agreement first, then times, work and memory."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from benchmarks import agreement, machine, ours, timing
from benchmarks.agreement import forms_of, module_of
from benchmarks.cases import Case, stage_of
from benchmarks.ours import Ours
from gan_jax import backend
from gan_jax.errors import one_line
from gan_jax.ops import onednn
from gan_jax.run.experiment import Experiment

HALF = "bfloat16"


class Opened:
    """A case that is being measured: our step and PyTorch's, made when they are first needed."""

    def __init__(self, case: Case, seconds: float, small: bool = False):
        """`seconds`: how long the contenders of a part run in turn."""
        self.case, self.seconds, self.small = case, seconds, small
        self.left_out: dict[str, str] = {}  # contenders that cannot run here, with the reason

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The case's experiment, without data."""
        return self.case.experiment(self.small)

    @functools.cached_property
    def agree(self) -> Callable[[], None]:
        """Returns when the contenders are known to agree; on a GPU they are compared meanwhile."""
        return agreement.started(self.case)

    @functools.cached_property
    def step(self) -> Ours:
        """Our step; nothing of it is compiled."""
        return Ours(self.experiment, stage_of(self.experiment))

    @functools.cached_property
    def twins(self) -> dict[str, Any]:
        """The PyTorch steps by their names, which begin with our weights; {} without PyTorch.

        Each is called once, which is when torch.compile fails if it does. Of the forms of a module
        only the usual one is compiled.
        """
        module, found = module_of(self.case), {}
        if module is None:
            return found
        self.agree()
        from benchmarks.contenders.place import places

        for place in places():
            forms = {"": {}} if place.compiled else forms_of(module)
            for form, options in forms.items():
                name = ", ".join(filter(None, (place.name, form)))
                try:
                    twin = module.make(self.step, place, **options)
                    twin()
                    place.wait()
                except Exception as error:  # of many kinds: what torch.compile cannot do
                    if not place.compiled:
                        raise
                    self.left_out[name] = one_line(str(error))[:200]
                    continue
                found[name] = twin
        return found

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
        step = Ours(experiment, stage_of(experiment))
        step.compile()
        return step


def measure(opened: Opened) -> dict[str, Any]:
    """The part "step": times of all contenders, and our step's operations and memory."""
    if module_of(opened.case) is not None:
        _ = opened.agree  # on a GPU they are compared while ours is compiled
    step = opened.step
    program, twins = step.compile(), opened.twins
    contenders = {"gan_jax": _ready(step)}
    contenders |= {name: timing.Contender(twin, twin.place.wait) for name, twin in twins.items()}
    if (halved := opened.halved()) is not None:
        contenders[f"gan_jax, {HALF}"] = _ready(halved)
    if (plain := opened.plain()) is not None:
        contenders["gan_jax, without oneDNN"] = _ready(plain)
    times = timing.race(contenders, opened.seconds)
    return {
        "images": step.images,
        "operations": ours.operations(step),
        "memory": ours.memory(program),
        "times": {name: found.summary() for name, found in times.items()},
        "left_out": opened.left_out,
    }


def _ready(step: Ours) -> timing.Contender:
    """A compiled step as a contender; training waits for its metrics now and then."""
    return timing.Contender(step.step, jax.block_until_ready)


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
