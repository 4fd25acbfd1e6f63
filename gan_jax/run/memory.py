"""Running out of memory, in one line that says what to lower."""

import contextlib
import re
from collections.abc import Callable, Iterator

import jax
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import grads
from gan_jax.core.mesh import devices_wanted
from gan_jax.core.system import Facts
from gan_jax.errors import UserError, is_full_memory
from gan_jax.files import amount
from gan_jax.run import described_data

_SIZE = re.compile(r"allocat\w+ ([\d,]+) ?bytes|allocate ([\d.]+ ?[KMGT]i?B)")


class OutOfMemory(UserError):
    """The memory of the machine or of the device is too small for what was asked for."""


def sizes(config: ConfigDict) -> list[str]:
    """The keys of a config that make a step smaller, with their values: "batch_size (now 64)"."""
    settings = configs.flat(configs.plain(config))
    own = configs.SYSTEMS[config.system].SIZES
    found = {key: settings.get(key) for key in ("data.resolution", *own, "batch_size")}
    return [
        f"config.{key} (now {size})"
        for key, size in found.items()
        if isinstance(size, int) and size > 0
    ]


def savers(config: ConfigDict) -> list[str]:
    """The settings that save memory in training and make the same update, as flags: blocks that are
    computed twice and a batch in parts, where the system accepts them, and a state that is split
    over the devices, where there are several."""
    found, mesh = [], config.mesh
    devices = devices_wanted(config.run.devices, mesh.data, mesh.fsdp, jax.device_count())
    if config.get("model", {}).get("remat", "blocks") != "blocks":
        found.append("--config.model.remat=blocks")
    parts = 2 * config.get("microbatches", 0)
    if parts and _takes(config, parts, devices):
        found.append(f"--config.microbatches={parts}")
    if devices > mesh.fsdp and not mesh.data:
        found.append(f"--config.mesh.fsdp={devices}")
    return found


def _takes(config: ConfigDict, parts: int, devices: int) -> bool:
    """Whether the system of a config takes a batch in `parts`, each shared by `devices`."""
    config = configs.typed(configs.plain(config))
    config.microbatches = parts
    configs.resolve(config, devices)
    try:
        system = configs.SYSTEMS[config.system].make(configs.as_built(config), _facts(config))
        grads.check_shared(system.parts, system.stages, devices)
    except (UserError, MemoryError, jax.errors.JaxRuntimeError):  # there is little memory for it
        return False
    return True


def _facts(config: ConfigDict) -> Facts:
    """About the data of a config, which are not read: what it does not say is made up."""
    try:
        return described_data.facts(config)
    except UserError:
        return described_data.facts(config, "classes=2,channels=3")


@contextlib.contextmanager
def explained(config: ConfigDict, advice: Callable[[ConfigDict], str]) -> Iterator[None]:
    """Turns the errors of a full memory that are raised in this block into OutOfMemory.

    Args:
      config: that of the model.
      advice: what to do, given the config.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_full_memory(error):
            raise
        raise OutOfMemory(f"{what(error)}; {advice(config)}") from error


def what(error: Exception) -> str:
    """Which memory is full, and by what if the error says so."""
    of_host = isinstance(error, MemoryError) or jax.default_backend() == "cpu"
    found = _SIZE.search(str(error))
    wanted = ""
    if found:
        number = found[1] and amount(int(found[1].replace(",", "")))
        wanted = f" ({number or found[2]} more were asked for)"
    return f"out of memory on {'this machine' if of_host else 'the device'}{wanted}"


def of_training(config: ConfigDict) -> str:
    """What to do about training that does not fit; `run.step_memory` counts what each saves."""
    lower = f"lower one of {', '.join(sizes(config))}"
    if same := savers(config):
        # parts of a batch have masks of dropout of their own
        update = "makes the same update but for what is drawn at random"
        lower = f"add {' or '.join(same)}, which {update}, or {lower}"
    return (
        f"{lower}, and give the command again; with --dry_run --topology=8xH100, or what there is, "
        "it counts the memory of a step before anything is trained"
    )


def of_model(config: ConfigDict) -> str:
    """What to do about a trained model that does not fit."""
    return (
        "ask for fewer images at a time, end other programs, or use a larger device; how large the "
        f"model is, its run decided by {', '.join(sizes(config))}"
    )
