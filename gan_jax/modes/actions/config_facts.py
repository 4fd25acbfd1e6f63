"""What is known about a config file without building its networks, and without jax."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from gan_jax import config as configs

RESOLUTION = 28  # pixels, where a config does not say: the default of config.data.resolution
LENGTH = configs.RUN["steps"]


@dataclass(frozen=True)
class Facts:
    """What a config trains.

    Attributes:
      name: what --config calls it.
      about: a sentence on what it trains.
      system: the name of its system.
      resolution: the side of its images in pixels.
      length: how long it trains, such as "60 epochs"; "preset" where the devices decide.
      variants: their names.
      cost: what a run costs, where that was measured or published; "" where it was not.
    """

    name: str
    about: str
    system: str
    resolution: int
    length: str
    variants: tuple[str, ...]
    cost: str


class _Section:
    """Stands in for a config, or for a section of one: it keeps the values that a file sets."""

    def __getattr__(self, name: str) -> "_Section":
        self.__dict__[name] = _Section()
        return self.__dict__[name]

    def update(self, *sections: dict[str, Any], **values: Any) -> None:
        """Sets values, as that of a ConfigDict."""
        for section in (*sections, values):
            self.__dict__.update(section)

    def get(self, name: str, otherwise: Any) -> Any:
        """A value that was set, or `otherwise`."""
        return self.__dict__.get(name, otherwise)


def read(file: Path) -> Facts:
    """The facts of a config file.

    Its `get_config` is called with a stand-in for the config, since the real one would import the
    system and with it jax. Whatever goes wrong in the file is raised.
    """
    module = configs.load(file)
    chosen: list[str] = []
    accepted: list[str] = []

    def defaults(system: str) -> _Section:
        chosen.append(system)
        return _Section()

    def variants(text: str, names: Sequence[str]) -> tuple[str, ...]:
        accepted.extend(names)
        return ()

    beside = [part for part in vars(module).values() if isinstance(part, ModuleType)]
    for part in (module, *beside):
        if hasattr(part, "defaults"):
            part.defaults = defaults
    module.variants = variants
    config = module.get_config()
    text = module.__doc__ or ""
    cost = re.search(r"^Cost: (.+?)[.](?: |$)", _one_line_paragraphs(text), re.M)
    return Facts(
        file.stem,
        _one_line_paragraphs(text).partition("\n")[0].removesuffix("."),
        chosen[0],
        config.data.get("resolution", RESOLUTION),
        config.run.get("steps", LENGTH),
        tuple(accepted),
        cost[1] if cost else "",
    )


def _one_line_paragraphs(text: str) -> str:
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
