"""The tables of all config keys, with their defaults and with what the code says of them."""

import ast
import itertools
import tokenize
from collections.abc import Iterator
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from gan_jax import config as configs

CODE = Path(__file__).parents[1] / "gan_jax"
SHARED = (
    "system",
    "seed",
    "data",
    "run",
    "quality",
    "mesh",
    "optim",
    "restore",
)  # not a system's own
OPTIMIZERS = (
    "Each network that is trained has such a section. NET is its name: `gen` and `disc` in `gan`, "
    "`pix2pix`, `progan` and `warpgan`, `unet` in `diffusion`, `classifier` in the two "
    "classifiers. `config.restore.NET` names a file or a run from which its first weights are "
    "taken, and a pattern of the names that are taken. The table shows the defaults of `gan`; "
    "other systems have other values.\n"
)
SCHEDULES = "[Learning rates](../rates.md) has the formulas.\n"
WIDTH = 100  # columns of a line of code
# what the code does not say, or says in words for those who read the code; the last name of a key
# or its last two
PLAIN = {
    "augment": "from color, translation, cutout",
    "batch_size": "images per update, over all devices",
    "best.metric": "the value that chooses the best state",
    "best.mode": "min or max: whether a low or a high value is the best",
    "caricatures": "of each person",
    "churn_max": "heun: the highest noise level at which noise is added; 0: no limit",
    "churn_min": "heun: the lowest noise level at which noise is added",
    "churn_noise": "heun: the scale of the added noise",
    "classifier_steps": "how long the classifier of the metrics is trained",
    "classifier_width": "channels of its first layer",
    "data.identities": "drawn_faces: how many people",
    "data.on_error": "raise / skip, for images that cannot be read",
    "data.validation_fraction": "the share of the images that is held out, unless a split says",
    "data.validation_split": "see the page on data; fraction: always the fraction",
    "disc.init": "how the weights begin; the system's page lists the ways",
    "disc.name": "which discriminator; the system's page lists them",
    "disc_rates": "in place of optim.disc.lr, such as 1024:0.0015",
    "disc_steps": "updates of the discriminator for each update of the generator",
    "discrete.steps": "how many steps the chain has",
    "dropout": "the share of features that is dropped",
    "edm.mean": "the mean of the logarithm of the noise level",
    "edm.std": "the standard deviation of the logarithm of the noise level",
    "ema_warmup": "whether the decays begin small",
    "eps": "Adam's ε",
    "eval_every": "how often validation losses are computed",
    "exaggeration": "how much a drawn caricature exaggerates",
    "factors": "piecewise_constant: one for each boundary",
    "fmap_decay": "how fast the channels become fewer with the side",
    "fmap_max": "the most channels of a layer",
    "gen.init": "how the weights begin; the system's page lists the ways",
    "gen.name": "which generator; the system's page lists them",
    "kid_subset_size": "images in each of them, at most",
    "kid_subsets": "how many subsets KID is the mean of",
    "label_smoothing": "how much of each target is spread over all classes",
    "log_every": "how often metrics are written",
    "logit_mean": "logit_normal: its mean",
    "logit_std": "logit_normal: its standard deviation",
    "lr": "the learning rate, before the schedule",
    "minibatch_discrimination_dims": "dimensions of each kernel",
    "mode_seeking": "the weight of the mode seeking term",
    "norm_groups": "groups of group norm",
    "num_channels": "channels of the first level",
    "num_heads": "heads of attention",
    "percentile": "the percentile of dynamic clipping",
    "preprocess_validation": "the same for validation, nothing random",
    "quality.metrics": "what is measured; the page on metrics lists the names",
    "reading": "auto; first: as in the first revision, for runs that began with it",
    "rho": "how the noise levels of heun, of edm and of spacing by sigma are spread",
    "mesh.data": "groups of devices with the same part of the state; 0: as many as there are",
    "mesh.fsdp": "parts into which the state is split; 1: every device holds all of it",
    "mesh.least_mb": "megabytes (2^20 bytes) from which an array of the state is split",
    "run.devices": "how many; 0: all",
    "run.steps": "how long the run is",
    "sample_every": "how often a grid is drawn",
    "save_every": "how often the state is saved",
    "seed": "of all random numbers of the run",
    "sigma_data": "the standard deviation of the images' values",
    "sigma_max": "the highest noise level; 0: that of the chain, or 80",
    "spectral_norm": "whether kernels are divided by their largest singular value",
    "synthetic_classes": "classes of the synthetic source",
    "target": "the norm that the gradient penalty asks for",
    "validation_identities": "people who are held out",
    "validation_list": "the same for validation",
    "warmup": "how long the rate rises to lr before the schedule begins",
    "z_dim": "numbers in a latent",
}

Names = tuple[str, ...]


def tables() -> str:
    """Tables of all keys: those of every system, of an optimizer, and of each system."""
    every = configs.defaults("gan")
    parts = ["## Every system\n", _table("gan", {"seed": every.seed}, "")]
    for name in ("data", "run", "quality", "mesh"):
        parts += [f"### `config.{name}`\n", _table("gan", every[name], f"{name}.")]
    optimizer = dict(every.optim.gen)
    schedule = optimizer.pop("schedule")
    parts += ["## Optimizers\n", OPTIMIZERS, _table("gan", optimizer, "optim.NET.")]
    parts += ["### The learning rate\n", SCHEDULES]
    parts.append(_table("gan", schedule, "optim.NET.schedule."))
    for system in configs.SYSTEMS:
        config = configs.defaults(system)
        own = {name: config[name] for name in config if name not in SHARED}
        parts += [f"## The system `{system}`\n", _table(system, own, "")]
    return "\n".join(parts)


def cell(text: str) -> str:
    """A text as it stands in a cell of a table."""
    return " ".join(text.replace("|", "\\|").split())


def about(system: str, key: str) -> str:
    """What a key means: a text of this file, or else the code's comment on it.

    Args:
      system: a system that has the key.
      key: its name, such as "loss.r1".

    Raises KeyError for a key on which there is neither.
    """
    words = tuple(key.lower().split("."))
    if (own := ".".join(words[-2:])) in PLAIN:
        return PLAIN[own]
    sections = frozenset(_sections(configs.defaults(system)))
    best, found = 0, ""
    for path in _sources(system, words):
        for names, comment in comments(path):
            if len(names) > 1 and names[-2] in sections and names[-2:] != words[-2:]:
                continue  # a key of the same name in another section
            common = _common_end(words, names)
            if common > best:
                best, found = common, comment
    if not (text := found or PLAIN.get(words[-1], "")):
        raise KeyError(
            f"config.{key} of {system}: give it a comment beside its default, or a text in PLAIN"
        )
    return text


def _common_end(words: Names, names: Names) -> int:
    """How many names two keys have in common, counted from their ends."""
    common = 0
    for one, other in zip(reversed(words), reversed(names), strict=False):
        if one != other:
            break
        common += 1
    return common


def _table(system: str, section: Any, prefix: str) -> str:
    rows = ["| key | default | meaning |", "|---|---|---|"]
    for key, value in _leaves(section, prefix):
        text = about(system, key).replace(" | ", " / ")
        if text.startswith("| "):  # the other values
            text = (value.strip('"') or value) + text.replace("|", " /", 1)
        rows.append(f"| `config.{key}`{{.whole}} | `{cell(value)}` | {cell(text)} |")
    return "\n".join(rows) + "\n"


def _leaves(section: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """The keys of a section with their defaults as text."""
    for name, value in section.items():
        if hasattr(value, "items"):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, f'"{value}"' if isinstance(value, str) else str(value)


def _sections(config: Any) -> set[str]:
    """The names of a config's sections."""
    found = {name for name, value in config.items() if hasattr(value, "items")}
    return found.union(*(_sections(config[name]) for name in found))


def _sources(system: str, words: Names) -> list[Path]:
    """The files that may define a key."""
    if words[0] == "data":
        return [CODE / "data/config.py"]
    if words[0] in ("run", "quality"):
        return [CODE / "config.py"]
    if words[0] == "optim":
        return [CODE / f"core/{'schedules' if 'schedule' in words else 'optim'}.py"]
    networks = {"diffusion": "unet", "noisy_classifier": "unet"}.get(system, system)
    own = [*(CODE / "systems").glob(f"{system}*.py"), *(CODE / "models").glob(f"{networks}*.py")]
    return [] if len(words) == 1 and words[0] == "seed" else sorted(own)


@cache
def comments(path: Path) -> list[tuple[Names, str]]:
    """The comments on names in a file: ((section, …, name), comment).

    A name is a key of a dict, an argument of `dict(…)`, or a field of a class. Its comment stands
    at the end of its line and goes on in lines of comment below, or it stands in the lines above.
    """
    text = path.read_text()
    lines = text.splitlines()
    at = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    whole = {number for number in at if lines[number - 1].lstrip().startswith("#")}
    found = []
    for names, node in _names(ast.parse(text), ()):
        numbers = list(
            itertools.takewhile(whole.__contains__, itertools.count(node.lineno - 1, -1))
        )
        if node.lineno in at:
            below = list(itertools.takewhile(whole.__contains__, itertools.count(node.lineno + 1)))
            numbers = (
                [*reversed(below), node.lineno] if _goes_on(lines, at, below) else [node.lineno]
            )
        if numbers:
            found.append((names, " ".join(at[number] for number in reversed(numbers))))
    return found


def _goes_on(lines: list[str], at: dict[int, str], below: list[int]) -> bool:
    """Whether the comment at the end of a line goes on in the lines of comment below it.

    It does if it had no room for the next word, and the code that follows has a comment of its own.
    """
    if not below:
        return False
    line, following = lines[below[0] - 2], at[below[0]].split()[0]
    return line.endswith("|") or (len(f"{line} {following}") > WIDTH and below[-1] + 1 in at)


def _names(node: ast.AST, names: Names) -> Iterator[tuple[Names, ast.AST]]:
    """Every name below a node, after those of its sections, and where it stands."""
    pairs: list[tuple[str, ast.AST | None, ast.AST | None]] = []
    if isinstance(node, ast.Dict):
        known = zip(node.keys, node.values, strict=True)
        pairs = [(k.value, v, k) for k, v in known if isinstance(k, ast.Constant)]
    elif isinstance(node, ast.Call):
        pairs = [(k.arg, k.value, k) for k in node.keywords if k.arg]
    elif isinstance(node, ast.ClassDef):
        fields = [f for f in node.body if isinstance(f, ast.AnnAssign) and f.value]
        pairs, names = [(f.target.id, f.value, f) for f in fields], (node.name.lower(),)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        pairs = [(node.targets[0].id.lower(), node.value, None)]
    for name, value, place in pairs:
        if place is not None:
            yield (*names, name), place
        if value is not None:
            yield from _names(value, (*names, name))
    if not pairs:
        for child in ast.iter_child_nodes(node):
            yield from _names(child, names)
