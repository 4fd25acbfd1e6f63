"""WarpGAN on your own photos and drawings, 256 px.

    python launch.py --config=configs/warpgan_folder.py --workdir=runs/w --config.data.path=<faces>

<faces> holds photos/<identity>/*.jpg and caricatures/<identity>/*.jpg, at least one of each, of
aligned faces of 256 px; a tenth of the identities is held out. `launch.py --mode=align` makes
aligned faces of photographs. The head of the discriminator is pooled too, so
`--config.data.resolution` may be any number from 32 that divides by 4, and
`--config.loss.regularization` goes with it: 30 * (resolution / 64)^2. Losses are those of
configs/warpgan_drawn.py. The learning rate falls to 0 over the second half of the run, however long
`--config.run.steps` makes it.

Variants:

    laptop    64 px with the networks of configs/warpgan_drawn.py, for two CPU cores
    faithful  the original's heads (of 256 px), logits, losses, spline, one pair, 100,000 steps
    tiny      seconds, drawn faces
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("laptop", "faithful", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("warpgan")
    config.data.update(source="folder", pairs="identities", resolution=256, channels="rgb")
    config.data.flip = True
    config.batch_size = 2
    config.model.update(disc_head="pooled", logit_scale=16.0)
    # 30 square pixels of 64 px; the reasons are in configs/warpgan_drawn.py
    config.loss.update(regularization=480.0, style_reconstruction=10.0)
    config.run.update(steps="50000", log_every="100", sample_every="2500", eval_every="2500")
    config.run.update(save_every="2500", sample_count=8)
    for section in (config.optim.gen, config.optim.disc):
        section.schedule.update(name="linear", begin=0.0, hold=0.5, length=0.0)
    config.optim.gen.ema = (0.998,)
    if "laptop" in chosen:
        laptop(config)
    if "faithful" in chosen:
        config.model.update(warp_head="flat", disc_head="flat", logit_scale=1.0)
        config.loss.update(regularization=1e-6, style_reconstruction=0.0)
        config.batch_size = 1
        config.optim.gen.ema = ()
        if "laptop" not in chosen:
            config.run.steps = "100000"
    if "tiny" in chosen:
        tiny(config, resolution=32, channels="rgb")
    return config


def laptop(config) -> None:
    """Small networks and a short recipe, for two CPU cores. In place."""
    config.data.update(resolution=64, resize="squash")
    config.batch_size = 4
    config.model.update(width=16, disc_width=16, bottleneck=128)
    config.loss.regularization = 30.0
    for section in (config.optim.gen, config.optim.disc):
        section.lr = 5e-4
    config.run.update(steps="5000", log_every="50", sample_every="500", eval_every="500")
    config.run.update(save_every="500")
