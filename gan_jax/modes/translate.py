"""Translates every image of a folder, zip or npz.

    python launch.py --mode=translate --workdir=runs/f --state=best --input=DIR --out=DIR
    python launch.py --mode=translate --config=configs/pix2pix_facades.py:original \\
        --config.restore.gen="('latest_net_G.pth', '*')" --input=DIR --out=DIR
"""

from gan_jax.modes import flags, folder_flags

FLAGS = flags.FlagValues()
FOLDER = folder_flags.FolderFlags(FLAGS)
RENAMED = folder_flags.RENAMED
PARAMETERS = folder_flags.PARAMETERS


def main(config, workdir: str) -> int:
    """Translates every image and writes the results."""
    FOLDER.run("translate", "translated", config, workdir)
    return 0
