"""gan_jax: train generative image models in JAX.

model = gan_jax.load("runs/a")
images = model.sample(seeds=range(64), classes=[3, 7])
"""

import importlib

from gan_jax import log

__version__ = "0.1.0"

log.install()

_HOMES = {
    "defaults": "gan_jax.config",
    "evaluate": "gan_jax.evaluating",
    "experiment": "gan_jax.interactive",
    "load": "gan_jax.run.model",
    "train": "gan_jax.training",
}
__all__ = ["__version__", *_HOMES]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str):
    # lazily, so that `import gan_jax` is instant and touches no device
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gan_jax' has no attribute {name!r}")
