"""gan_jax: train generative image models in JAX.

model = gan_jax.load("runs/a")
images = model.sample(seeds=range(64), classes=[3, 7])
"""

__version__ = "0.1.0"


def __getattr__(name: str):
    # lazily, so that `import gan_jax` is instant and touches no device
    if name in ("load", "train", "evaluate", "defaults"):
        from gan_jax import training

        return getattr(training, name)
    raise AttributeError(f"module 'gan_jax' has no attribute {name!r}")
