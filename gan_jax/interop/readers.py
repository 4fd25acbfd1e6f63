"""Files of other programs with weights in them: which reader a file belongs to, and what is in it.

READERS are tried in order; the first that recognises a file reads it. A new format needs one
more reader and no change outside this folder.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gan_jax.errors import UserError
from gan_jax.interop import (
    guided_diffusion,
    pix2pix,
    progan_file,
    pytorch_gan,
    trees,
    warpgan,
)
from gan_jax.interop.formats import npz_file, tf_checkpoint

ACCEPTED = "checkpoints of TensorFlow, and .pth, .pt, .npz and .pkl files"

Section = Mapping[str, Any]  # of a config
Arrays = dict[str, np.ndarray]  # by name: "params/conv_1/kernel", "stats/batch_stats/norm_1/mean"


class Reader(NamedTuple):
    """One kind of file. Every function takes the path, or the prefix of a checkpoint, as text.

    recognises:  whether the path is a file of this kind
    arrays:      (source, net) → the weights of the net called `net`, for files that hold several
    classes:     how many classes its networks have; 0 if the file does not say
    kind:        the kind of network in it, such as "WarpGAN"; None: the names of its arrays say it
    differences: (source, facts, model) → the settings that its networks need and the config lacks,
                 such as "config.data.resolution=64"; `facts` has `resolution` and `channels`,
                 `model` is the config's section

    All but `recognises` raise UserError for files that cannot be read, or that hold something else.
    """

    recognises: Callable[[str], bool]
    arrays: Callable[[str, str], Arrays]
    classes: Callable[[str], int] = lambda source: 0
    kind: Callable[[str], str] | None = None
    differences: Callable[[str, Any, Section], list[str]] = lambda source, facts, model: []


def find(source: str) -> Reader | None:
    """The reader that a source belongs to; None if it is of no such kind or does not exist."""
    return next((reader for reader in READERS if reader.recognises(source)), None)


def classes(source: str) -> int:
    """How many classes the networks of a source have; 0 if it does not say."""
    reader = find(source)
    return reader.classes(source) if reader else 0


def kind(source: str, names: Iterable[str]) -> str:
    """The kind of network in a source with arrays of these names; "" if that is not known."""
    reader = find(source)
    return reader.kind(source) if reader and reader.kind else pix2pix.family(names)


def differences(source: str, facts: Any, model: Section) -> list[str]:
    """The settings that the networks of a source need and the config lacks; see `Reader`."""
    reader = find(source)
    return reader.differences(source, facts, model) if reader else []


def _with_suffix(*suffixes: str) -> Callable[[str], bool]:
    return lambda source: Path(source).suffix in suffixes and os.path.exists(source)


# ---------------------------------------------------------------- TensorFlow: WarpGAN


def _is_checkpoint(source: str) -> bool:
    return tf_checkpoint.find(source) is not None


def _checkpoint_arrays(source: str, net: str) -> Arrays:
    return warpgan.net(tf_checkpoint.find(source), net)


def _identities(source: str) -> int:
    return warpgan.identities(warpgan.shapes(tf_checkpoint.find(source)))


def _checkpoint_kind(source: str) -> str:
    return warpgan.identify(warpgan.shapes(tf_checkpoint.find(source)))


# ---------------------------------------------------------------- PyTorch: three families


def _torch_arrays(source: str, net: str) -> Arrays:
    tensors = guided_diffusion.state_dict(source)
    families = (family for family in (guided_diffusion, pix2pix) if family.identify(tensors))
    try:
        return trees.named_leaves(*next(families, pytorch_gan).to_trees(tensors))
    except UserError as error:  # which is about tensors, not about a file
        raise UserError(f"{source}: {error}") from error


def _torch_classes(source: str) -> int:
    """For guided-diffusion's networks: the classes it samples or a classifier distinguishes."""
    if not os.path.isfile(source):
        return 0
    tensors = guided_diffusion.state_dict(source)
    if guided_diffusion.identify(tensors) is None:
        return 0
    shapes = guided_diffusion.architecture(tensors)
    return shapes["num_classes"] or shapes.get("outputs", 0)


# ---------------------------------------------------------------- this library's .npz


def _npz_arrays(source: str, net: str) -> Arrays:
    return trees.named(npz_file.read_npz(source))


# ---------------------------------------------------------------- pickles: ProGAN


def _pickle_classes(source: str) -> int:
    return progan_file.networks(source).classes


def _pickle_differences(source: str, facts: Any, model: Section) -> list[str]:
    return progan_file.differences(progan_file.networks(source), facts, model)


READERS = (
    Reader(_is_checkpoint, _checkpoint_arrays, _identities, _checkpoint_kind),
    Reader(_with_suffix(".pth", ".pt"), _torch_arrays, _torch_classes),
    Reader(_with_suffix(".npz"), _npz_arrays),
    Reader(_with_suffix(".pkl"), progan_file.net, _pickle_classes, differences=_pickle_differences),
)
