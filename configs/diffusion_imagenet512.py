"""The diffusion model of ImageNet at 512 px of Dhariwal & Nichol 2021.

    python launch.py --config=configs/diffusion_imagenet512.py --workdir=runs/imagenet512 \\
        --config.data.path=<folder or .zip with a sub-folder for each class>
    python launch.py --mode=import --from=512x512_diffusion.pt --workdir=runs/released512

Cost: 559.0 million parameters, 1.94 million updates of 256 images. The linear schedule. Published
with 250 steps: FID 23.24; guided by noisy_classifier_imagenet512 at scale 4.0 FID 7.72, with 25
steps of DDIM at scale 9.0 FID 8.41.

Convolutions are in bfloat16, for GPUs and TPUs; --config.model.dtype=float32 or float16 (with a
dynamic loss scale) in its place. The batch fits 8 GPUs of 80 GB, since blocks are computed twice
(model.remat=blocks) and a batch is taken in two parts (microbatches=2); where memory is shorter,
--config.microbatches=8 makes it eight. Neither changes the update.

Variants:

    tiny  seconds, synthetic images
"""

from gan_jax.config import sibling, tiny, variants

imagenet = sibling(__file__, "shared/imagenet.py")


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = imagenet.diffusion(resolution=512, batch_size=256, updates=1_940_000)
    config.model.update(num_channels=256, num_head_channels=64, attention_resolutions=(32, 16, 8))
    config.microbatches = 2
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
