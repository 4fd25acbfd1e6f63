"""A classifier of handwritten digits under noise: what guides a diffusion model of them.

    python launch.py --config=configs/noisy_classifier_mnist.py --workdir=runs/noisy_digits

Cost: minutes on two CPU cores.

Three passes over the 10,000 digits that come with gan_jax find 76 % of the classes over all times.
The log tells the losses of each quarter of the chain apart: of the noisiest, little can be known.
The whole of MNIST, from its idx files:

    … --config.data.source=idx --config.data.path=/path/to/mnist

Variant `tiny`: seconds, synthetic data.
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = defaults("noisy_classifier")
    config.data.source = "digits"
    config.batch_size = 64
    config.discrete.schedule = "cosine"
    config.model.update(num_channels=32, channel_mult=(1, 2, 2), attention_resolutions=(7,))
    config.model.update(norm_groups=8, num_head_channels=32)
    config.optim.classifier.lr = 1e-3
    config.optim.classifier.schedule.name = "linear"
    config.run.update(steps="3 epochs", log_every="20")
    if "tiny" in chosen:
        tiny(config, channels="rgb")
    return config
