"""Dense GANs on handwritten digits, 28 px.

    python launch.py --config=configs/mlpgan_mnist.py --workdir=runs/mlpgan_mnist

The generator of the general GAN guide: 100 → 128 relu → 784 sigmoid, 12,928 + 101,136 parameters,
and a discriminator that mirrors it. Adam at 1e-4, batches of 128, 100 epochs.

Variants, separated by commas:

    pytorch_gan  PyTorch-GAN's gan.py: wider networks, 2e-4, batches of 64, 200 epochs
    wgan_gp      PyTorch-GAN's wgan_gp.py: the same networks, 5 critic steps, penalty 10
    conv         the guide's generator against its convolutional discriminator, as in its code
    conv_pool    … as in its table (the two disagree)
    tiny         seconds, synthetic data
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("pytorch_gan", "wgan_gp", "conv", "conv_pool", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("gan")
    config.data.source = "digits"
    config.batch_size = 128
    config.model.z_dim = 100
    config.model.gen.update(name="dense", output="sigmoid")
    config.model.disc.name = "dense"
    for section in (config.optim.gen, config.optim.disc):
        section.update(lr=1e-4, b1=0.9, b2=0.999)
    config.optim.gen.ema = (0.999,)
    config.best.metric = "fd_classifier"
    config.run.update(steps="100 epochs", quality_every="10 epochs", eval_every="10 epochs")
    if "pytorch_gan" in chosen or "wgan_gp" in chosen:
        config.batch_size = 64
        config.model.gen.update(name="pytorch_gan_dense", output="tanh")
        config.model.disc.name = "pytorch_gan_dense"
        config.loss.disc_weight = 0.5
        for section in (config.optim.gen, config.optim.disc):
            section.update(lr=2e-4, b1=0.5)
        config.run.steps = "200 epochs"
    if "wgan_gp" in chosen:
        config.loss.update(name="wasserstein", order="discriminator_first", disc_steps=5)
        config.loss.update(disc_weight=1.0, gradient_penalty=10.0)
    if "conv" in chosen or "conv_pool" in chosen:
        config.model.disc.name = "guide_conv" if "conv" in chosen else "guide_conv_pool"
    if "tiny" in chosen:
        tiny(config)
    return config
