"""The diffusion model of ImageNet at 256 px of Dhariwal & Nichol 2021.

    python launch.py --config=configs/diffusion_imagenet256.py --workdir=runs/imagenet256 \\
        --config.data.path=<folder or .zip with a sub-folder for each class>
    python launch.py --mode=import --from=256x256_diffusion.pt --workdir=runs/released256

Cost: 553.8 million parameters (552.8 without classes), 1.98 million updates of 256 images. The
linear schedule. Published with 250 steps: FID 10.94; guided by noisy_classifier_imagenet256 at
scale 1.0 FID 4.59, with 25 steps of DDIM at scale 2.5 FID 5.44; without classes, scale 10.0, FID
12.00.

Convolutions are in bfloat16, for GPUs and TPUs; --config.model.dtype=float32 or float16 (with a
dynamic loss scale) in its place. The batch fits 8 GPUs of 80 GB, since blocks are computed twice
(model.remat=blocks); where memory is shorter, --config.microbatches=8 takes a batch in eight parts.
Neither changes the update.

Variants:

    unconditional  no classes: the model that is guided by a classifier alone
    tiny  seconds, synthetic images
"""

from gan_jax.config import sibling, tiny, variants

imagenet = sibling(__file__, "shared/imagenet.py")


def get_config(variant: str = ""):
    chosen = variants(variant, ("unconditional", "tiny"))
    config = imagenet.diffusion(resolution=256, batch_size=256, updates=1_980_000)
    config.model.update(num_channels=256, num_head_channels=64, attention_resolutions=(32, 16, 8))
    if "unconditional" in chosen:
        config.model.class_cond = False
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
