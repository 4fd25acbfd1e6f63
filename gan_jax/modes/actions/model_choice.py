"""The choice of the trained model that a mode works with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ml_collections import ConfigDict

from gan_jax.core.system import System
from gan_jax.run.model import Adjust, Model, as_it_is
from gan_jax.run.pretrained import opened


@dataclass(frozen=True)
class ModelChoice:
    """A state of a run or, without a run, the weights that a config's `restore` names.

    Attributes:
      workdir: the run's folder; "" for none.
      state: "newest" checkpoint, "best" state, or a step as text.
      config: without a run, a config whose `restore` names weights.
      adjust: applied to the model before it is used.
      data: where the run's data are now, by keys of config.data; see `gan_jax.run.model.load`.
    """

    workdir: str | Path = ""
    state: str = "newest"
    config: ConfigDict | None = None
    adjust: Adjust = as_it_is
    data: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: "str | Path | ModelChoice") -> Self:
        """The choice itself, or the newest state of the run in a folder."""
        return run if isinstance(run, cls) else cls(run)

    def open(self, uses: Callable[[System], Sequence[str]], mode: str) -> Model:
        """The model. `uses` gives the nets of a system that must have weights.

        Raises UserError if there is no such model; the message names `mode`.
        """
        model = opened(self.workdir, self.state, self.config, uses, mode, self.data)
        return self.adjust(model)


def drawn_by(system: System) -> Sequence[str]:
    """The net of a system that makes images, in a list: its first net with a learning rate."""
    return [*system.rates][:1]
