"""ProGAN on CIFAR-10, 32 px: the settings of the original's Theano code, for an Inception Score of
8.80.

    python launch.py --mode=prepare --name=cifar10
    python launch.py --config=configs/progan_cifar10_theano.py --workdir=runs/progan_cifar10

At most 128 channels, both networks learn at once from the same fakes, the gradient's norm aims at
750, minibatch standard deviation over the whole batch of 16, resizing outside the convolutions, 400
thousand images a stage, 20 million in all. See progan_cifar10 for other sources of the data.
Variants:

    labels  a class on demand (AC-GAN)
    tiny    seconds, synthetic images
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("labels", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("progan")
    config.data.update(source="npz", path="cifar10.npz", resolution=32, channels="rgb")
    config.growth.update(preset="v1-1gpu", training_kimg=400.0, transition_kimg=400.0)
    config.model.update(fmap_base=4096, fmap_max=128, fused_scale=False)
    config.model.conditional = "labels" in chosen
    config.loss.update(order="joint", target=750.0)
    config.optim.gen.ema_of = "after"
    config.quality.samples = 8192
    config.run.update(steps="20000000 images", log_every="100", sample_every="1 tick")
    config.run.update(quality_every="5 ticks", eval_every="5 ticks", save_every="5 ticks")
    if "tiny" in chosen:
        tiny(config, resolution=16, channels="rgb")
    return config
