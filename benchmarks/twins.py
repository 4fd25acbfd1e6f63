"""Contenders of a case that are made in processes of their own (benchmarks/apart.py)."""

import functools
from typing import Any

import numpy as np

from benchmarks import agreement, machine
from benchmarks.agreement import forms_of, module_of
from benchmarks.cases import Case
from benchmarks.ours import Ours, ready
from benchmarks.timing import Contender
from gan_jax import heaps
from gan_jax.errors import one_line


def made(case: Case, small: bool) -> tuple[dict[tuple[str, str], Contender], dict[str, str]]:
    """(PyTorch's contenders by part, "step" or "sample", and name; the reasons of those left out).

    They begin with our weights. Each step is called once, which is when torch.compile fails if it
    does. Of the forms of a module only the usual one is compiled. Raises agreement.Disagreement if
    they compute something else than ours, on a CPU.
    """
    if not machine.accelerated():
        agreement.agree(case)
    experiment = case.experiment(small)
    step, found, left_out = Ours(experiment), {}, {}
    module, count = module_of(case), case.drawn(small)
    from benchmarks.contenders.place import places

    for place in places():
        forms = {"": {}} if place.compiled else forms_of(module)
        for form, options in forms.items():
            name = ", ".join(filter(None, (place.name, form)))
            try:
                twin = module.make(step, place, **options)
                twin()
                place.wait()
            except Exception as error:  # of many kinds: what torch.compile cannot do
                if not place.compiled:
                    raise
                left_out[name] = one_line(str(error))[:200]
                continue
            found["step", name] = Contender(twin, place.wait)
            if hasattr(twin, "sample"):
                found["sample", name] = Contender(functools.partial(_on_host, twin, count))
    return found, left_out


def alone(case: Case, small: bool) -> tuple[dict[str, Contender], None]:
    """Our step, for a process with tcmalloc; none if it could not be loaded."""
    if not heaps.allocator():
        return {}, None
    experiment = case.experiment(small)
    step = Ours(experiment)
    step.compile()
    return {"gan_jax": ready(step)}, None


def _on_host(twin: Any, count: int) -> np.ndarray:
    """Images of a PyTorch contender."""
    return twin.sample(count).cpu().numpy()
