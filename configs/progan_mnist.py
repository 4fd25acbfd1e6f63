"""ProGAN on MNIST padded to 32 px: grows from 4 px.

    python launch.py --config=configs/progan_mnist.py --workdir=runs/progan_mnist

Cost: twenty minutes on two CPU cores.

The digits that come with gan_jax are read unless config.data names others, such as

    … --config.data.source=idx --config.data.path=<folder of the four idx files>

Narrow networks (at most 64 channels), 4 to 32 px with fades of the same length as the stages, an
average of a short memory, and each resolution from the best state of the last by SWD. Variants:

    labels  a class on demand (AC-GAN)
    tiny    seconds, synthetic images
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("labels", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("progan")
    config.data.update(resolution=32, pad=2, channels="grey")
    config.growth.update(preset="none", training_kimg=30.0, transition_kimg=30.0)
    config.growth.update(batch="4:64,8:64,16:32,32:16")
    config.model.update(fmap_base=1024, fmap_max=64, conditional="labels" in chosen)
    config.optim.gen.lr = config.optim.disc.lr = 2e-3
    config.optim.gen.ema_half_life = 5000.0  # images; 0.999 a step remembers too much of few
    config.best.start_from_best = True
    config.quality.update(samples=1000)
    config.run.update(steps="210000 images", log_every="100", sample_every="10000 images")
    config.run.update(eval_every="20000 images", quality_every="10000 images")
    config.run.update(save_every="20000 images")
    if "tiny" in chosen:
        tiny(config, resolution=16)
    return config
