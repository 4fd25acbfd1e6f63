"""Diffusion on a folder of your own images, 64 px unless told otherwise.

    python launch.py --config=configs/diffusion_folder.py --workdir=runs/mine \\
        --config.data.path=<folder or .zip>

Cost: 100 million parameters; --config.model.num_channels=64 makes it a quarter of them.

Images are cropped to their central square and shrunk to config.data.resolution; those that cannot
be read are skipped. --config.microbatches=2 and --config.model.remat=blocks save memory. Images of
which a mirror image is not as good: --config.data.flip=False. Other sizes want a multiplier for
each level, such as --config.data.resolution=96 --config.model.channel_mult=1,2,3,4
--config.model.attention_resolutions=24,12.

Variants, separated by commas:

    laptop  32 px and a small network, for two CPU cores
    labels  sub-folders are classes, drawn on demand, and dropped classes: --guidance=2
    tiny    seconds, synthetic images
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("laptop", "labels", "tiny"))
    config = defaults("diffusion")
    config.data.update(source="folder", path="images", on_error="skip", resize="crop", flip=True)
    config.data.update(resolution=64, channels="rgb", validation_fraction=0.05)
    config.batch_size = 64
    config.model.update(resblock_updown=True, num_head_channels=64, dropout=0.1, dtype="bfloat16")
    config.discrete.schedule = "cosine"
    config.optim.unet.schedule.warmup = 1000
    config.optim.unet.update(clip_norm=1.0, ema_warmup=True)
    config.sampling.update(sampler="dpm++", steps="30")
    config.run.update(steps="200000", log_every="100", sample_every="2000", sample_count=36)
    config.run.update(eval_every="2000", save_every="2000")
    if "laptop" in chosen:
        laptop(config)
    if "labels" in chosen:
        config.data.labels = "folder"
        config.model.class_cond = True
        config.diffusion.label_dropout = 0.1
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config


def laptop(config) -> None:
    """Small networks and a short recipe, for two CPU cores. In place."""
    config.data.resolution = 32
    config.batch_size = 16
    config.model.update(num_channels=32, num_res_blocks=1, channel_mult=(1, 2, 2))
    config.model.update(attention_resolutions=(8,), num_head_channels=32, norm_groups=8)
    config.model.update(resblock_updown=False, dropout=0.0, dtype="float32")
    # velocities keep the brightness of an image while the network is still coarse
    config.discrete.update(target="v", variance="fixed_small", min_snr=5.0)
    config.optim.unet.lr = 1e-3
    config.optim.unet.schedule.update(name="cosine", warmup=100)
    config.optim.unet.ema = (0.995,)
    # a coarse network's errors are corrected by an ancestral chain, and kept by faster solvers
    config.sampling.update(sampler="ancestral", steps="100")
    config.run.update(steps="5000", log_every="50", sample_every="500", sample_count=16)
    config.run.update(eval_every="1000", save_every="500")
