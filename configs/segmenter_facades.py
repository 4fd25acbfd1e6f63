"""Façades to label maps, 256 px: the segmenter that scores what pix2pix makes of label maps.

    python launch.py --mode=prepare --name=facades
    python launch.py --config=configs/segmenter_facades.py --workdir=runs/s

The first command writes data/facades, which holds train/ and val/ with pictures twice as wide as
high, the photo (A) at the left of its label map (B), as for configs/pix2pix_facades.py, which
learns the other direction. The classes
of a folder of photos, drawn in the palette's colours:

    python launch.py --mode=translate --workdir=runs/s --state=best --input=DIR --out=DIR

Jitter from 286 px and mirroring, of photo and map together; the filter box only repeats pixels when
it enlarges, so that no colours between those of two classes come up in the maps.

Cost: about eight minutes on two CPU cores.

After ten epochs the 100 validation pairs give pixel accuracy 0.586, class accuracy 0.343 and class
IoU 0.244. JPEG mixes the colours at the edges of regions, which makes a third class of about 9 % of
a map's pixels; over those within 32 levels of a palette colour, 79 % of all, the three are 0.667,
0.413 and 0.303. The network never names decorations and pillars and seldom names blinds,
of which there are few.

Variant `tiny`: seconds, synthetic pairs.
"""

from gan_jax.config import defaults, tiny, variants

# The CMP façade set (Tyleček & Šára 2013) in the colours of pix2pix' JPEGs, which are not those of
# the set itself. Classes 1 to 12 of the set: background, façade, window, door, cornice, sill,
# balcony, blind, decoration, moulding, pillar, shop
FACADES = (
    (0, 0, 222),
    (0, 48, 255),
    (0, 128, 255),
    (0, 208, 255),
    (32, 255, 224),
    (112, 255, 144),
    (192, 255, 64),
    (255, 240, 16),
    (255, 160, 0),
    (255, 80, 0),
    (255, 0, 0),
    (175, 0, 0),
)


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = defaults("classifier")
    config.data.update(source="folder", path="facades", labels="none")
    config.data.update(pairs="side_by_side", direction="a_to_b")
    config.data.update(resolution=256, channels="rgb", flip=True)
    config.data.update(resize="jitter", load_resolution=286, resize_filter="box")
    config.model.update(output="pixels", palette=FACADES, width=16)
    config.batch_size = 4
    config.best.update(metric="val/accuracy", mode="max")
    config.run.update(steps="10 epochs", log_every="20", sample_count=5)
    config.run.update(eval_every="1 epoch", sample_every="1 epoch", save_every="2 epochs")
    if "tiny" in chosen:
        tiny(config, resolution=16, channels="rgb")
    return config
