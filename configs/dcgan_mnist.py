"""DCGAN on handwritten digits, unconditional.

    python launch.py --config=configs/dcgan_mnist.py --workdir=runs/dcgan_mnist

Runs on the 10,000 digits that come with gan_jax. The whole of MNIST, from its idx files:

    … --config.data.source=idx --config.data.path=/path/to/mnist

Variants, separated by commas:

    pytorch_gan  PyTorch-GAN's dcgan.py at 32 px: its networks, 2e-4, 200 epochs
    labels       class-conditional by projection: one column of the grids per digit
    tiny         seconds, synthetic data
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("pytorch_gan", "labels", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("gan")
    config.data.source = "digits"
    config.batch_size = 64
    config.model.gen.update(name="deconv", width=64)
    config.model.disc.update(name="conv", width=64)
    config.optim.gen.lr = 5e-4
    config.optim.disc.lr = 5e-4
    config.optim.gen.ema = (0.998,)
    config.loss.r1 = 0.5
    config.best.metric = "fd_classifier"
    config.run.update(steps="60 epochs", quality_every="5 epochs", eval_every="5 epochs")
    config.run.sample_every = "2 epochs"
    if "pytorch_gan" in chosen:
        config.data.update(resize="squash", resize_filter="bilinear", resolution=32)
        config.model.gen.update(name="pytorch_gan_dcgan", width=0)
        config.model.disc.update(name="pytorch_gan_dcgan", width=0)
        config.loss.update(disc_weight=0.5, r1=0.0)
        config.optim.gen.lr = config.optim.disc.lr = 2e-4
        config.run.steps = "200 epochs"
    if "labels" in chosen:
        config.model.conditioning = "projection"
    if "tiny" in chosen:
        tiny(config)
    return config
