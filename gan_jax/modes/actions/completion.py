"""Scripts with which bash, zsh and fish complete the command gan_jax.

The scripts hold the names of modes, flags, configs and variants as they are now, so that the
shell starts no Python while somebody types. The folders of runs are looked up by the shell.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from absl import flags as absl_flags

from gan_jax import config as configs
from gan_jax.modes import MODES, flags, parsing
from gan_jax.modes.actions import completion_scripts, config_facts

Flags = Mapping[str, absl_flags.Flag]


@dataclass(frozen=True)
class Words:
    """What can be completed.

    Attributes:
      general: the flags of every mode, by name.
      own: for each mode, its own flags by name.
      variants: for each config, its variants.
    """

    general: Flags
    own: Mapping[str, Flags]
    variants: Mapping[str, tuple[str, ...]]


def script(shell: str) -> str:
    """The script for "bash", "zsh" or "fish"."""
    made = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    return made[shell](_words())


def _words() -> Words:
    general = flags.FlagValues()
    flags.general(general)
    own = {mode: _by_name(parsing.load(mode).FLAGS) for mode in MODES}
    files = configs.shipped().items()
    variants = {name: config_facts.read(file).variants for name, file in files}
    return Words(_by_name(general), own, variants)


def _by_name(own: flags.FlagValues) -> Flags:
    return {flag.name: flag for flag in flags.in_order(own)}


def _choices(flag: absl_flags.Flag) -> tuple[str, ...]:
    """The words that a flag accepts, () if it takes any text."""
    if flag.name == "mode":
        return tuple(MODES)
    return tuple(filter(None, getattr(flag.parser, "accepted", ())))


def _spelled(own: Flags) -> str:
    """Flags as they are typed, separated by blanks: --seeds= --few --nofew."""
    words = []
    for name, flag in own.items():
        words += [f"--{name}", f"--no{name}"] if flags.takes_no_value(flag) else [f"--{name}="]
    return " ".join(words)


def _cases(words: Words) -> dict[str, str]:
    """The branches of `case` statements in bash and zsh, by the names that the scripts use."""
    flags_of = [f"{mode}) echo {shlex.quote(_spelled(own))} ;;" for mode, own in words.own.items()]
    variants = [f"{name}) echo {' '.join(found)} ;;" for name, found in words.variants.items()]
    choosing = {
        name: _choices(flag)
        for own in (words.general, *words.own.values())
        for name, flag in own.items()
        if _choices(flag)
    }
    choices = [f"{name}) echo {' '.join(found)} ;;" for name, found in choosing.items()]
    indent = "\n    "
    return {
        "FLAGS": indent.join(flags_of),
        "VARIANTS": indent.join(variants),
        "CHOICES": indent.join(choices),
        "GENERAL": _spelled(words.general),
        "CONFIGS": " ".join(words.variants),
    }


def _filled(template: str, parts: Mapping[str, str]) -> str:
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    return template


def _bash(words: Words) -> str:
    return _filled(completion_scripts.BASH, _cases(words))


def _zsh(words: Words) -> str:
    return _filled(completion_scripts.ZSH, _cases(words))


def _fish(words: Words) -> str:
    lines = [_of_fish(flag, "") for flag in words.general.values()]
    for mode, own in words.own.items():
        lines += [_of_fish(flag, mode) for flag in own.values()]
    known = "\n".join(
        f"        case {name}\n            echo {' '.join(found)}"
        for name, found in words.variants.items()
    )
    parts = dict(VARIANTS=known, CONFIGS=" ".join(words.variants), FLAGS="\n".join(lines))
    return _filled(completion_scripts.FISH, parts)


def _of_fish(flag: absl_flags.Flag, mode: str) -> str:
    """The line of fish for one flag, of one mode or, with "", of every mode."""
    condition = f" -n '__gan_jax_mode_is {mode}'" if mode else ""
    about = flag.help.split(". ")[0]
    start = f"complete -c gan_jax{condition} -d {_quoted(about)} -l"
    if flags.takes_no_value(flag):
        return f"{start} {flag.name}\ncomplete -c gan_jax{condition} -l no{flag.name}"
    if flag.name == "config":
        return f"{start} config -x -a '(__gan_jax_configs)'"
    if flag.name == "workdir":
        return f"{start} workdir -x -a '(__gan_jax_runs)'"
    if found := _choices(flag):
        return f"{start} {flag.name} -x -a {_quoted(' '.join(found))}"
    return f"{start} {flag.name} -r"


def _quoted(text: str) -> str:
    """A text in fish's single quotes."""
    return "'" + " ".join(text.split()).replace("\\", "\\\\").replace("'", "\\'") + "'"
