"""Random values for random keys of every system's config: it trains, or is refused in one line."""

import json
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from tests.soak.cases import Bench, Kind, Result
from tests.soak.processes import ROOT
from tests.soak.programs import PROGRAMS

EACH = 12  # configs that one process tries, so that it imports and compiles little
MEMORY = 12 * 2**30  # bytes of addresses of such a process
NUMBERS = (0, 1, 2, 3, 7, -1, -7, 64, 2**31, 2**40, 0.0, 0.5, -0.5, 1.0, 1e-30, 1e30)
NUMBERS += (float("nan"), float("inf"), -float("inf"))
TEXTS = ("", " ", "auto", "none", "None", "0", "-1", "1 epoch", "3 images", "0.5 epochs", "nan")
TEXTS += ("1e99 epochs", "../..", "/dev/null", "/nowhere", "a\nb", "\x00", "ä" * 300, "linear")
ODD = (None, True, False, (), (1,), ("a",), (0, -1), [], {}, b"bytes")
FAST = {"run.steps": "1", "run.log_every": "1", "run.sample_every": "0", "run.eval_every": "0"}
FAST |= {"run.quality_every": "0", "run.compile_ahead": False, "run.save_every": "1"}


def leaves(config: ConfigDict, prefix: str = "") -> list[str]:
    """The keys of all values."""
    found = []
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            found += leaves(value, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def value(rng: np.random.Generator, usual: Any) -> Any:
    """A value for a key: mostly of the type that it has."""
    if rng.random() < 0.15:
        pool: tuple = (*NUMBERS, *TEXTS, *ODD)
    elif isinstance(usual, bool):
        pool = (not usual,)
    elif isinstance(usual, int | float):
        pool = tuple(type(usual)(n) for n in NUMBERS if n == n and abs(n) != float("inf"))
        pool += (float("nan"), float("inf")) if isinstance(usual, float) else ()
    elif isinstance(usual, tuple):
        pool = ((), usual * 2, usual[:1], (0,), (-1, 2), ("x",), ("ä" * 99, ""))
    else:
        pool = TEXTS
    return pool[int(rng.integers(len(pool)))]


def made(seed: int, number: int) -> tuple[str, dict[str, Any]]:
    """Config `number`: the name of its program, and the keys that are set."""
    from gan_jax import config as configs

    rng = np.random.default_rng([seed, 7, number])
    names = [*PROGRAMS]
    program = PROGRAMS[names[int(rng.integers(len(names)))]]
    config = configs.load_file(str(ROOT / "configs" / f"{program.config}.py"), "tiny")
    keys, changed = leaves(config), {}
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        key = keys[int(rng.integers(len(keys)))]
        usual = config
        for part in key.split("."):
            usual = usual[part]
        changed[key] = value(rng, usual)
    return program.config, changed


def tried(seed: int, number: int, folder: Path) -> str:
    """What is wrong with how training with config `number` ends; "" if nothing is."""
    import gan_jax
    from gan_jax import config as configs
    from gan_jax.errors import UserError

    name, changed = made(seed, number)
    config = configs.load_file(str(ROOT / "configs" / f"{name}.py"), "tiny")
    for key, new in {**FAST, **changed}.items():
        *sections, last = key.split(".")
        section = config
        for part in sections:
            section = section[part]
        with section.ignore_type():
            section[last] = new
    try:
        gan_jax.train(config, folder)
    except UserError as error:
        if "\n" in str(error):
            return f"{name} {changed}: more than one line: {error}"
        left = {path.name for path in folder.iterdir()} if folder.exists() else set()
        if left - {".lock"} and "config.json" not in left:
            return f"{name} {changed}: refused ({error}), and leaves {sorted(left)}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {error}"[:200]
        return f"{name} {changed}: {said} at {Path(where.filename).name}:{where.lineno}"
    return ""


def try_many() -> None:
    """In a process of its own, with the words seed, first number and folder: tries EACH configs and
    prints [number, what is wrong] for each."""
    seed, first, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    from gan_jax import log

    with log.silenced():
        for number in range(first, first + EACH):
            print(json.dumps([number, None]), flush=True)
            print(json.dumps([number, tried(seed, number, folder / str(number))]), flush=True)


def library(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """Configs through the library."""
    folder, first = bench.folder(), int(rng.integers(10**6)) * EACH
    folder.mkdir()
    call = "tests.soak.configs:try_many"
    done = bench.server.start(0, first, folder, call=call).wait(600)
    row, ends = "random configs through the library", {}
    for line in done.out.splitlines():
        if line.startswith("["):
            number, fault = json.loads(line)
            ends[number] = fault
    for number, fault in ends.items():
        ended = f"{made(0, number)}: ended the process: {done.said}" if fault is None else fault
        result.add(row, [f"config {number}: {ended}"] if ended else [])
    if not ends:
        result.add(row, [f"no config was tried: {done.said}"])


def shell(bench: Bench, rng: np.random.Generator, result: Result) -> None:
    """A config through the command line."""
    name, changed = made(1, int(rng.integers(10**9)))
    values = {key: str(new).replace("\x00", "") for key, new in {**FAST, **changed}.items()}
    words = [f"--config.{key}={text}" for key, text in values.items()]
    folder = bench.folder()
    process = bench.server.start(
        f"--config={ROOT}/configs/{name}.py:tiny", f"--workdir={folder}", *words
    )
    faults = process.wait().faults(0, 1, 2)
    result.add("random configs through the shell", [f"{name} {changed}: {f}" for f in faults])


KINDS = (Kind("library", 9, library), Kind("shell", 13, shell))
