"""ProGAN on CelebA-HQ, 1024 px: the original's TensorFlow settings.

    python launch.py --mode=prepare --name=celeba_hq --from=CelebAMask-HQ.zip
    python launch.py --config=configs/progan_celebahq.py --workdir=runs/celebahq

--config.data.path names another folder or .zip of 1024 px images.

Cost: about two weeks on one V100, two days on eight.

The preset goes with the number of devices (growth.preset: v2-1gpu to v2-8gpus); 12 million images.
The authors report FID 7.30.

A network of theirs draws without training:

    python launch.py --mode=sample --config=configs/progan_celebahq.py --out=faces \\
        --config.restore.gen="('karras2018iclr-celebahq-1024x1024.pkl', '*')"

Variants, separated by commas:

    paper          the settings of the paper: v1-1gpu, 19 million images
    nogrowing      1024 px from the beginning, 10 million images
    nopixelnorm, nowscale, noleakyrelu, nosmoothing, norepeat, noreset
                   the original's ablations: one part left out
    half           bfloat16 activations
    best           every resolution starts from the best state of the last, by SWD
    tiny           seconds, synthetic images
"""

from gan_jax.config import defaults, tiny, variants

ABLATIONS = ("nopixelnorm", "nowscale", "noleakyrelu", "nosmoothing", "norepeat", "noreset")
VARIANTS = ("paper", "nogrowing", *ABLATIONS, "half", "best", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("progan")
    config.data.update(source="folder", path="celebahq", labels="none")
    config.data.update(resolution=1024, channels="rgb", flip=True, validation_fraction=0.0)
    config.quality.samples = 8192
    config.run.sample_count = 15
    config.run.update(steps="preset", log_every="100", sample_every="1 tick")
    config.run.update(quality_every="10 ticks", eval_every="10 ticks", save_every="10 ticks")
    if "paper" in chosen:
        config.growth.preset = "v1-1gpu"
    if "nogrowing" in chosen:
        config.growth.update(initial_resolution=1024, training_kimg=0.0, transition_kimg=0.0)
        config.run.steps = "10000000 images"
    if "nopixelnorm" in chosen:
        config.model.pixel_norm = False
    if "nowscale" in chosen:
        config.model.equalized = False
    if "noleakyrelu" in chosen:
        config.model.leaky = False
    if "nosmoothing" in chosen:
        config.optim.gen.ema = (0.0,)
    if "norepeat" in chosen:
        config.growth.repeats = 1
    if "noreset" in chosen:
        config.growth.reset = False
    if "half" in chosen:
        config.model.dtype = "bfloat16"
    config.best.start_from_best = "best" in chosen
    if "tiny" in chosen:
        tiny(config, resolution=16, channels="rgb")
    return config
