"""The optimisers of a system's networks, from the sections of its config."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import optax

from gan_jax.core import optim, schedules
from gan_jax.core.system import Array, Stage


class Player(NamedTuple):
    """How one network learns: its chain, and its learning rate at a step (int32 [])."""

    tx: optax.GradientTransformationExtraArgs
    rate: Callable[[Array], Array]


def make(
    sections: Mapping[str, Any], stages: Sequence[Stage], epoch_steps: Sequence[int], lowest: bool
) -> dict[str, Player]:
    """A player for every section of config.optim, by the name of its network.

    `lowest`: whether a lower validation value is better, for plateau rates. Raises UserError for
    values that are not accepted.
    """
    return {
        name: Player(
            optim.make(section, f"config.optim.{name}", lowest),
            schedules.make(
                section.lr, section.schedule, stages, epoch_steps, f"config.optim.{name}.schedule"
            ),
        )
        for name, section in sections.items()
    }
