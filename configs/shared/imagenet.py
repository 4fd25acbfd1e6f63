"""What the models of ImageNet of Dhariwal & Nichol 2021 have in common, whatever their size.

Not a config of its own: the files configs/*_imagenet*.py and configs/upsampler_*.py begin with one
of these functions and set the numbers of their model.
"""

from gan_jax.config import defaults


def diffusion(resolution: int, batch_size: int, updates: int, lr: float = 1e-4):
    """A diffusion model with classes: residual blocks that resize, convolutions in bfloat16.

    Blocks are computed twice: a batch then fits into the memory of 8 GPUs of 80 GB.
    """
    config = defaults("diffusion")
    images(config, resolution, batch_size, resize="crop")
    config.model.update(class_cond=True, resblock_updown=True, dtype="bfloat16", remat="blocks")
    config.optim.unet.lr = lr
    config.run.update(steps=str(updates), log_every="100", sample_every="5000", sample_count=16)
    config.run.update(eval_every="10000", save_every="10000")
    return config


def upsampler(resolution: int, batch_size: int, updates: int, factor: int):
    """A diffusion model that reads an image of `factor` times smaller sides, beside the noise."""
    config = diffusion(resolution, batch_size, updates)
    config.data.update(pairs="upscale", factor=factor)
    config.run.sample_count = 8
    return config


def noisy_classifier(
    resolution: int, batch_size: int, updates: int, lr: float, weight_decay: float
):
    """The classifier that guides a diffusion model; its rate falls in a line to 0."""
    config = defaults("noisy_classifier")
    images(config, resolution, batch_size, resize="random_crop")
    config.model.dtype = "bfloat16"
    config.optim.classifier.update(lr=lr, weight_decay=weight_decay)
    config.optim.classifier.schedule.name = "linear"
    config.run.update(steps=str(updates), log_every="100")
    config.run.update(eval_every="10000", save_every="10000")
    return config


def images(config, resolution: int, batch_size: int, resize: str) -> None:
    """A folder of ImageNet, mirrored too; one image in a hundred is for validation. In place."""
    config.data.update(source="folder", path="imagenet", validation_fraction=0.01)
    config.data.update(resolution=resolution, channels="rgb", resize=resize, flip=True)
    config.batch_size = batch_size
