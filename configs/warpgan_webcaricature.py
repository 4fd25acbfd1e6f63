"""WarpGAN on WebCaricature, 256 px, as in the paper: aligned photos and caricatures.

    python launch.py --mode=align --input=<WebCaricature>/OriginalImages --out=<aligned> \
        --landmarks=<WebCaricature>/landmarks.txt
    python launch.py --config=configs/warpgan_webcaricature.py --workdir=runs/w \
        --config.data.path=<aligned> --config.data.train_list=train.txt \
        --config.data.validation_list=test.txt \
        --config.restore.disc="('<identity classifier>', 'conv*|bottleneck*')"

<aligned> holds a folder for each identity with photos P*.jpg and caricatures C*.jpg. Without lists
a tenth of the identities is held out. The identity classifier is a run of
configs/identity_faces.py, or the original's checkpoint of CASIA. Steps are of one pair, 100,000 of
them; the learning rate is 1e-4 and falls to 0 over the second half.

The warp head is pooled: one million parameters in place of 134, any image size. Variants:

    faithful  the original's warp head, for 256 px only
    tiny      seconds, drawn faces
"""

from gan_jax import api

VARIANTS = ("faithful", "tiny")


def get_config(variant: str = ""):
    chosen = api.variants(variant, VARIANTS)
    config = api.defaults("warpgan")
    config.data.update(source="folder", pairs="identities", resolution=256, channels="rgb")
    config.data.flip = True
    config.run.update(steps="100000", log_every="100", sample_every="5000", eval_every="5000")
    config.run.update(save_every="5000", sample_count=8)
    if "faithful" in chosen:
        config.model.warp_head = "flat"
    if "tiny" in chosen:
        api.tiny(config, resolution=32, channels="rgb")
        api.tiny_warpgan(config)
    return config
