"""pix2pix on side-by-side pairs: façades from their label maps, 256 px.

    python launch.py --mode=prepare --name=facades
    python launch.py --config=configs/pix2pix_facades.py --workdir=runs/f

The first command writes data/facades, which holds train/ and val/ with pictures twice as wide as
high, the photo (A) at the left of its label map (B). --config.data.path names any other set of such
pictures; the other direction is --config.data.direction=a_to_b.

PyTorch-GAN's networks, losses and order, batches of 1, 200 epochs, and of the student's variant the
generator's rate: 1e-4, halved every 90 epochs. Validation L1 every epoch picks the best state.

Variants, separated by commas:

    pytorch_gan  PyTorch-GAN's rates: 2e-4 for both, constant
    original     junyanz' networks: batch norm, 70x70 patches, cross entropy, discriminator first,
                 jitter from 286 px, 2e-4 with a linear end; dropout and the image's own
                 statistics when sampling
    lsgan        least squares, whatever the networks
    wgan_gp      Wasserstein loss with gradient penalty 10, instance norm
    tiny         seconds, synthetic pairs
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("pytorch_gan", "original", "lsgan", "wgan_gp", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("pix2pix")
    config.data.update(source="folder", path="facades", labels="none")
    config.data.update(pairs="side_by_side", direction="b_to_a")
    config.data.update(resolution=256, channels="rgb", resize="squash", flip=True)
    config.batch_size = 1
    config.optim.gen.lr = 1e-4
    config.optim.gen.schedule.update(name="halving", unit="epochs", every=90.0)
    config.optim.disc.lr = 2e-4
    config.best.update(metric="val/l1", mode="min")
    # with config.run.quality_every; 100 images are few for a FID, which is then marked so
    config.quality.update(metrics=("fid", "kid", "ssim", "psnr"), few=True)
    config.run.update(steps="200 epochs", log_every="50", eval_every="1 epoch", sample_count=5)
    config.run.update(sample_every="1 epoch", save_every="5 epochs", keep_every="50 epochs")
    if "pytorch_gan" in chosen:
        config.optim.gen.lr = 2e-4
        config.optim.gen.schedule.name = "constant"
    if "original" in chosen:
        original(config)
    if "lsgan" in chosen:
        config.loss.name = "least_squares"
    if "wgan_gp" in chosen:
        config.loss.update(name="wasserstein", gradient_penalty=10.0)
        config.model.gen.norm = config.model.disc.norm = "instance"
    if "tiny" in chosen:
        tiny(config, resolution=16, channels="rgb")
    return config


def original(config) -> None:
    """The settings of junyanz' pix2pix. In place."""
    config.data.update(resize="jitter", load_resolution=286)
    config.model.gen.update(name="original", norm="batch")
    config.model.disc.update(name="original", norm="batch", layers=3)
    config.loss.update(name="non_saturating", order="discriminator_first")
    config.test.update(dropout=True, norm="batch")
    for section in (config.optim.gen, config.optim.disc):
        section.lr = 2e-4
        # 100 epochs, then 100 down to 0; the scheduler steps at the end of an epoch
        section.schedule.update(name="linear", unit="epochs", begin=99.0, length=200.0)
        section.schedule.staircase = True
