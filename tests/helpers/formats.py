"""Every format of files that gan_jax reads: the reader, small valid files, hostile ones.

A reader is called with a path and reads all that is in the file.
"""

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from gan_jax import files
from gan_jax.config import defaults, plain, typed
from gan_jax.core import writer
from gan_jax.data import alignment, identity_lists
from gan_jax.data.config import Options
from gan_jax.data.image_set import open_set
from gan_jax.data.published import archives, cifar
from gan_jax.data.sources import arrays, decode, idx, listing
from gan_jax.errors import UserError
from gan_jax.evaluation import quality
from gan_jax.interop import inception, lpips, mtcnn, progan_file, readers, statistics
from gan_jax.interop.formats import npz_file, numpy_pickle, tf_checkpoint, torch_file
from gan_jax.models import mtcnn as mtcnn_networks
from gan_jax.report import curves
from gan_jax.run import folder as run_folder
from gan_jax.run import view
from tests.helpers import (
    hostile,
    hostile_arrays,
    hostile_images,
    hostile_pickles,
    hostile_tables,
    hostile_texts,
    published_sets,
    torchscript_files,
)
from tests.helpers.torchscript_files import module_archive

TESTS = Path(__file__).parents[1]


class Format(NamedTuple):
    """file: its name; read: its reader; valid: makes small files; hostile: a table of bad ones.

    `beside` makes the other files that belong to it.
    """

    file: str
    read: Callable[[Path], Any]
    valid: Callable[[], list[bytes]]
    hostile: dict[str, hostile.Make]
    beside: Callable[[Path], None] = lambda folder: None


def saved(save: Callable[[Any], Any]) -> bytes:
    """What a function writes into a file that it is given."""
    out = io.BytesIO()
    save(out)
    return out.getvalue()


def _npz(packed: bool = False, **found: np.ndarray) -> bytes:
    save = np.savez_compressed if packed else np.savez
    return saved(lambda out: save(out, **found))


# ---------------------------------------------------------------- arrays


def _source(path: Path) -> None:
    opened = arrays.open_npz(Options(source="npz", path=str(path)))
    for source in filter(None, (opened.train, opened.validation)):
        for row in range(min(len(source), 4)):
            source.image(row)
            source.label(row)


def _set(path: Path) -> None:
    found = open_set(str(path), "--real")
    for part in found.batches(64):
        np.asarray(part[0]).sum()


def _whole_set(path: Path) -> None:
    if flaw := cifar.flaw(path, 2):
        raise UserError(f"{path}: {flaw}")


def _statistics(path: Path) -> None:
    statistics.holds_statistics(path)
    statistics.read(path)


def _images() -> list[bytes]:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (5, 4, 4, 3), np.uint8), np.arange(5)
    names = np.array(list("abcde"))
    return [
        _npz(images=images, labels=labels, class_names=names),
        _npz(True, x_train=images[..., 0], y_train=labels[:, None], x_test=images[:2, ..., 0]),
        _npz(arr_0=images, arr_1=labels.astype(">i4")),
    ]


def _moments() -> list[bytes]:
    meta = np.array(json.dumps({"n_real": 5, "networks": {}}))
    return [
        _npz(mu=np.zeros(3), sigma=np.eye(3), meta=meta),
        _npz(True, **{"features/a/b": np.ones((2, 3))}),
    ]


def _tree() -> list[bytes]:
    found = {"a/kernel": np.ones((2, 3), np.float32), "a/bias": np.zeros(3), "b": np.arange(3)}
    return [_npz(**found), _npz(True, **found)]


def _detector() -> list[bytes]:
    found = {
        f"{network}/{layer}/{leaf}": np.zeros(like.shape, np.float32)
        for network, layers in mtcnn_networks.shapes().items()
        for layer, leaves in layers.items()
        for leaf, like in leaves.items()
    }
    return [_npz(True, **found)]


# ---------------------------------------------------------------- weights


def _restored(path: Path) -> None:
    readers.classes(str(path))
    if reader := readers.find(str(path)):
        reader.arrays(str(path), "gen")


def _torch_files() -> list[bytes]:
    return [(TESTS / "golden_torch" / f"{form}.pth").read_bytes() for form in ("zip", "legacy")]


def _modules(path: Path) -> None:
    torch_file.is_torchscript(path)
    torch_file.module_tensors(path)


def _torchscript() -> list[bytes]:
    tensors = {"a.weight": np.ones((2, 3), np.float32), "a.b.bias": np.zeros(4, np.float32)}
    return [saved(lambda out: module_archive(out, tensors))]


def _pickles() -> list[bytes]:
    tree = {"params": {"a": np.ones((2, 3), np.float32), "b": np.arange(3, dtype=">i8")}}
    return [pickle.dumps(tree, protocol) for protocol in (2, 4, 5)]


def _networks() -> list[bytes]:
    """A pickle of three networks as ProGAN writes them, of variables that it does not have."""
    array = pickle.dumps(np.ones((2, 3), np.float32), 2)[2:-1]
    variables = b"](" + torchscript_files.text("4x4/Dense/weight") + array + b"\x86" + b"e"
    state = (
        b"}("
        + torchscript_files.text("version")
        + b"K\2"
        + torchscript_files.text("static_kwargs")
        + b"}"
    )
    state += torchscript_files.text("variables") + variables + b"u"
    network = b"ctfutil\nNetwork\n)\x81" + state + b"b"
    return [b"\x80\x02" + network * 3 + b"\x87."]


def _any_weights() -> list[bytes]:
    return [*_pickles(), *_torch_files(), *_tree()]


def _checkpoint(path: Path) -> None:
    found = tf_checkpoint.find(path.with_suffix(""))
    if found is None:
        raise UserError(f"{path} is no checkpoint")
    tf_checkpoint.read(found, lambda name: "truth" not in name)


def _data_files(folder: Path) -> None:
    data = (TESTS / "golden/warpgan_checkpoint/ckpt-7.data-00000-of-00001").read_bytes()
    (folder / "ckpt-7.data-00000-of-00001").write_bytes(data)


def _indices() -> list[bytes]:
    return [(TESTS / "golden/warpgan_checkpoint/ckpt-7.index").read_bytes()]


def _index_beside(folder: Path) -> None:
    (folder / "ckpt-7.index").write_bytes(_indices()[0])


def _shards() -> list[bytes]:
    return [(TESTS / "golden/warpgan_checkpoint/ckpt-7.data-00000-of-00001").read_bytes()]


# ---------------------------------------------------------------- images and lists


def _zip(path: Path) -> None:
    listing.read_label_file(listing.open_files(str(path), "--real"))
    _set(path)


def _zips() -> list[bytes]:
    image = _encoded("PNG")
    table = hostile_texts.labels(["a/x.png", 0], ["b/y.png", 1])
    return [hostile.zipped(("a/x.png", image), ("b/y.png", image), ("dataset.json", table))]


def _encoded(form: str, mode: str = "RGB") -> bytes:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).convert(mode)
    return saved(lambda out: image.save(out, form))


def _image(path: Path) -> None:
    def opened():
        return files.opened(path)

    try:
        decode.shape_of(opened, path.name)
        decode.decode(opened, path.name)
        decode.deepest(opened, path.name)
    except decode.UnreadableError as error:
        raise UserError(str(error)) from error


def _table(path: Path) -> None:
    _set(path.parent)
    listing.read_label_file(listing.open_files(str(path.parent), "--real"))


def _picture_beside(folder: Path) -> None:
    (folder / "a.png").write_bytes(hostile_images.picture())


def _part(path: Path) -> None:
    if idx.read_part(path.parent, "train") is None:
        raise UserError(f"{path}: nothing was found")


def _digits(packed: bool) -> list[bytes]:
    return [hostile_arrays.idx(3, 4, 4, data=bytes(48), packed=packed)]


def _landmarks(path: Path) -> None:
    image = np.zeros((9, 9, 3), np.uint8)
    for faces in alignment.read_landmarks(path).values():
        for points in faces:
            alignment.align(image, points, 16)
            alignment.outside(points, 9, 9)


def _faces(path: Path) -> None:
    place = listing.open_files(str(path.parent), "config.data.path")
    identity_lists.read_list(str(path), "config.data.train_list", place)


def _tar(path: Path) -> None:
    cifar.read(path, published_sets.PER_BATCH)


def _members(path: Path) -> None:
    with archives.reading(path):
        for _, _, stream in archives.zip_members(path, 2**20, 20):
            stream.read()


# ---------------------------------------------------------------- a run's folder


def _config(path: Path) -> None:
    stored = run_folder.read_config(path.parent)
    typed(stored["config"])


def _configs() -> list[bytes]:
    config = plain(defaults("gan"))
    return [json.dumps({"config": config, "data": {"resolution": 8}}).encode()]


def _rows(path: Path) -> None:
    curves.read_rows(path)
    if path.is_file():
        writer.cut_rows(path, 10)


def _drawn(path: Path) -> None:
    curves.draw(curves.read_rows(path))


def _history() -> list[bytes]:
    rows = ({"step": n, "kind": "train", "loss/gen": 1 / (n + 1)} for n in range(4))
    return ["".join(json.dumps(row) + "\n" for row in rows).encode()]


def _summary(path: Path) -> None:
    run_folder.read_summary(path.parent)
    view._read(path)


FORMATS: dict[str, Format] = {
    "npz of images": Format("a.npz", _source, _images, hostile_arrays.ARRAYS),
    "npz as a set": Format("a.npz", _set, _images, hostile_arrays.ARRAYS),
    "npz of CIFAR-10": Format("a.npz", _whole_set, _images, hostile_arrays.ARRAYS),
    "npz of weights": Format("a.npz", npz_file.read_npz, _tree, hostile_arrays.ARRAYS),
    "npz of statistics": Format("a.npz", _statistics, _moments, hostile_arrays.STATISTICS),
    "npz of MTCNN": Format("a.npz", mtcnn.read, _detector, hostile_arrays.ARRAYS),
    "npz of Inception": Format("a.npz", inception.read, _tree, hostile_arrays.ARRAYS),
    "npz to restore": Format("a.npz", _restored, _tree, hostile_arrays.ARRAYS),
    "PyTorch": Format("a.pth", torch_file.read, _torch_files, hostile_pickles.TORCH),
    "PyTorch to restore": Format("a.pt", _restored, _torch_files, hostile_pickles.TORCH_FEW),
    "TorchScript": Format("a.pt", _modules, _torchscript, hostile_pickles.TORCH_FEW),
    "Inception": Format("a.pt", inception.read, _torchscript, hostile_pickles.TORCH_FEW),
    "LPIPS": Format("a", lpips.read, _any_weights, hostile_pickles.TORCH_FEW),
    "pickle of arrays": Format("a.ckpt", numpy_pickle.read, _pickles, hostile_pickles.PICKLES),
    "ProGAN": Format("a.pkl", progan_file.networks, _networks, hostile_pickles.PICKLES),
    "TensorFlow's index": Format(
        "ckpt-7.index", _checkpoint, _indices, hostile_tables.INDICES, _data_files
    ),
    "TensorFlow's data": Format(
        "ckpt-7.data-00000-of-00001",
        lambda path: _checkpoint(path.with_name("ckpt-7.index")),
        _shards,
        {"nothing": lambda: b"", "short": lambda: bytes(10)},
        _index_beside,
    ),
    "TensorFlow's pointer": Format(
        "checkpoint",
        lambda path: tf_checkpoint.find(path.parent),
        lambda: [b'model_checkpoint_path: "ckpt-7"\n'],
        hostile_tables.POINTER,
        _index_beside,
    ),
    "zip of images": Format("a.zip", _zip, _zips, hostile_images.ZIPS),
    "dataset.json": Format(
        "dataset.json",
        _table,
        lambda: [hostile_texts.labels(["a.png", 0])],
        hostile_texts.LABELS,
        _picture_beside,
    ),
    "image": Format(
        "a.png",
        _image,
        lambda: [_encoded(form) for form in (*decode.FORMATS, "PNG")] + [_encoded("TIFF", "I;16")],
        hostile_images.IMAGES,
    ),
    "idx": Format("train-images-idx3-ubyte", _part, lambda: _digits(False), hostile_arrays.IDX),
    "packed idx": Format(
        "train-images-idx3-ubyte.gz", _part, lambda: _digits(True), hostile_arrays.PACKED_IDX
    ),
    "landmarks": Format(
        "faces.txt", _landmarks, lambda: [b"a.png 3 4 7 4 5 6 3 8 6 8\n"], hostile_texts.LANDMARKS
    ),
    "list of faces": Format(
        "list.txt",
        _faces,
        lambda: [b"a.png 0 P\n", b"a.png,1,C\n"],
        hostile_texts.FACES,
        _picture_beside,
    ),
    "tar of CIFAR-10": Format(
        "a.tar.gz",
        _tar,
        lambda: [published_sets.tar(published_sets.cifar_members())],
        hostile_images.TARS,
    ),
    "zip of a set": Format("a.zip", _members, _zips, hostile_images.ZIPS),
    "config.json": Format("config.json", _config, _configs, hostile_texts.JSON),
    "metrics.jsonl": Format("metrics.jsonl", _rows, _history, hostile_texts.JSON),
    "curves": Format("metrics.jsonl", _drawn, _history, hostile_texts.DRAWN),
    "summary.json": Format("summary.json", _summary, lambda: [b'{"step": 3}'], hostile_texts.JSON),
    "quality.json": Format(
        "quality.json",
        lambda path: quality.remember(path.parent, {"network": "a"}, write=False),
        lambda: [b'{"network": "a"}'],
        hostile_texts.JSON,
    ),
}  # fmt: skip
