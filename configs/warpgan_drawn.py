"""WarpGAN on drawn faces, 64 px: learns on a laptop, and what it learns can be measured.

    python launch.py --config=configs/identity_drawn.py --workdir=runs/ids
    python launch.py --config=configs/warpgan_drawn.py --workdir=runs/w \
        --config.restore.disc="('runs/ids', 'conv*|bottleneck*')" \
        --config.quality.recogniser=runs/ids --config.run.quality_every=1000
    python launch.py --mode=caricature --workdir=runs/w --input=DIR --out=DIR

Cost: 36 minutes on two CPU cores.

Photos and caricatures of 100 people who do not exist; 24 others are held out. How far a caricature
moves each landmark is known, so the metric exaggeration compares the learned warp with the truth.
The generator is a quarter as wide as the paper's and the discriminator half as wide, with the warp
head and batches of 4 pairs.

Variants, separated by commas:

    faithful  the original's warp head (of 64 px), logits, losses, spline, learning rate, one pair
    strong    stronger warp, rougher texture: caricatures up to four times as far from the mean face
              as photos, more weight on identity, fewer steps. The recogniser and the trunk come
              from identity_drawn with --config.data.exaggeration=3
    tiny      seconds
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("faithful", "strong", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    steps = 2200 if "strong" in chosen else 5000
    config = defaults("warpgan")
    config.data.update(source="drawn_faces", pairs="identities", resolution=64, channels="rgb")
    config.data.update(identities=100, validation_identities=24, photos=24, caricatures=12)
    config.data.flip = True
    config.batch_size = 4
    config.model.update(width=16, disc_width=16, bottleneck=128)
    # a head that reads vectors of length 1 needs weights of 10 or a scale, to be sure of a class
    config.model.logit_scale = 16.0
    # control points that lie close together are not to tear the face apart
    config.loss.regularization = 30.0
    # styles are to differ: nothing else in the losses asks for it
    config.loss.style_reconstruction = 10.0
    for section in (config.optim.gen, config.optim.disc):
        section.lr = 5e-4
        section.schedule.update(name="linear", begin=0.0, hold=0.5, length=0.0)
    config.optim.gen.ema = (0.998,)
    config.quality.metrics = ("exaggeration", "rank1")
    config.run.update(steps=str(steps), log_every="50", sample_every="500", eval_every="500")
    config.run.update(save_every="500", sample_count=8)
    if "faithful" in chosen:
        config.model.update(warp_head="flat", logit_scale=1.0)
        config.loss.update(regularization=1e-6, style_reconstruction=0.0)
        config.batch_size = 1
        for section in (config.optim.gen, config.optim.disc):
            section.lr = 1e-4
        config.optim.gen.ema = ()
    if "strong" in chosen:
        config.data.exaggeration = 3.0
        config.loss.identity_weight = 2.0
    if "tiny" in chosen:
        tiny(config, resolution=32, channels="rgb")
    return config
