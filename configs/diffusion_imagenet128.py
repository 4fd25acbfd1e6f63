"""The diffusion model of ImageNet at 128 px of Dhariwal & Nichol 2021.

    python launch.py --config=configs/diffusion_imagenet128.py --workdir=runs/imagenet128 \\
        --config.data.path=<folder or .zip with a sub-folder for each class>
    python launch.py --mode=import --from=128x128_diffusion.pt --workdir=runs/released128

Cost: 421.5 million parameters, 4.36 million updates of 256 images. The linear schedule. Published
with 250 steps: FID 5.91; guided by noisy_classifier_imagenet128 at scale 0.5 FID 2.97, with 25
steps of DDIM at scale 1.25 FID 5.98.

Convolutions are in bfloat16, for GPUs and TPUs; --config.model.dtype=float32 or float16 (with a
dynamic loss scale) in its place. The batch fits 8 GPUs of 80 GB, since blocks are computed twice
(model.remat=blocks); where memory is shorter, --config.microbatches=8 takes a batch in eight parts.
Neither changes the update.

Variants:

    tiny  seconds, synthetic images
"""

from gan_jax.config import sibling, tiny, variants

imagenet = sibling(__file__, "shared/imagenet.py")


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = imagenet.diffusion(resolution=128, batch_size=256, updates=4_360_000)
    config.model.update(num_channels=256, num_heads=4, attention_resolutions=(32, 16, 8))
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
