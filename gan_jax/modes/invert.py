"""Encodes images as noise with a diffusion model, and decodes them again.

python launch.py --mode=invert --workdir=runs/d --input=DIR --out=DIR
python launch.py --mode=invert --workdir=runs/d --input=DIR --steps=100
"""

from gan_jax.modes import flags, folder_flags

FLAGS = flags.FlagValues()
FOLDER = folder_flags.FolderFlags(FLAGS)
RENAMED = folder_flags.RENAMED
PARAMETERS = folder_flags.PARAMETERS


def main(config, workdir: str) -> int:
    """Encodes and decodes every image and writes the results."""
    FOLDER.run("invert", "inverted", config, workdir)
    return 0
