"""The diffusion model of ImageNet at 128 px of Dhariwal & Nichol 2021.

    python launch.py --config=configs/diffusion_imagenet128.py --workdir=runs/imagenet128 \\
        --config.data.path=<folder or .zip with a sub-folder for each class>
    python launch.py --mode=import --from=128x128_diffusion.pt --workdir=runs/released128

421.5 million parameters, 4.36 million updates of 256 images, the linear schedule. Published with
250 steps: FID 5.91; guided by noisy_classifier_imagenet128 at scale 0.5 FID 2.97, with 25 steps of
DDIM at scale 1.25 FID 5.98.

Convolutions are in bfloat16, for GPUs and TPUs; --config.model.dtype=float32 or float16 (with a
dynamic loss scale) in its place. Where memory is short, --config.microbatches=8 takes a batch in
eight parts and --config.model.remat=blocks computes maps twice; the update is the same.

Variants:

    tiny  seconds, synthetic images
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = defaults("diffusion")
    config.data.update(source="folder", path="imagenet", validation_fraction=0.01)
    config.data.update(resolution=128, channels="rgb", resize="crop", flip=True)
    config.batch_size = 256
    config.model.update(num_channels=256, num_heads=4, class_cond=True)
    config.optim.unet.lr = 1e-4
    config.model.update(attention_resolutions=(32, 16, 8), resblock_updown=True, dtype="bfloat16")
    config.run.update(steps="4360000", log_every="100", sample_every="5000", sample_count=16)
    config.run.update(eval_every="10000", save_every="10000")
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
