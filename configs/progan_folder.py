"""ProGAN on a folder of your own images, 64 to 1024 px.

    python launch.py --config=configs/progan_folder.py --workdir=runs/mine \\
        --config.data.path=<folder or .zip> --config.data.resolution=128

Images are cropped to their central square and shrunk to config.data.resolution, a power of two;
those that cannot be read are skipped. A preset of the original goes with the number of devices:
600 thousand images at every resolution and as many for every fade, 12 million in all. Where
a mirrored image is as good as the image itself, --config.data.flip=True doubles the images.

Variants:

    laptop  up to 32 px, narrow networks and short stages, for two CPU cores
    labels  sub-folders are classes, drawn on demand (AC-GAN)
    half    bfloat16 activations, for GPUs and TPUs
    tiny    seconds, synthetic images
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("laptop", "labels", "half", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("progan")
    config.data.update(source="folder", path="images", on_error="skip", resize="crop")
    config.data.update(resolution=128, channels="rgb", validation_fraction=0.05)
    config.data.labels = "folder" if "labels" in chosen else "none"
    config.best.start_from_best = True
    config.quality.samples = 4096
    config.run.update(steps="preset", log_every="100", sample_every="1 tick")
    config.run.update(quality_every="5 ticks", eval_every="5 ticks", save_every="5 ticks")
    if "laptop" in chosen:
        laptop(config)
    if "half" in chosen:
        config.model.dtype = "bfloat16"
    if "tiny" in chosen:
        tiny(config, resolution=16, channels="rgb")
    return config


def laptop(config) -> None:
    """Small networks and a short recipe, for two CPU cores. In place."""
    config.data.update(resolution=32, flip=True)
    config.growth.update(preset="none", training_kimg=48.0, transition_kimg=32.0)
    config.growth.update(batch="4:64,8:32,16:16,32:16")
    config.model.update(fmap_base=512, fmap_max=64)
    config.optim.gen.lr = config.optim.disc.lr = 2e-3
    config.optim.gen.ema_half_life = 5000.0  # images; 0.999 a step remembers too much of few
    config.quality.samples = 512
    config.run.update(steps="288000 images", sample_every="16000 images", sample_count=36)
    config.run.update(eval_every="32000 images", quality_every="16000 images")
    config.run.update(save_every="32000 images")
