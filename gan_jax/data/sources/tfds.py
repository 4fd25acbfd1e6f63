"""Data sets prepared by tfds, read without TensorFlow."""

import io
import threading
from collections.abc import Callable

import numpy as np

from gan_jax.data.config import Options
from gan_jax.data.progress import IMAGES
from gan_jax.data.sources import decode
from gan_jax.data.sources.arrays import Opened
from gan_jax.data.sources.folders import check_distinct
from gan_jax.errors import UserError


class TfdsSource:
    """One split of a data set prepared by tfds; encoded images are decoded here."""

    work = IMAGES

    def __init__(
        self, records, image_shape: tuple[int | None, ...], title: str, bits: int = decode.DEEP_BITS
    ) -> None:
        """`bits` as config.data.deep_bits."""
        self.records, self.bits = records, bits
        self.title = title
        self.known = tuple(size or 0 for size in image_shape)
        self.last = threading.local()  # image and label of one record, read once

    def __len__(self) -> int:
        return len(self.records)

    def record(self, i: int) -> dict:
        if getattr(self.last, "number", None) != i:
            self.last.record = self.records[i]
            self.last.number = i
        return self.last.record

    def image(self, i: int) -> np.ndarray:
        image = self.record(i)["image"]
        if isinstance(image, bytes):
            return decode.decode(lambda: io.BytesIO(image), self.name(i), self.bits)
        return np.asarray(image)

    def content(self, i: int) -> bytes:
        """The file of image i; b"" if the image is not encoded."""
        image = self.record(i)["image"]
        return image if isinstance(image, bytes) else b""

    def reader(self, i: int) -> Callable[[], np.ndarray] | None:
        """A function that returns `image(i)` in any process; None if the image is not encoded."""
        image = self.record(i)["image"]
        if not isinstance(image, bytes):
            return None
        return decode.reader(image, self.name(i), self.bits)

    def label(self, i: int) -> int:
        return int(self.record(i).get("label", 0))

    def name(self, i: int) -> str:
        return f"{self.title}[{i}]"

    def shape(self, i: int) -> tuple[int, int, int]:
        image = self.record(i)["image"]
        if isinstance(image, bytes):
            return decode.shape_of(lambda: io.BytesIO(image), self.name(i))
        return image.shape


def open_tfds(options: Options) -> Opened:
    """A data set by its tfds name, which must be prepared as array_record below config.data.path.

    Splits are written as in tfds ("train[:90%]"). Nothing is downloaded, and TensorFlow is not
    needed.
    """
    if options.validation_split == options.train_split:
        check_distinct(options)
    train, names = _open_tfds_split(options, options.train_split)
    if options.validation_split in ("", "fraction"):
        return Opened(train, None, *_tfds_labels(names, options))
    validation, _ = _open_tfds_split(options, options.validation_split)
    splits = train.records.dataset_info.splits
    ranges = [
        [(f.filename, f.skip, f.skip + f.take) for f in splits[name].file_instructions]
        for name in (options.train_split, options.validation_split)
    ]
    if any(a[0] == b[0] and a[1] < b[2] and b[1] < a[2] for a in ranges[0] for b in ranges[1]):
        raise UserError(
            f"config.data.validation_split={options.validation_split} overlaps with "
            "config.data.train_split="
            f"{options.train_split}; name two splits that share no image, e.g. train[:90%] and "
            "train[90%:]"
        )
    return Opened(train, validation, *_tfds_labels(names, options))


def _tfds_labels(names: tuple[str, ...], options: Options) -> tuple[tuple[str, ...], str]:
    if options.labels == "none" or not names:
        return (), "none"
    return names, ""


def _open_tfds_split(options: Options, split: str) -> tuple[TfdsSource, tuple[str, ...]]:
    import tensorflow_datasets as tfds  # half a second, and only this source needs it

    def read(**how):
        return tfds.data_source(
            options.name, split=split, data_dir=options.path or None, download=False, **how
        )

    try:
        records = read()
        features = records.dataset_info.features
        if "image" in features and isinstance(features["image"], tfds.features.Image):
            records = read(decoders={"image": tfds.decode.SkipDecoding()})
    except Exception as error:  # tfds raises many kinds, all about what the config names
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise UserError(
            f"config.data.name={options.name}, split {split}, "
            f"data_dir={options.path or '(default)'}: "
            f"tfds cannot open it ({reason}); prepare the data set once with "
            "file_format=array_record and set config.data.path to its data_dir"
        ) from error
    features = dict(features.items())
    image = features.get("image")
    if image is None or len(image.shape) != 3 or image.np_dtype != np.uint8:
        raise UserError(
            f"config.data.name={options.name}: has the features {', '.join(features)}; a feature "
            "'image' of uint8 [H, W, C] is needed; choose another data set"
        )
    label = features.get("label")
    named = isinstance(label, tfds.features.ClassLabel)
    names = tuple(label.int2str(i) for i in range(label.num_classes)) if named else ()
    source = TfdsSource(records, image.shape, f"{options.name}/{split}", options.deep_bits)
    return source, names
