"""WarpGAN on WebCaricature, 256 px, at the paper's rates and length: aligned faces.

    python launch.py --mode=align --input=<WebCaricature>/OriginalImages --out=<aligned> \
        --landmarks=<WebCaricature>/landmarks.txt
    python launch.py --config=configs/warpgan_webcaricature.py --workdir=runs/w \
        --config.data.path=<aligned> --config.data.train_list=train.txt \
        --config.data.validation_list=test.txt \
        --config.restore.disc="('<identity classifier>', 'conv*|bottleneck*')"

<aligned> holds a folder for each identity with photos P*.jpg and caricatures C*.jpg. Without lists
a tenth of the identities is held out. The identity classifier is a run of
configs/identity_faces.py, or the original's checkpoint of CASIA. Steps are of one pair, 100,000 of
them; the learning rate is 1e-4 and falls to 0 over the second half, however many steps there are.

The warp head is pooled: one million parameters in place of 134, any image size. Losses are those of
configs/warpgan_drawn.py. Variants:

    faithful  the original's warp head, for 256 px only, logits, losses and spline
    tiny      seconds, drawn faces
"""

from gan_jax.config import defaults, tiny, variants

VARIANTS = ("faithful", "tiny")


def get_config(variant: str = ""):
    chosen = variants(variant, VARIANTS)
    config = defaults("warpgan")
    config.data.update(source="folder", pairs="identities", resolution=256, channels="rgb")
    config.data.flip = True
    config.model.logit_scale = 16.0
    # 30 square pixels of 64 px; the reasons are in configs/warpgan_drawn.py
    config.loss.update(regularization=480.0, style_reconstruction=10.0)
    for section in (config.optim.gen, config.optim.disc):
        section.schedule.update(begin=0.0, hold=0.5, length=0.0)
    config.run.update(steps="100000", log_every="100", sample_every="5000", eval_every="5000")
    config.run.update(save_every="5000", sample_count=8)
    if "faithful" in chosen:
        config.model.update(warp_head="flat", logit_scale=1.0)
        config.loss.update(regularization=1e-6, style_reconstruction=0.0)
    if "tiny" in chosen:
        tiny(config, resolution=32, channels="rgb")
    return config
