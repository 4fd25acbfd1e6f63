"""SNGAN on CIFAR-10, 32 px, class-conditional: PyTorch-StudioGAN's settings.

    python launch.py --mode=prepare --name=cifar10
    python launch.py --config=configs/sngan_cifar10.py --workdir=runs/sngan_cifar10

ResNet, class-conditional batch norm in the generator, projection and spectral norm in the
discriminator, hinge loss, five discriminator steps, 100,000 steps of 64, Adam at 2e-4. StudioGAN
reports IS 8.83 and FID 9.01 with these. Variant: tiny.
"""

from gan_jax.config import defaults, tiny, variants


def get_config(variant: str = ""):
    chosen = variants(variant, ("tiny",))
    config = defaults("gan")
    config.data.update(source="npz", path="cifar10.npz", resolution=32, channels="rgb", flip=True)
    config.batch_size = 64
    config.model.update(z_dim=128, conditioning="projection")
    config.model.gen.update(name="resnet", init="orthogonal")
    config.model.disc.update(name="resnet", init="orthogonal", spectral_norm=True)
    config.loss.update(name="hinge", order="discriminator_first", disc_steps=5)
    for section in (config.optim.gen, config.optim.disc):
        section.update(lr=2e-4, b1=0.5, b2=0.999)
    config.quality.classifier_steps = "12000"
    config.best.metric = "fd_classifier"
    config.run.update(steps="100000", sample_every="2000", eval_every="5000", quality_every="5000")
    config.run.update(save_every="5000", log_every="100")
    if "tiny" in chosen:
        tiny(config, resolution=32, channels="rgb")
    return config
