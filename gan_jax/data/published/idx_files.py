"""MNIST and Fashion-MNIST: four packed idx files in a folder, which are read as they are."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from gan_jax.data.published.description import PublishedSet, RemoteFile
from gan_jax.data.sources import idx
from gan_jax.errors import UserError

SIDE = 28


def mnist(files: tuple[RemoteFile, ...], train: int = 60_000, test: int = 10_000) -> PublishedSet:
    """MNIST in four idx files, of so many images for training and for testing."""
    return _of_four_files(
        files,
        (train, test),
        name="mnist",
        title="MNIST, 60,000 + 10,000 handwritten digits of 28x28 pixels",
        licence="CC BY-SA 3.0, Yann LeCun and Corinna Cortes",
        page="http://yann.lecun.com/exdb/mnist/",
        use="--config.data.source=idx --config.data.path={}",
    )


def fashion_mnist(
    files: tuple[RemoteFile, ...], train: int = 60_000, test: int = 10_000
) -> PublishedSet:
    """Fashion-MNIST in four idx files, of so many images for training and for testing."""
    return _of_four_files(
        files,
        (train, test),
        name="fashion_mnist",
        title="Fashion-MNIST, 60,000 + 10,000 pictures of garments of 28x28 pixels",
        licence="MIT, Zalando SE",
        page="https://github.com/zalandoresearch/fashion-mnist",
    )


def _of_four_files(
    files: tuple[RemoteFile, ...], counts: tuple[int, int], name: str, **about: str
) -> PublishedSet:
    """A set whose files are copied into a folder of its name; `counts` are those of `flaw`."""
    return PublishedSet(
        name=name,
        target=name,
        disk=sum(file.size for file in files),
        files=files,
        make=copy,
        flaw=lambda target: flaw(target, *counts),
        **about,
    )


def copy(files: Mapping[str, Path], target: Path) -> None:
    """Copies files, under the names that they are published under, into the new folder `target`."""
    target.mkdir()
    for name, path in files.items():
        shutil.copyfile(path, target / name)


def flaw(target: Path, train: int, test: int) -> str:
    """What is wrong with a folder of idx files; "" if it is whole."""
    for part, count in (("train", train), ("t10k", test)):
        try:
            found = idx.read_part(target, part)
        except UserError as error:
            return str(error)
        if found is None:
            return f"it has no file {part}-images-idx3-ubyte.gz"
        images, labels = found
        if labels is None:
            return f"it has no file {part}-labels-idx1-ubyte.gz"
        if images.shape != (count, SIDE, SIDE):
            return f"its {part} images are {list(images.shape)} and not {[count, SIDE, SIDE]}"
    return ""
