"""Whether PyTorch's step computes what ours does, beginning with the same weights.

    python -m benchmarks.agreement --case=dcgan_28

The losses of a few steps and the norms of the first gradients are compared. It is the small form of
a case, on a CPU, in float32 and without dropout, whose masks two programs cannot share. The
contenders are the same code as those that are timed.
"""

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks import cases, ours
from benchmarks.cases import Case, torch_is_here
from benchmarks.ours import Ours
from gan_jax.errors import UserError, one_line

ROOT = Path(__file__).parents[1]
AGREED_STEPS = 2
CLOSE = dict(rtol=2e-3, atol=2e-4)  # of losses in float32
CLOSE_NORMS = dict(rtol=1e-2, atol=1e-4)  # of gradients


class Disagreement(UserError):
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
    """Compares a few steps of the small form of a case, with the same weights and draws.

    All forms of the contender are compared, in each layout. Raises Disagreement.
    """
    from benchmarks.contenders.place import Place

    module = module_of(case)
    with ours.without_dropout():
        experiment = case.agreeing()
        step = Ours(experiment, case.noise)
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
                for trainer in twin.trainers.values():
                    trainer.norms = []
                _compare(case, f"{name}, step {number}", found, twin(batch))
                norms = {n: np.mean(trainer.norms) for n, trainer in twin.trainers.items()}
                if not number:
                    # Adam turns the rounding of gradients near 0 into steps as long as any other
                    _compare_norms(case, f"{name}, step {number}", found, norms)


def _compare(case: Case, where: str, found: dict[str, float], theirs: dict[str, Any]) -> None:
    for loss in case.losses:
        if not np.isclose(float(theirs[loss]), found[loss], **CLOSE):
            raise Disagreement(
                f"{case.name}: {loss} is {found[loss]:.6g} here and {float(theirs[loss]):.6g} in "
                f"{where}"
            )


def _compare_norms(
    case: Case, where: str, found: dict[str, float], theirs: dict[str, float]
) -> None:
    for net, norm in theirs.items():
        if not np.isclose(norm, found[f"grad_norm/{net}"], **CLOSE_NORMS):
            raise Disagreement(
                f"{case.name}: the norm of the gradients of {net} is "
                f"{found[f'grad_norm/{net}']:.6g} here and {norm:.6g} in {where}"
            )


def started(case: Case) -> Callable[[], None]:
    """A function that returns when the contenders are known to agree. It raises Disagreement.

    A process of its own compares them on the CPU, while programs are compiled for a GPU.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.agreement", f"--case={case.name}"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip

    def wait() -> None:
        _, lines = process.communicate()
        if process.returncode:
            said = [line for line in lines.splitlines() if line.strip()]
            raise Disagreement(one_line(said[-1] if said else f"{case.name}: no agreement"))

    return wait


def main(words: list[str]) -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", required=True)
    (case,) = cases.chosen(parser.parse_args(words).case)
    try:
        agree(case)
    except Disagreement as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
