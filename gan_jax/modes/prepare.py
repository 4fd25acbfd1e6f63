"""Fetches a data set or weights, checks them, and writes what configs and metrics read.

python launch.py --mode=prepare --name=cifar10
python launch.py --mode=prepare --name=facades --from=facades.tar.gz --out=DIR
"""

from gan_jax.modes import flags

FLAGS = flags.FlagValues()
ALONE = True
NAME = flags.string(
    FLAGS,
    "name",
    "",
    "What to prepare: cifar10, mnist, fashion_mnist, facades, celeba_hq, inception or lpips.",
)
OUT = flags.out(FLAGS, "Folder for it; empty: data in the current folder, where configs look.")
FROM = flags.place(
    FLAGS, "from", "", "The published file, or a folder of them, if they are here already."
)


def main(config, workdir: str) -> int:
    """Prepares it, and prints where it is."""
    from gan_jax.modes.actions import prepare

    prepare.prepare(NAME.value, OUT.value, FROM.value)
    return 0
