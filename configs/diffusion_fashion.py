"""Diffusion on Fashion-MNIST, 28 px: learns on a laptop.

    python launch.py --mode=prepare --name=fashion_mnist
    python launch.py --config=configs/diffusion_fashion.py --workdir=runs/diffusion_fashion

The first command writes data/fashion_mnist, a folder of the four idx files. Those of Debian's
package dataset-fashion-mnist are found too, and --config.data.path names another folder. The
network and settings are those of diffusion_mnist. The class of a garment can be chosen, and since
some classes are dropped in training, --guidance=2 strengthens it. Variants, separated by commas:

    unconditional  no classes
    tiny           seconds, synthetic data
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("unconditional", "tiny"))
    config = defaults("diffusion")
    config.data.update(source="idx", path="fashion_mnist", flip=True)
    config.batch_size = 64
    config.model.update(num_channels=32, num_res_blocks=1, channel_mult=(1, 2, 2))
    config.model.update(attention_resolutions=(7,), num_head_channels=32, norm_groups=8)
    config.model.class_cond = "unconditional" not in chosen
    config.diffusion.label_dropout = 0.1 if config.model.class_cond else 0.0
    config.discrete.schedule = "cosine"
    config.optim.unet.lr = 1e-3
    config.optim.unet.schedule.update(name="cosine", warmup=200)
    config.optim.unet.update(ema=(0.999,), ema_warmup=True)
    config.sampling.update(sampler="dpm++", steps="20")
    config.quality.update(metrics=("fd_classifier", "classes"), classifier_steps="4000")
    config.run.update(steps="12 epochs", sample_every="1 epoch", eval_every="1 epoch")
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
