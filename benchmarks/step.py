"""The training step of a case beside PyTorch's: agreement first, then times, work and memory."""

import functools
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jax
import numpy as np

from benchmarks import machine, ours, timing
from benchmarks.cases import Case, stage_of, torch_is_here
from benchmarks.ours import Ours
from gan_jax.errors import one_line
from gan_jax.run.experiment import Experiment

HALF = "bfloat16"
AGREED_STEPS = 2
CLOSE = dict(rtol=2e-3, atol=2e-4)  # of losses in float32


class Disagreement(Exception):
    """Two programs that should compute the same do not."""


def drawn(step: Ours) -> Iterator[dict[str, np.ndarray]]:
    """What a training step would draw at random, as batches that all contenders are given."""
    random, system = np.random.default_rng(1), step.experiment.config.system
    count, latents = step.images, step.experiment.system.latents
    image = step.pixels.get("image", step.pixels.get("input"))
    floats = np.float32
    while True:
        noise = random.normal(size=image.shape).astype(floats)
        z = [random.normal(size=(count, latents)).astype(floats) for _ in range(2)]
        steps = step.experiment.config.discrete.steps if "diffusion" in system else 1000
        # one time is 0, where the bound differs
        level = np.append(0, random.integers(0, steps, count - 1)).astype(np.int32)
        real = random.uniform(-1, 1, image.shape).astype(floats)
        yield {
            "gan": {"z": z[0]},
            "warpgan": {"z": z[0]},
            "progan": {
                "real": real,
                "z_disc": z[0],
                "z_gen": z[1],
                "mixing": random.uniform(size=(count, 1, 1, 1)).astype(floats),
                "label_gen": np.zeros(count, np.int32),
            },
            "diffusion": {"level": level, "noise": noise, "weight": np.ones(count, floats)},
            "noisy_classifier": {"t": level, "noise": noise},
        }.get(system, {})


def module_of(case: Case) -> ModuleType | None:
    """The module with the case's step in PyTorch; None without PyTorch."""
    if not (case.contender and torch_is_here()):
        return None
    return importlib.import_module(f"benchmarks.contenders.{case.contender}")


def forms_of(module: ModuleType) -> dict[str, dict[str, Any]]:
    """The ways in which a module writes its step, by their names; "" is the usual one."""
    return getattr(module, "FORMS", {"": {}})


def agree(case: Case) -> None:
    """Compares losses of a few steps on the small form of a case, with the same weights and draws.

    It has no dropout. All forms of the contender are compared, in each layout. Raises Disagreement.
    """
    from benchmarks.contenders.place import Place

    module = module_of(case)
    with ours.without_dropout():
        experiment = case.agreeing()
        step = Ours(experiment, stage_of(experiment))
        twins = {}
        for last in (False, True):
            for form, options in forms_of(module).items():
                place = Place(channels_last=last)
                twin = module.make(step, place, **options)
                twin.quieten()
                twins[f"{place.name} {form}"] = twin
        for number, batch in zip(range(AGREED_STEPS), drawn(step), strict=False):
            found = step.learn(batch)
            for name, twin in twins.items():
                _compare(case, f"{name}, step {number}", found, twin(batch))


def _compare(case: Case, where: str, found: dict[str, float], theirs: dict[str, Any]) -> None:
    for loss in case.losses:
        if not np.isclose(float(theirs[loss]), found[loss], **CLOSE):
            raise Disagreement(
                f"{case.name}: {loss} is {found[loss]:.6g} here and {float(theirs[loss]):.6g} in "
                f"{where}"
            )


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
    def step(self) -> Ours:
        """Our step; nothing of it is compiled."""
        return Ours(self.experiment, stage_of(self.experiment))

    @functools.cached_property
    def twins(self) -> dict[str, Any]:
        """The PyTorch steps by their names, which begin with our weights; {} without PyTorch.

        Each is called once, which is when torch.compile fails if it does.
        """
        module, found = module_of(self.case), {}
        if module is None:
            return found
        agree(self.case)
        from benchmarks.contenders.place import places

        for place in places():
            for form, options in forms_of(module).items():
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
        experiment = self.case.experiment(self.small, model__dtype=HALF)
        step = Ours(experiment, stage_of(experiment))
        step.compile()
        return step


def measure(opened: Opened) -> dict[str, Any]:
    """The part "step": times of all contenders, and our step's operations and memory."""
    step, twins = opened.step, opened.twins
    program = step.compile()
    contenders = {"gan_jax": _ready(step)}
    contenders |= {name: timing.Contender(twin, twin.place.wait) for name, twin in twins.items()}
    if (halved := opened.halved()) is not None:
        contenders[f"gan_jax, {HALF}"] = _ready(halved)
    times = timing.race(contenders, opened.seconds)
    return {
        "images": step.images,
        "operations": ours.operations(program),
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
