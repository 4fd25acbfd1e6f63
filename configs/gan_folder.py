"""A GAN on a folder of your own images, 64 px unless told otherwise.

    python launch.py --config=configs/gan_folder.py:laptop --workdir=runs/mine \\
        --config.data.path=<folder or .zip>

SNGAN's residual networks with spectral norm and hinge loss, and DiffAugment, so that a few hundred
images of one kind are enough to begin with. Images are cropped to their central square and shrunk
to config.data.resolution, a multiple of 4; those that cannot be read are skipped. Images of which a
mirror image is not as good: --config.data.flip=False. The state with the lowest SWD is kept as the
best one. Without `laptop` it is made for a GPU.

Variants, separated by commas:

    laptop  narrow convolutional networks, for two CPU cores
    labels  sub-folders are classes, drawn on demand
    tiny    seconds, synthetic images
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("laptop", "labels", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("gan")
    config.data.update(source="folder", path="images", on_error="skip", resize="crop", flip=True)
    config.data.update(resolution=64, channels="rgb", labels="none", validation_fraction=0.05)
    config.batch_size = 64
    config.augment = ("color", "translation", "cutout")
    config.model.z_dim = 128
    config.model.gen.update(name="resnet", init="orthogonal")
    config.model.disc.update(name="resnet", init="orthogonal", spectral_norm=True)
    config.loss.update(name="hinge", order="discriminator_first", disc_steps=2)
    for section in (config.optim.gen, config.optim.disc):
        section.update(lr=2e-4, b1=0.0, b2=0.9)
    config.optim.gen.ema = (0.999,)
    config.quality.update(metrics=("swd",), split="train", samples=2048)
    config.best.metric = "swd"
    config.run.update(steps="100000", log_every="100", sample_every="2000", eval_every="5000")
    config.run.update(quality_every="5000", save_every="5000")
    if "laptop" in chosen:
        laptop(config)
    if "labels" in chosen:
        config.data.labels = "folder"
        config.model.conditioning = "projection"
    if "tiny" in chosen:
        tiny(config, resolution=16, channels="rgb")
    return config


def laptop(config) -> None:
    """Small networks and a short recipe, for two CPU cores. In place."""
    config.batch_size = 16
    config.model.z_dim = 64
    config.model.gen.update(name="deconv", width=32, init="")
    config.model.disc.update(name="conv", width=32, init="", batch_norm="off")
    config.loss.disc_steps = 1
    for section in (config.optim.gen, config.optim.disc):
        section.update(lr=4e-4, b1=0.0, b2=0.99)
        section.schedule.update(name="linear", begin=2500.0, length=5000.0, floor=5e-5)
    config.optim.gen.ema = (0.998,)
    config.quality.samples = 512
    config.run.update(steps="5000", log_every="50", sample_every="500", eval_every="1000")
    config.run.update(quality_every="1000", save_every="1000", sample_count=36)
