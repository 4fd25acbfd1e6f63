"""Prints a script that makes a shell complete the command gan_jax.

source <(python launch.py --mode=completion --shell=bash)
python launch.py --mode=completion --shell=fish > ~/.config/fish/completions/gan_jax.fish
"""

from gan_jax.modes import flags

SHELLS = ("bash", "zsh", "fish")
FLAGS = flags.FlagValues()
SHELL = flags.choice(FLAGS, "shell", "bash", SHELLS, "Which shell's script: bash, zsh or fish.")
COMPUTES = False


def main(config, workdir: str) -> int:
    """Prints the script."""
    from gan_jax.modes.actions import completion

    print(completion.script(SHELL.value), end="", flush=True)
    return 0
