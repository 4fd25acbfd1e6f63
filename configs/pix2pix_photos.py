"""pix2pix on any folder of photos: it learns to colour grey ones, or to fill in their centre.

    python launch.py --config=configs/pix2pix_photos.py --config.data.path=DIR --workdir=runs/c

The pairs are made from the photos, so no labels are needed. junyanz' networks and settings as in
configs/pix2pix_facades.py:original, 256 px, jitter from 286. Colours are learnt as a* and b* of
CIE L*a*b* from the lightness L*, as in the paper's own code.

Variants, separated by commas:

    laptop   128 px, networks of half the width, 20 epochs, for two CPU cores
    inpaint  the central square of half the side is white in the input; the output is all of it
    tiny     seconds, synthetic pictures
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("laptop", "inpaint", "tiny"))
    config = defaults("pix2pix")
    config.data.update(source="folder", pairs="colorize", labels="none")
    config.data.update(resolution=256, channels="rgb", resize="jitter", load_resolution=286)
    config.data.flip = True
    config.model.gen.update(name="original", norm="batch")
    config.model.disc.update(name="original", norm="batch", layers=3)
    config.loss.update(name="non_saturating", order="discriminator_first")
    config.test.update(dropout=True, norm="batch")
    for section in (config.optim.gen, config.optim.disc):
        section.lr = 2e-4
        # 100 epochs, then 100 down to 0; the scheduler steps at the end of an epoch
        section.schedule.update(name="linear", unit="epochs", begin=99.0, length=200.0)
        section.schedule.staircase = True
    config.best.update(metric="val/l1", mode="min")
    config.run.update(steps="200 epochs", log_every="50", eval_every="1 epoch", sample_count=5)
    config.run.update(sample_every="1 epoch", save_every="5 epochs", keep_every="50 epochs")
    if "laptop" in chosen:
        laptop(config)
    if "inpaint" in chosen:
        config.data.pairs = "inpaint"
    if "tiny" in chosen:
        tiny(config, resolution=16, channels="rgb")
    return config


def laptop(config) -> None:
    """Small networks and a short recipe, for two CPU cores. In place."""
    config.data.update(resolution=128, load_resolution=143)
    # fewer, larger updates; each image is still normalised by its own statistics
    config.batch_size = 4
    config.model.gen.update(width=32, norm="instance")
    config.model.disc.update(width=16, norm="instance")
    for section in (config.optim.gen, config.optim.disc):
        section.lr = 4e-4
        section.schedule.update(begin=9.0, length=20.0)
    config.run.update(steps="20 epochs", keep_every="0")
