"""The diffusion model of ImageNet at 64 px of Dhariwal & Nichol 2021.

    python launch.py --config=configs/diffusion_imagenet64.py --workdir=runs/imagenet64 \\
        --config.data.path=<folder or .zip with a sub-folder for each class>
    python launch.py --mode=import --from=64x64_diffusion.pt --workdir=runs/released64

Cost: 295.9 million parameters, 540 thousand updates of 2048 images. The cosine schedule. Published
with 250 steps: FID 2.07, sFID 4.29, precision 0.74, recall 0.63; guided by its classifier at scale
1.0.

Convolutions are in bfloat16, for GPUs and TPUs; --config.model.dtype=float32 or float16 (with a
dynamic loss scale) in its place. The batch fits 8 GPUs of 80 GB, since blocks are computed twice
(model.remat=blocks); where memory is shorter, --config.microbatches=8 takes a batch in eight parts.
Neither changes the update, but each part draws its own masks of dropout.

Variants:

    tiny  seconds, synthetic images
"""

from gan_jax.config import sibling, tiny, variants

imagenet = sibling(__file__, "shared/imagenet.py")


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = imagenet.diffusion(resolution=64, batch_size=2048, updates=540_000, lr=3e-4)
    config.model.update(num_channels=192, num_res_blocks=3, num_head_channels=64, dropout=0.1)
    config.model.update(attention_resolutions=(32, 16, 8), attention_order="new")
    config.discrete.schedule = "cosine"
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
