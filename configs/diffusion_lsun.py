"""Diffusion models of LSUN at 256 px (Dhariwal & Nichol 2021): bedrooms, or what a variant says.

    python launch.py --config=configs/diffusion_lsun.py:cat --workdir=runs/cats \\
        --config.data.path=<folder or .zip of images>
    python launch.py --mode=import --from=lsun_cat.pt --workdir=runs/released_cats

Cost: 552.8 million parameters, updates of 256 images. The linear schedule. Published with 1000
steps: FID 1.90 of bedrooms, 2.57 of horses (2.95 without dropout), 5.57 of cats. With 250 steps
bedrooms reach 2.31, and 2.02 where the steps lie as --steps=90,60,60,20,20.

Convolutions are in bfloat16, for GPUs and TPUs; --config.model.dtype=float32 or float16 (with a
dynamic loss scale) in its place. The batch fits 8 GPUs of 80 GB, since blocks are computed twice
(model.remat=blocks); where memory is shorter, --config.microbatches=8 takes a batch in eight parts.
Neither changes the update, but each part draws its own masks of dropout, where there is dropout.

Variants, separated by commas:

    bedroom           500 thousand updates
    cat               200 thousand updates
    horse             250 thousand updates
    horse_nodropout   the same without dropout
    tiny              seconds, synthetic images
"""

from gan_jax.config import defaults, tiny, variants

STEPS = {"bedroom": "500000", "cat": "200000", "horse": "250000", "horse_nodropout": "250000"}


def get_config(variant: str = ""):
    chosen = variants(variant, (*STEPS, "tiny"))
    config = defaults("diffusion")
    config.data.update(source="folder", path="lsun", labels="none", validation_fraction=0.01)
    config.data.update(resolution=256, channels="rgb", resize="crop", flip=True)
    config.batch_size = 256
    config.model.update(num_channels=256, num_head_channels=64, dropout=0.1)
    config.model.update(attention_resolutions=(32, 16, 8), resblock_updown=True)
    config.model.update(dtype="bfloat16", remat="blocks")
    config.sampling.steps = ""
    scene = next((name for name in STEPS if name in chosen), "bedroom")
    if scene == "horse_nodropout":
        config.model.dropout = 0.0
    config.run.update(steps=STEPS[scene], log_every="100", sample_every="5000", sample_count=16)
    config.run.update(eval_every="10000", save_every="10000")
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
