"""Enlarges every image of a folder, zip or npz with a super-resolution model.

python launch.py --mode=upsample --workdir=runs/u --input=DIR --out=large
python launch.py --mode=upsample --workdir=runs/u --input=samples_64x64x64x3.npz --steps=250
"""

from gan_jax.modes import flags, folder_flags

FLAGS = flags.FlagValues()
FOLDER = folder_flags.FolderFlags(FLAGS)
RENAMED = folder_flags.RENAMED
PARAMETERS = folder_flags.PARAMETERS


def main(config, workdir: str) -> int:
    """Enlarges every image and writes the results."""
    FOLDER.run("upsample", "upsampled", config, workdir)
    return 0
