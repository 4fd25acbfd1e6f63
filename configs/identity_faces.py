"""Identities of aligned faces, 256 px: where WarpGAN's discriminator begins, and who judges it.

    python launch.py --config=configs/identity_faces.py --config.data.path=<faces> \
        --workdir=runs/ids
    python launch.py --config=configs/warpgan_webcaricature.py --config.data.path=<aligned> \
        --workdir=runs/w --config.restore.disc="('runs/ids', 'conv*|bottleneck*')"

<faces> holds a folder for each person, of photos alone (such as CASIA-WebFace) or of photos and
caricatures; `launch.py --mode=align` makes aligned faces of photographs. The paper's discriminator
begins from a classifier of CASIA, 10,575 people. A tenth of the images is validated on.

The network is the trunk of the discriminator of configs/warpgan_webcaricature.py with one layer of
classes. For configs/warpgan_folder.py add `--config.model.disc_head=pooled`.

Variant `tiny`: seconds, synthetic data.
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = defaults("classifier")
    config.data.update(source="folder", resolution=256, channels="rgb", flip=True)
    config.data.labels = "folder"
    config.batch_size = 64
    config.model.update(name="warpgan", disc_head="flat")
    config.augment = ("color", "translation")
    config.optim.classifier.lr = 1e-3
    config.run.update(steps="20 epochs", eval_every="1 epoch", save_every="1 epoch")
    config.best.update(metric="val/accuracy", mode="max")
    if "tiny" in chosen:
        tiny(config, resolution=32, channels="rgb")
    return config
