"""The command line: which mode it names, that mode's flags, and messages about mistakes.

Nothing here imports jax, so help and messages appear at once. (A config file may import it.)
"""

import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple, NoReturn

from absl import flags as absl_flags

from gan_jax import config as configs
from gan_jax.errors import ArgumentError, UserError, near_miss, nearest
from gan_jax.modes import MODES, flags, run_folders

HELP = {"help", "helpshort", "helpfull", "helpxml", "h", "?"}


class UsageError(UserError):
    """A command line that cannot be parsed."""


class Command(NamedTuple):
    """A parsed command line.

    Attributes:
      name: the mode's name.
      mode: the mode's module, whose flags now have their values.
      general: the flags of every mode.
      flags: all flags of the command.
      label: what a new run of this command is called: config, variants, changed keys.
    """

    name: str
    mode: ModuleType
    general: flags.General
    flags: flags.FlagValues
    label: str = ""


def load(name: str) -> ModuleType:
    """The module of a mode. Raises UsageError for a mode that does not exist."""
    if name not in MODES:
        raise UsageError(f"--mode={name}: accepted are {', '.join(MODES)}{near_miss(name, MODES)}")
    return importlib.import_module(MODES[name].module)


def argument(argv: list[str], name: str) -> str | None:
    """The last value that a command line gives a flag, or None, found before flags are parsed."""
    found = None
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if word == "--":
            break
        key, equals, value = word.partition("=")
        if key in (f"--{name}", f"-{name}"):
            found = value if equals else following
    return found


def wants_help(argv: list[str]) -> bool:
    """Whether a command line asks for help."""
    words = argv[1 : argv.index("--")] if "--" in argv else argv[1:]
    return any(w.startswith("-") and w.lstrip("-").partition("=")[0] in HELP for w in words)


def parse(argv: list[str]) -> Command:
    """Parses a command line; `argv` begins with the program's name.

    Raises UsageError for anything that it cannot parse.
    """
    argv = with_config_file(with_home(_with_flag_files(argv)))
    name = argument(argv, "mode") or "train"
    mode = load(name)
    mode.FLAGS.unparse_flags()
    every = flags.FlagValues()
    every.append_flag_values(absl_flags.FLAGS)  # those of absl's logging
    general = flags.general(every, argv)
    every.append_flag_values(mode.FLAGS)
    rest = _parsed(every, argv, name)
    mode.FLAGS.mark_as_parsed()
    if len(rest) > 1:
        raise UsageError(f"unexpected argument {rest[1]!r}; flags begin with --")
    return Command(name, mode, general, every, run_folders.label(*config_path(argv), argv))


def _with_flag_files(argv: list[str]) -> list[str]:
    try:
        return absl_flags.FLAGS.read_flags_from_files(argv, force_gnu=False)
    except absl_flags.Error as error:
        raise UsageError(str(error)) from None


def _parsed(every: flags.FlagValues, argv: list[str], name: str) -> list[str]:
    """Gives the flags their values and returns what is left of the command line."""
    try:
        rest = every(argv)
        if every["config"].value is not None:
            _ = every["config"].value.system  # a file that cannot be loaded fails on first use
        return rest
    except absl_flags.UnrecognizedFlagError as error:
        refuse(error.flagname, name, every)
    except absl_flags.Error as error:
        raise UsageError(str(error)) from None
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        # ml_collections raises these for unknown keys and wrong types of --config.x=y
        wrong = error.args[0] if error.args else error
        raise UsageError(unknown_key(argv) or f"--config: {wrong}") from None
    except (OSError, ImportError, SyntaxError) as error:
        raise UsageError(f"--config cannot be read: {error}") from None
    except UserError as error:
        raise UsageError(f"--config: {error}") from None


def refuse(flag: str, name: str, every: flags.FlagValues) -> NoReturn:
    """Raises UsageError for a flag that the mode `name` does not have."""
    own = load(name)
    if flag.startswith("config."):
        raise UsageError(f"--{flag} is a key of a config: name its file by --config=FILE as well")
    for spelling in (flag, flag.removeprefix("no")):
        if renamed := getattr(own, "RENAMED", {}).get(spelling):
            raise UsageError(f"--{spelling} of --mode={name} is now --{renamed}")
        if others := [other for other in MODES if spelling in load(other).FLAGS]:
            instead = getattr(own, "INSTEAD", {}).get(spelling)
            raise UsageError(
                f"--{spelling} is a flag of --mode={', '.join(others)}; --mode={name} does not "
                "have it" + (f": {instead}" if instead else "")
            )
    raise UsageError(f"--{flag} is not a flag; {_advice(flag, name, every)}")


def _advice(flag: str, name: str, every: flags.FlagValues) -> str:
    """A hint at the nearest flag of the mode, else of another mode, else at --help."""
    if near := nearest(flag, every):
        return f"did you mean --{near}?"
    elsewhere = {known: mode for mode in reversed(MODES) for known in load(mode).FLAGS}
    if near := nearest(flag, elsewhere):
        return f"did you mean --{near} of --mode={elsewhere[near]}?"
    return f"--mode={name} --help shows those there are"


def with_home(argv: list[str]) -> list[str]:
    """The arguments with ~ replaced in --config, which is read before the flags are parsed."""
    return _with_config(argv, os.path.expanduser)


def with_config_file(argv: list[str]) -> list[str]:
    """The arguments with the name of a config that comes with gan_jax replaced by its file.

    Raises UsageError if --config names neither a file nor such a config.
    """

    def located(value: str) -> str:
        path, colon, variant = value.partition(":")
        return f"{configs.find(path)}{colon}{variant}" if path else value

    try:
        return _with_config(argv, located)
    except ArgumentError as error:
        raise UsageError(f"--{error}") from None


def _with_config(argv: list[str], change: Callable[[str], str]) -> list[str]:
    """The arguments with the value of --config changed."""
    found = list(argv)
    for i, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in ("--config", "-config"):
            if equals:
                found[i] = f"{name}={change(value)}"
            elif i + 1 < len(argv):
                found[i + 1] = change(argv[i + 1])
    return found


def config_path(argv: list[str]) -> tuple[str, str]:
    """File and variant of --config=FILE:variant."""
    path, _, variant = (argument(argv, "config") or "").partition(":")
    return path, variant


def unknown_key(argv: list[str]) -> str:
    """A message about the first --config.x=y whose key the config does not have; "" if there is
    none."""
    path, variant = config_path(argv)
    if not path:
        return ""
    config = configs.load_file(path, variant)
    for word in argv:
        name = word.lstrip("-").split("=")[0].removeprefix("no")
        if not name.startswith("config."):
            continue
        section, known = config, "config"
        for part in name.split(".")[1:]:
            keys = list(section) if hasattr(section, "keys") else []
            if part not in keys:
                close = _close_key(name.removeprefix("config."), config)
                hint = f"; did you mean --config.{close}?" if close else ""
                listed = ", ".join(sorted(keys))
                return f"--{name}: {known} has no {part!r}; accepted are {listed}{hint}"
            section, known = section[part], f"{known}.{part}"
    return ""


def _close_key(key: str, config) -> str:
    """The key of a config that is spelled most like `key`, or ends in it; "" if there is none."""
    known = list(configs.flat(configs.plain(config)))
    return nearest(key, known) or next((k for k in known if k.endswith(f".{key}")), "")


def message(error: UserError, command: Command) -> str:
    """The message of an error, in which a parameter's name is replaced by the flag for it.

    A mode's PARAMETERS names the flags of parameters that are called otherwise. Where a run is
    missing, the newest one in runs/ is named.
    """
    text = str(error)
    if isinstance(error, ArgumentError):
        flag = getattr(command.mode, "PARAMETERS", {}).get(error.name, error.name)
        if flag in command.flags:
            text = f"--{flag}{text.removeprefix(error.name)}"
    if text.startswith("--workdir is missing") and (newest := run_folders.newest()):
        text += f"; the newest run in {newest.parent}/ is --workdir={newest}"
    return text
