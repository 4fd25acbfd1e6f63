"""WarpGAN on your own photos and drawings, 256 px.

    python launch.py --config=configs/warpgan_folder.py --workdir=runs/w --config.data.path=<faces>

<faces> holds photos/<identity>/*.jpg and caricatures/<identity>/*.jpg, at least one of each, of
aligned faces of 256 px; a tenth of the identities is held out. `launch.py --mode=align` makes
aligned faces of photographs. The head of the discriminator is pooled too, so
`--config.data.resolution` may be any number from 32 that divides by 4.

Variant `tiny`: seconds, drawn faces.
"""

from gan_jax import api


def get_config(variant: str = ""):
    chosen = api.variants(variant, ("tiny",))
    config = api.defaults("warpgan")
    config.data.update(source="folder", pairs="identities", resolution=256, channels="rgb")
    config.data.flip = True
    config.batch_size = 2
    config.model.disc_head = "pooled"
    config.run.update(steps="50000", log_every="100", sample_every="2500", eval_every="2500")
    config.run.update(save_every="2500", sample_count=8)
    for section in (config.optim.gen, config.optim.disc):
        section.schedule.update(begin=25_000.0, length=50_000.0)
    if "tiny" in chosen:
        api.tiny(config, resolution=32, channels="rgb")
        api.tiny_warpgan(config)
    return config
