"""From a clone to a grid of digits: a small class-conditional DCGAN.

    make quickstart

or  python launch.py --config=configs/quickstart.py --workdir=runs/quickstart

Cost: two minutes on two CPU cores.

A classifier is trained first; it judges which digits the samples show. Variant `tiny`: seconds,
synthetic data.
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = defaults("gan")
    config.data.source = "digits"
    config.batch_size = 32  # half the time of 64, and as good after as many steps
    # a class per column of the grid; spectral norm and hinge learn the fastest on this budget
    config.model.update(z_dim=64, conditioning="projection")
    config.model.gen.update(name="deconv", width=32)
    config.model.disc.update(name="conv", width=32, spectral_norm=True, batch_norm="off")
    config.loss.name = "hinge"
    for section in (config.optim.gen, config.optim.disc):
        section.update(lr=1e-3, b1=0.0)
        section.schedule.update(name="linear", begin=2000.0, length=4000.0, floor=1e-4)
    config.optim.gen.ema = (0.998,)
    config.best.metric = "fd_classifier"
    config.quality.classifier_steps = "1000"
    config.run.update(steps="4000", log_every="50", sample_every="500")
    config.run.update(eval_every="2000", quality_every="2000", save_every="1000")
    if "tiny" in chosen:
        tiny(config)
    return config
