"""DCGAN on CIFAR-10, 32 px: PyTorch-StudioGAN's settings.

    python launch.py --mode=prepare --name=cifar10
    python launch.py --config=configs/dcgan_cifar10.py --workdir=runs/dcgan_cifar10

The first command writes data/cifar10.npz. --config.data.path names another file of x_train,
y_train, x_test, y_test. From TensorFlow datasets instead:

    … --config.data.source=tfds --config.data.name=cifar10 --config.data.validation_split=test

deep_conv networks, non-saturating loss, two discriminator steps, 200,000 steps of 64, Adam at 2e-4.
StudioGAN reports IS 6.11 and FID 48.29 with these. Variant: tiny.
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = defaults("gan")
    config.data.update(source="npz", path="cifar10.npz", resolution=32, channels="rgb", flip=True)
    config.batch_size = 64
    config.model.z_dim = 128
    config.model.gen.name = "deep_conv"
    config.model.disc.name = "deep_conv"
    config.loss.update(name="non_saturating", order="discriminator_first", disc_steps=2)
    for section in (config.optim.gen, config.optim.disc):
        section.update(lr=2e-4, b1=0.5, b2=0.999)
    config.quality.classifier_steps = "12000"
    config.best.metric = "fd_classifier"
    config.run.update(steps="200000", sample_every="2000", eval_every="5000", quality_every="5000")
    config.run.update(save_every="5000", log_every="200")
    if "tiny" in chosen:
        tiny(config, resolution=32, channels="rgb")
    return config
