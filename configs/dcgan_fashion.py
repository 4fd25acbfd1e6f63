"""DCGAN on Fashion-MNIST, 28 px.

    python launch.py --mode=prepare --name=fashion_mnist
    python launch.py --config=configs/dcgan_fashion.py --workdir=runs/fashion

The first command writes data/fashion_mnist, a folder of the four idx files. Those of Debian's
package dataset-fashion-mnist are found too, and --config.data.path names another folder. Variants:
labels (class-conditional), tiny.
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("labels", "tiny"))
    config = defaults("gan")
    config.data.update(source="idx", path="fashion_mnist")
    config.batch_size = 64
    config.model.gen.update(name="deconv", width=64)
    config.model.disc.update(name="conv", width=64)
    config.optim.gen.lr = 5e-4
    config.optim.disc.lr = 5e-4
    config.optim.gen.ema = (0.999,)
    config.loss.r1 = 0.5
    config.quality.classifier_steps = "4000"
    config.best.metric = "fd_classifier"
    config.run.update(steps="30 epochs", quality_every="1 epoch")
    if "labels" in chosen:
        config.model.conditioning = "projection"
    if "tiny" in chosen:
        tiny(config)
    return config
