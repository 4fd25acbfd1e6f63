"""The upsampler of ImageNet from 64 to 256 px of Dhariwal & Nichol 2021 (ADM-U).

    python launch.py --config=configs/upsampler_64_256.py --workdir=runs/upsampler256 \\
        --config.data.path=<folder or .zip with a sub-folder for each class>
    python launch.py --mode=import --from=64_256_upsampler.pt --workdir=runs/released_u256
    python launch.py --mode=upsample --workdir=runs/released_u256 --input=samples_64x64x64x3.npz

Cost: 311.8 million parameters, 500 thousand updates of 256 images. The linear schedule. It reads
the small image, the mean of 4x4 pixels in training, enlarged beside the noisy one. Published: FID
7.49 after the model at 64 px, 3.94 where that is guided.

Convolutions are in bfloat16, for GPUs and TPUs; --config.model.dtype=float32 or float16 (with a
dynamic loss scale) in its place. The batch fits 8 GPUs of 80 GB, since blocks are computed twice
(model.remat=blocks); where memory is shorter, --config.microbatches=8 takes a batch in eight parts.
Neither changes the update.

Variant: tiny (seconds, synthetic images).
"""

from gan_jax.config import sibling, tiny, variants

imagenet = sibling(__file__, "shared/imagenet.py")


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = imagenet.upsampler(resolution=256, batch_size=256, updates=500_000, factor=4)
    config.model.update(num_channels=192, num_heads=4, attention_resolutions=(32, 16, 8))
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
