"""Flags that name addresses in buckets, gs:// and s3://: a mode gets places on the disk instead."""

import contextlib
from collections.abc import Iterator

from absl import flags as absl_flags

from gan_jax.buckets import syncing
from gan_jax.buckets.addresses import is_address
from gan_jax.errors import argument
from gan_jax.modes import flags, parsing

MADE = ("out", "save_stats")  # flags that name what a mode makes
OWN = ("config", "compilation_cache")  # flags that are read elsewhere
SYNC_SECONDS = 60.0  # of a mode that makes a run without training


@contextlib.contextmanager
def on_disk(command: parsing.Command) -> Iterator[str]:
    """Replaces the values of a command's flags, as long as the block lasts, by the places of copies
    on this machine; yields that of --workdir. What the mode writes is copied back at the end.

    An address that `gan_jax.train` gets stays as it is. Of several processes each has a copy, and
    the first one writes. Raises ArgumentError that names the flag if nothing is there, NotCopied if
    what was written could not be copied.
    """
    named = [
        flag
        for flag in (command.flags[name] for name in command.flags)
        if flag.name not in OWN and _names_address(command, flag)
    ]
    with contextlib.ExitStack() as opened:
        for flag in named:
            if command.name == "train" and flag.name == "workdir":
                continue
            before, place = flag.value, _place(command, flag, opened)
            opened.callback(setattr, flag, "value", before)
            flag.value = place
        yield command.general.workdir.value


def _names_address(command: parsing.Command, flag: absl_flags.Flag) -> bool:
    is_place = isinstance(flag.parser, flags.PlaceParser)
    return is_place and any(map(is_address, _parts(command, flag)))


def _parts(command: parsing.Command, flag: absl_flags.Flag) -> list[str]:
    """The places that a flag names: --workdir has commas between them where it takes several."""
    if flag.name != "workdir" or not getattr(command.mode, "SEVERAL_RUNS", False):
        return [flag.value]
    return [part.strip() for part in flag.value.split(",")]


def _place(command: parsing.Command, flag: absl_flags.Flag, opened: contextlib.ExitStack) -> str:
    """Where the copies are that a flag names, until `opened` is closed."""
    from gan_jax.core import cluster, shared_folder  # here: they import jax

    found = []
    for part in _parts(command, flag):
        if flag.name in MADE:
            place = shared_folder.made(part)
        elif flag.name != "workdir":
            place = syncing.used(part, writes=cluster.is_first())
        elif getattr(command.mode, "MAKES_RUN", False):
            place = shared_folder.trained(part, SYNC_SECONDS)
        else:
            place = shared_folder.used(part)
        with argument(otherwise=flag.name):
            found.append(str(opened.enter_context(place)))
    return ",".join(found)
