"""The classifier that guides a diffusion model of ImageNet at 64 px (Dhariwal & Nichol 2021).

    python launch.py --config=configs/noisy_classifier_imagenet64.py --workdir=runs/noisy64 \\
        --config.data.path=<folder or .zip with a sub-folder for each class>

Cost: 65.4 million parameters, 300 thousand updates of 1024 images. The cosine schedule of 1000
times; the rate falls in a line to 0. One image in a hundred is kept for validation, or all of val
where it lies beside train. Files that carry their class before a first "_", as in the original:
--config.data.labels=prefix.

Where memory is short, --config.microbatches=8 takes a batch in eight parts and
--config.model.remat=blocks computes maps twice; the update is the same. Convolutions are in
bfloat16, for GPUs and TPUs; --config.model.dtype=float32 or float16 (with a dynamic loss scale) in
its place. Variant: tiny (seconds, synthetic images).
"""

from gan_jax.config import sibling, tiny, variants

imagenet = sibling(__file__, "shared/imagenet.py")


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = imagenet.noisy_classifier(
        resolution=64, batch_size=1024, updates=300_000, lr=6e-4, weight_decay=0.2
    )
    config.discrete.schedule = "cosine"
    config.model.num_res_blocks = 4
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
