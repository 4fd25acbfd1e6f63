"""The upsampler of ImageNet from 128 to 512 px of Dhariwal & Nichol 2021 (ADM-U).

    python launch.py --config=configs/upsampler_128_512.py --workdir=runs/upsampler512 \\
        --config.data.path=<folder or .zip with a sub-folder for each class>
    python launch.py --mode=import --from=128_512_upsampler.pt --workdir=runs/released_u512
    python launch.py --mode=upsample --workdir=runs/released_u512 --input=samples_64x128x128x3.npz

Cost: 308.8 million parameters, 1.05 million updates of 256 images. The linear schedule. It reads
the small image, the mean of 4x4 pixels in training, enlarged beside the noisy one. Published: FID
9.96 after the model at 128 px, 3.85 where that is guided.

Convolutions are in bfloat16, for GPUs and TPUs; --config.model.dtype=float32 or float16 (with a
dynamic loss scale) in its place. The batch fits 8 GPUs of 80 GB, since blocks are computed twice
(model.remat=blocks) and a batch is taken in two parts (microbatches=2); where memory is shorter,
--config.microbatches=8 makes it eight. Neither changes the update.

Variant: tiny (seconds, synthetic images).
"""

from gan_jax.config import sibling, tiny, variants

imagenet = sibling(__file__, "shared/imagenet.py")


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = imagenet.upsampler(resolution=512, batch_size=256, updates=1_050_000, factor=4)
    config.model.update(num_channels=192, num_head_channels=64, attention_resolutions=(32, 16))
    config.microbatches = 2
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
