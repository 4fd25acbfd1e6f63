"""ProGAN on CIFAR-10, 32 px: the original's TensorFlow settings.

    python launch.py --mode=prepare --name=cifar10
    python launch.py --config=configs/progan_cifar10.py --workdir=runs/progan_cifar10

The first command writes data/cifar10.npz. --config.data.path names another file of x_train,
y_train, x_test, y_test. From TensorFlow datasets instead:

    … --config.data.source=tfds --config.data.name=cifar10 --config.data.validation_split=test

512 channels up to 32 px, as for every other data set: these do not reach the paper's Inception
Score of 8.80, for which see progan_cifar10_theano. Variants:

    labels  a class on demand (AC-GAN)
    best    every resolution starts from the best state of the last, by SWD
    tiny    seconds, synthetic images
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("labels", "best", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("progan")
    config.data.update(source="npz", path="cifar10.npz", resolution=32, channels="rgb")
    config.model.conditional = "labels" in chosen
    config.quality.samples = 8192
    config.run.update(steps="preset", log_every="100", sample_every="1 tick")
    config.run.update(quality_every="5 ticks", eval_every="5 ticks", save_every="5 ticks")
    config.best.start_from_best = "best" in chosen
    if "tiny" in chosen:
        tiny(config, resolution=16, channels="rgb")
    return config
