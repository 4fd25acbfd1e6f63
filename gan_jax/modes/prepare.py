"""Fetches a data set or weights, or stores images of your own in shards for fast training.

python launch.py --mode=prepare --name=cifar10
python launch.py --mode=prepare --input=imagenet/train.tar --side=256 --out=data/imagenet256
"""

from gan_jax.modes import flags

FLAGS = flags.FlagValues()
ALONE = True
NAME = flags.string(
    FLAGS,
    "name",
    "",
    "What to fetch: cifar10, mnist, fashion_mnist, facades, celeba_hq, inception or lpips.",
)
OUT = flags.out(
    FLAGS,
    "Folder for it; empty: data in the current folder, where configs look. With --input: a new "
    "folder for shards, or a .zip.",
)
FROM = flags.place(
    FLAGS, "from", "", "The published file, or a folder of them, if they are here already."
)
INPUT = flags.images(
    FLAGS,
    "Images to store: a folder, a .zip or .tar, packed or not, the folder of an LMDB (LSUN), or "
    "tfds:NAME[:TRAIN[,VALIDATION]].",
)
SIDE = flags.integer(FLAGS, "side", 0, "Side of the stored squares in pixels; 0: as they are.")
FIT = flags.choice(
    FLAGS, "fit", "crop", ("crop", "squash"), "How images become squares: crop or squash."
)
ENCODING = flags.choice(
    FLAGS,
    "encoding",
    "webp",
    ("webp", "png", "bmp"),
    "How resized images are stored, without loss: webp, png, or bmp, which is larger and is read "
    "fastest.",
)
LABELS = flags.choice(
    FLAGS,
    "labels",
    "auto",
    ("auto", "none", "folder", "prefix", "json"),
    "What the classes are, as config.data.labels: auto, none, folder, prefix or json.",
)
DEEP_BITS = flags.deep_bits(FLAGS)
PARAMETERS = {"source": "input"}


def main(config, workdir: str) -> int:
    """Prepares it, and says where it is."""
    from gan_jax.errors import ArgumentError
    from gan_jax.modes.actions import prepare, store

    if not INPUT.value:
        for flag in (SIDE, FIT, ENCODING, LABELS, DEEP_BITS):
            if flag.value != flag.default:
                raise ArgumentError(
                    flag.name, ": is about images of your own; name them by --input"
                )
        prepare.prepare(NAME.value, OUT.value, FROM.value)
        return 0
    if NAME.value or FROM.value:
        raise ArgumentError("input", ": stores images; leave --name and --from out")
    size = (SIDE.value, FIT.value, ENCODING.value)
    store.store(INPUT.value, OUT.value, *size, LABELS.value, DEEP_BITS.value)
    return 0
