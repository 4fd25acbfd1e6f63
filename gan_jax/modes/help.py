"""The text of --help: the modes with a line each, or the flags of one mode with two examples."""

import re
import textwrap

from absl import flags as absl_flags

from gan_jax.modes import MODES, flags, parsing

WIDTH = 100


def text(argv: list[str], usage: str) -> str:
    """The help that a command line asks for; `usage` is the text that is shown without a mode.

    Raises UsageError for a mode that does not exist.
    """
    general = flags.FlagValues()
    flags.general(general, argv[:1])
    name = parsing.argument(argv, "mode")
    if name is None:
        parts = [usage.strip(), "", "Modes; --mode=NAME --help shows the flags of one:", ""]
        parts += [f"  {mode:13}{about.help}" for mode, about in MODES.items()]
    else:
        mode = parsing.load(name)
        parts = [mode.__doc__.strip(), "", f"Flags of --mode={name}:", ""]
        parts += described(mode.FLAGS)
    return "\n".join([*parts, "", "Flags of every mode:", "", *described(general)])


def described(own: flags.FlagValues) -> list[str]:
    """Lines on the flags, in the order of their definition."""
    lines = []
    for flag in _in_order(own):
        lines.append(f"  {_shown(flag)}")
        lines += textwrap.wrap(
            _without_values(flag.help), WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
    return lines


def _in_order(own: flags.FlagValues) -> list[absl_flags.Flag]:
    # a FlagValues lists its names alphabetically, but the flags of a module as they were defined
    return [flag for found in own.flags_by_module_dict().values() for flag in found]


def _without_values(text: str) -> str:
    # absl puts the accepted values of an enum in front of its help, which lists them already
    return re.sub(r"^<[^>]*>: ", "", text)


def _shown(flag: absl_flags.Flag) -> str:
    """A flag with its default, as a person would write it."""
    if flag.boolean:
        return f"--[no]{flag.name} (default: {'on' if flag.default else 'off'})"
    default = "" if flag.default is None else flag.default
    return f"--{flag.name} (default: {default})" if default != "" else f"--{flag.name}"
