"""ProGAN on a category of LSUN, 256 px: the original's TensorFlow settings.

    python launch.py --config=configs/progan_lsun.py --workdir=runs/bedroom \\
        --config.data.path=<folder or .zip of the category's images>

Images are cropped to their central square and shrunk to 256 px; those that cannot be read are
skipped. The preset goes with the number of devices. The authors report FID 8.34 for bedrooms, 6.42
for churches and 37.52 for cats. Variants:

    paper  the paper's settings: one GPU, batches of 16, 800 thousand images a stage, 20 million
    best   every resolution starts from the best state of the last, by SWD
    tiny   seconds, synthetic images
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("paper", "best", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("progan")
    config.data.update(source="folder", path="lsun", labels="none", on_error="skip")
    config.data.update(resolution=256, channels="rgb", resize="crop", validation_fraction=0.0)
    config.quality.samples = 8192
    config.run.update(steps="preset", log_every="100", sample_every="1 tick")
    config.run.update(quality_every="10 ticks", eval_every="10 ticks", save_every="10 ticks")
    if "paper" in chosen:
        config.growth.preset = "v1-1gpu"
        config.run.steps = "20000000 images"
        config.batch_size = 16
    config.best.start_from_best = "best" in chosen
    if "tiny" in chosen:
        tiny(config, resolution=16, channels="rgb")
    return config
