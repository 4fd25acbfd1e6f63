"""Identities of drawn faces, 64 px: where WarpGAN's discriminator begins, and who judges it.

    python launch.py --config=configs/identity_drawn.py --workdir=runs/ids
    python launch.py --config=configs/warpgan_drawn.py --workdir=runs/w \
        --config.restore.disc="('runs/ids', 'conv*|bottleneck*')"

The network is the trunk of that discriminator with one layer of classes; the sizes are those of
configs/warpgan_drawn.py. It learns the 100 identities that config trains on, from photos and
caricatures, and none of those it is validated on. As the recogniser of the metric rank1 it takes
photos and caricatures of people it has never seen:

    … --config.run.quality_every="2 epochs" --config.quality.recogniser=runs/ids

A judge that the discriminator did not begin from is a fairer one: another --config.seed.

Variant `tiny`: seconds, synthetic data.
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = defaults("classifier")
    config.data.update(source="drawn_faces", resolution=64, channels="rgb", flip=True)
    config.data.update(identities=100, photos=24, caricatures=12)
    config.model.update(name="warpgan", disc_width=16, bottleneck=128, disc_head="flat")
    config.augment = ("color", "translation")
    config.optim.classifier.lr = 1e-3
    config.run.update(steps="20 epochs", eval_every="1 epoch", save_every="5 epochs")
    config.best.update(metric="val/accuracy", mode="max")
    if "tiny" in chosen:
        tiny(config, resolution=32, channels="rgb")
    return config
