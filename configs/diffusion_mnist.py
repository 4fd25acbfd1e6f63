"""Diffusion on handwritten digits: learns on a laptop.

    python launch.py --config=configs/diffusion_mnist.py --workdir=runs/diffusion_mnist
    python launch.py --mode=sample --workdir=runs/diffusion_mnist --sampler=dpm++ --steps=20

Cost: about an hour on two CPU cores.

A U-Net of 1.2 M parameters that predicts noise and its own variance along 1000 steps of the cosine
schedule, on the 10,000 digits that come with gan_jax. The whole of MNIST, from its idx files:

    … --config.data.source=idx --config.data.path=/path/to/mnist

Variants, separated by commas:

    labels  of a digit on demand, with dropped classes: --guidance=2
    flow    flow matching in place of the chain
    edm     the preconditioning of Karras et al. 2022 and 18 steps of Heun's method
    v       predicts velocities with min-SNR weights, fixed variance
    tiny    seconds, synthetic data
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("labels", "flow", "edm", "v", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("diffusion")
    config.data.source = "digits"
    config.batch_size = 64
    config.model.update(num_channels=32, num_res_blocks=1, channel_mult=(1, 2, 2))
    config.model.update(attention_resolutions=(7,), num_head_channels=32, norm_groups=8)
    config.discrete.schedule = "cosine"
    config.optim.unet.lr = 1e-3
    config.optim.unet.schedule.update(name="cosine", warmup=200)
    config.optim.unet.update(ema=(0.999,), ema_warmup=True)
    config.sampling.update(sampler="dpm++", steps="20")
    config.quality.metrics = ("fd_classifier", "classes")
    config.run.update(steps="24 epochs", sample_every="4 epochs", eval_every="2 epochs")
    if "labels" in chosen:
        config.model.class_cond = True
        config.diffusion.label_dropout = 0.1
    if "flow" in chosen:
        config.diffusion.process = "flow"
        config.sampling.update(sampler="heun", steps="20")
    if "edm" in chosen:
        config.diffusion.process = "edm"
        config.sampling.update(sampler="heun", steps="18")
    if "v" in chosen:
        config.discrete.update(target="v", variance="fixed_small", min_snr=5.0)
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
