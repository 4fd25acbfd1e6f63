"""Lists the configs that come with gan_jax, one on a line.

python launch.py --mode=list
python launch.py --mode=list --system=gan
"""

from gan_jax.config import SYSTEMS
from gan_jax.modes import flags

FLAGS = flags.FlagValues()
SYSTEM = flags.choice(
    FLAGS, "system", "", ("", *SYSTEMS), f"Only configs of this system: {', '.join(SYSTEMS)}."
)
COMPUTES = False


def main(config, workdir: str) -> int:
    """Prints the list."""
    from gan_jax.modes.actions import list_configs

    print("\n".join(list_configs.lines(SYSTEM.value)), flush=True)
    return 0
