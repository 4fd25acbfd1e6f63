"""The text of --help: the modes with a line each, or the flags of one mode with two examples."""

import os
import re
import textwrap

from absl import flags as absl_flags

from gan_jax.modes import MODES, flags, parsing

WIDTH = 100


def text(argv: list[str], usage: str) -> str:
    """The help that a command line asks for; `usage` is the text that is shown without a mode.

    Its examples begin with the program that `argv` begins with. Raises UsageError for a mode that
    does not exist.
    """
    general = flags.FlagValues()
    flags.general(general, argv[:1])
    name = parsing.argument(argv, "mode")
    if name is None:
        parts = [usage.strip(), "", "Modes; --mode=NAME --help shows the flags of one:", ""]
        parts += [f"  {mode:13}{about.help}" for mode, about in MODES.items()]
        parts += ["", "Flags of --mode=train, which is the mode where none is named:", ""]
        parts += described(parsing.load("train").FLAGS)
    else:
        mode = parsing.load(name)
        parts = [mode.__doc__.strip(), "", f"Flags of --mode={name}:", ""]
        parts += described(mode.FLAGS)
    found = "\n".join([*parts, "", "Flags of every mode:", "", *described(general)])
    return _as_called(found, argv[0])


def _as_called(text: str, program: str) -> str:
    """A text whose examples call the program as the user did."""
    name = os.path.basename(program)
    if name == "launch.py":
        return text
    called = "python -m gan_jax" if name == "__main__.py" else name
    text = text.replace("python launch.py", called)
    return re.sub(r"configs/(\w+)\.py", r"\1", text)  # an installed package has no such folder


def described(own: flags.FlagValues) -> list[str]:
    """Lines on the flags, in the order of their definition."""
    lines = []
    for flag in flags.in_order(own):
        lines.append(f"  {_shown(flag)}")
        lines += textwrap.wrap(flag.help, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def _shown(flag: absl_flags.Flag) -> str:
    """A flag with its default, as a person would write it."""
    if flags.takes_no_value(flag):
        return f"--[no]{flag.name} (default: {'on' if flag.default else 'off'})"
    default = "" if flag.default is None else flag.default
    return f"--{flag.name} (default: {default})" if default != "" else f"--{flag.name}"
