"""The original's weights, images and per-variable statistics, as the golden files give them."""

import zlib

import numpy as np

from gan_jax import config as configs
from gan_jax.core.system import Facts
from gan_jax.interop import progan as names
from gan_jax.systems import progan


def rule(name: str, shape: tuple[int, ...], wscale: bool = True) -> np.ndarray:
    """The variable called `name` ("G/4x4/Dense/weight"), in the original's shape."""
    random = np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)
    r = random.randn(*shape).astype(np.float32)
    if len(shape) < 2:
        return np.float32(0.1) * r
    return r if wscale else r * np.float32(1 / np.sqrt(np.prod(shape[:-1])))


def variables(meta: dict, net: str) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of one network ("G" or "D") in the order of the golden rows."""
    return [(n, tuple(s)) for n, s in meta["variables"] if n.startswith(f"{net}/")]


def params(meta: dict, net: str, wscale: bool = True) -> dict:
    """Our parameters of one network."""
    found = {n.removeprefix(f"{net}/"): rule(n, s, wscale) for n, s in variables(meta, net)}
    return names.to_trees(found)


def statistics(tree: dict, meta: dict, net: str) -> np.ndarray:
    """[variable, 4]: L2 norm, sum, first and last element in the original's layout."""
    options = meta["options"]
    found = names.from_trees(tree, options["resolution"], options["fused_scale"])
    rows = []
    for name, shape in variables(meta, net):
        value = np.asarray(found[name.removeprefix(f"{net}/")], np.float64)
        assert value.shape == shape, name
        flat = value.ravel()
        rows.append([np.linalg.norm(flat), flat.sum(), flat[0], flat[-1]])
    return np.array(rows)


def config(meta: dict, **sections):
    """The config of a golden file's options; `sections` update it ("optim__gen" is optim.gen)."""
    options = meta["options"]
    config = configs.defaults("progan")
    config.batch_size = options["minibatch"]
    config.growth.update(preset="none", training_kimg=1.0, transition_kimg=1.0)
    config.model.update(fmap_base=options["fmap_base"], fmap_max=options["fmap_max"])
    config.model.update(fused_scale=options["fused_scale"], minibatch_stddev=4)
    config.run.steps = "20000 images"
    for name, values in sections.items():
        section = config
        for part in name.split("__"):
            section = section[part]
        section.update(values)
    return config


def system(meta: dict, **sections):
    """The system of such a config."""
    options = meta["options"]
    facts = Facts(options["resolution"], options["num_channels"], options["label_size"], 1000)
    return progan.make(config(meta, **sections), facts)


def images(x: np.ndarray, side: int) -> np.ndarray:
    """Golden images [N, C, R, R] at their native side: [N, side, side, C] float32."""
    x = np.moveaxis(np.asarray(x, np.float32), 1, -1)
    block = x.shape[1] // side
    n, _, _, c = x.shape
    return x.reshape(n, side, block, side, block, c).mean((2, 4))
