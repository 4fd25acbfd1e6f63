"""The section `config.data`: its defaults, and its checked form, `Options`."""

from dataclasses import dataclass, fields, replace
from typing import Any

from gan_jax.data import alignment, preprocess
from gan_jax.errors import UserError, at_least, one_of, within


@dataclass(frozen=True)
class Options:
    """The section `config.data`. Every value is a string, number or bool, never None or a list."""

    source: str = "digits"  # digits | idx | npz | folder | shards | tfds | synthetic | drawn_faces
    # folder: a directory, .zip or .tar; npz: the file; idx, shards: the directory; tfds: data_dir
    path: str = ""
    name: str = ""  # tfds: the data set's name
    train_split: str = "train"  # tfds: a split; folder: a sub-folder, read when both are named
    validation_split: str = ""  # "": the source's own, else a fraction; "fraction": always that
    validation_path: str = ""  # folder: a second directory or .zip, all of it for validation
    validation_fraction: float = 0.1  # of the images, if no key above decides
    split_seed: int = 0  # of the permutation from which the fraction is taken
    resolution: int = 28  # side of the square images delivered, in pixels
    channels: str = "as_is"  # grey | rgb | as_is: grey if all images are. Alpha is dropped
    resize: str = "none"  # none | crop | random_crop | squash | jitter | plain_crop
    resize_filter: str = "bicubic"  # of squash, jitter: bicubic | bilinear | lanczos | box
    load_resolution: int = 286  # jitter: squashed to this side, then a random crop
    # pixels added on each of the four sides, before anything else; the bundled digits of 28 px
    # get, where this is 0 and `resize` is none, as many as a larger `resolution` needs
    pad: int = 0
    pad_value: int = 0  # 0..255
    flip: bool = False  # left-right with probability 1/2, training images only
    labels: str = "auto"  # none | auto | folder | prefix | json
    # how folders and zips are read: auto: as in docs/data.md; first: as in the first revision of
    # gan_jax, for runs that began with it: three formats, splits of exact names, text classes
    reading: str = "auto"
    deep_bits: int = 16  # of grey files with 16 bits a pixel: how many of them are used, 9 to 16
    # pairs of an input and a target: none | side_by_side | folders | colorize | inpaint | upscale
    # | identities: a photo and a caricature of one person
    pairs: str = "none"
    direction: str = "a_to_b"  # | b_to_a; side_by_side: A is the left half; folders: `path` holds A
    path_b: str = ""  # folders: the B of every A, under the same name
    validation_path_b: str = ""  # folders: the B of validation_path
    input_channels: str = "same"  # of pairs: as the target's | grey | rgb
    factor: int = 4  # upscale: the input's side is resolution / factor
    on_error: str = "raise"  # raise | skip, for images that cannot be read
    limit: int = 0  # use only the first n training examples; 0: all
    cache_mb: int = 1024  # decoded images are kept in memory if they fit
    synthetic_size: int = 256  # training images of the synthetic source
    synthetic_classes: int = 10
    # identities: a file of lines `path[ label][ photo|caricature]`, paths from config.data.path
    train_list: str = ""
    validation_list: str = ""
    preprocess_train: str = ""  # identities: named operations, e.g. "random_flip; random_shift 8"
    preprocess_validation: str = ""
    face_scale: float = alignment.SCALE  # identities: the scale at which their faces were aligned
    identities: int = 100  # of drawn_faces, like all keys that follow
    validation_identities: int = 20
    photos: int = 6  # of each identity
    caricatures: int = 6
    exaggeration: float = 1.0


# the options that name a file or folder
PLACES = ("path", "path_b", "validation_path", "validation_path_b", "train_list", "validation_list")
NEEDS = {"idx": "path", "npz": "path", "folder": "path", "shards": "path", "tfds": "name"}
DIGITS = 28  # side of the bundled digits, in pixels
ACCEPTED = {
    "source": ("digits", "idx", "npz", "folder", "shards", "tfds", "synthetic", "drawn_faces"),
    "channels": ("grey", "rgb", "as_is"),
    "resize": ("none", "crop", "random_crop", "squash", "jitter", "plain_crop"),
    "resize_filter": ("bicubic", "bilinear", "lanczos", "box"),
    "labels": ("none", "auto", "folder", "prefix", "json"),
    "reading": ("auto", "first"),
    "on_error": ("raise", "skip"),
    "pairs": ("none", "side_by_side", "folders", "colorize", "inpaint", "upscale", "identities"),
    "direction": ("a_to_b", "b_to_a"),
    "input_channels": ("same", "grey", "rgb"),
}
MADE = ("colorize", "inpaint", "upscale")  # pairs whose input is made from the target
RANDOM = ("random_crop", "jitter", "plain_crop")  # ways to resize with a random crop in training
LOWEST = {
    "resolution": 1,
    "pad": 0,
    "limit": 0,
    "cache_mb": 0,
    "split_seed": 0,
    "synthetic_size": 1,
    "synthetic_classes": 1,
    "identities": 1,
    "validation_identities": 0,
    "photos": 1,
    "caricatures": 1,
    "exaggeration": 0.0,
}


def defaults() -> dict[str, Any]:
    """The section `config.data` with its default values, as a new plain dict."""
    return {field.name: field.default for field in fields(Options)}


def read(config: Any) -> Options:
    """Reads `config.data` (any object with these attributes) and checks every value.

    Raises UserError for a value of the wrong type, a word that is not accepted, a number out of
    range, and a key that has no meaning for the source.
    """
    values = {}
    for field in fields(Options):
        value = getattr(config, field.name)
        if field.type is float and type(value) is int:
            value = float(value)
        if type(value) is not field.type:
            raise UserError(
                f"config.data.{field.name}={value!r}: a {field.type.__name__} is expected, e.g. "
                f"{field.default!r}"
            )
        values[field.name] = value
    options = Options(**values)
    _check(options)
    return _bordered(options)


def _bordered(options: Options) -> Options:
    """The options with the border that the bundled digits need to be `resolution` pixels wide.

    It is added only if `pad` and `resize` do not say otherwise and both sides can be alike.
    """
    border, odd = divmod(options.resolution - DIGITS, 2)
    asked = options.pad or options.resize != "none"
    if options.source != "digits" or asked or border <= 0 or odd:
        return options
    return replace(options, pad=border)


def _check(options: Options) -> None:
    for key, accepted in ACCEPTED.items():
        one_of(f"config.data.{key}", getattr(options, key), accepted)
    for key, lowest in LOWEST.items():
        at_least(f"config.data.{key}", getattr(options, key), lowest)
    within("config.data.deep_bits", options.deep_bits, 9, 16)
    within("config.data.pad_value", options.pad_value, 0, 255)
    if not 0.0 <= options.validation_fraction < 1.0:
        raise UserError(
            f"config.data.validation_fraction={options.validation_fraction}: must be in [0, 1), "
            "e.g. 0.1 keeps every tenth image for validation"
        )
    if not 0 < options.face_scale <= alignment.LARGEST_SCALE:
        raise UserError(
            f"config.data.face_scale={options.face_scale}: accepted are numbers above 0, to "
            f"{alignment.LARGEST_SCALE:g}"
        )
    if options.resize == "jitter" and options.load_resolution < options.resolution:
        raise UserError(
            f"config.data.load_resolution={options.load_resolution}: smaller than the crop, "
            f"config.data.resolution={options.resolution}; 286 goes with 256"
        )
    _check_source(options)
    _check_folders(options)
    _check_pairs(options)
    if options.pairs == "identities":
        _check_identities(options)
    else:
        _check_no_identities(options)


def _check_source(options: Options) -> None:
    """Raises UserError for keys that the source lacks or cannot have."""
    needs = NEEDS.get(options.source)
    if needs and not getattr(options, needs):
        raise UserError(
            f"config.data.{needs} is empty: config.data.source={options.source} needs it; set "
            f"config.data.{needs}, or config.data.source=digits for the digits that come with "
            "gan_jax"
        )
    if options.labels in ("folder", "prefix", "json") and options.source != "folder":
        raise UserError(
            f"config.data.labels={options.labels} needs config.data.source=folder, not "
            f"{options.source}; use config.data.labels=auto for the source's own labels, or none"
        )
    if options.validation_path and options.source != "folder":
        raise UserError(
            "config.data.validation_path is read with config.data.source=folder only, not "
            f"{options.source}; leave it empty and use config.data.validation_split or "
            "config.data.validation_fraction"
        )


def _check_folders(options: Options) -> None:
    """Raises UserError for keys that pairs from two folders lack, or that only they can have."""
    folders = options.pairs == "folders"
    if folders and options.source != "folder":
        raise UserError(
            f"config.data.pairs=folders needs config.data.source=folder, not {options.source}"
        )
    if folders and not options.path_b:
        raise UserError(
            "config.data.path_b is empty: config.data.pairs=folders takes A from config.data.path "
            "and B from there"
        )
    for key in ("path_b", "validation_path_b"):
        if getattr(options, key) and not folders:
            raise UserError(
                f"config.data.{key} is read with config.data.pairs=folders only, not "
                f"{options.pairs}; leave it empty"
            )
    if folders and bool(options.validation_path) != bool(options.validation_path_b):
        raise UserError(
            "config.data.validation_path and config.data.validation_path_b go together: set both, "
            "or neither"
        )


def _check_pairs(options: Options) -> None:
    """Raises UserError for values of keys about which the kind of pairs leaves no choice."""
    if options.pairs in (*MADE, "identities") and options.direction != "a_to_b":
        made = "makes the input from the target"
        how = "has photos as inputs" if options.pairs == "identities" else made
        raise UserError(
            f"config.data.direction={options.direction}: config.data.pairs={options.pairs} "
            f"{how} and has no other direction; leave it at a_to_b"
        )
    if options.pairs == "colorize" and options.channels == "grey":
        raise UserError(
            "config.data.channels=grey: config.data.pairs=colorize learns colours; set it to rgb"
        )
    if options.input_channels != "same" and options.pairs in ("none", "identities", *MADE):
        raise UserError(
            f"config.data.input_channels={options.input_channels}: config.data.pairs="
            f"{options.pairs} leaves no choice; set it to same"
        )
    if options.pairs == "upscale":
        _check_factor(options)


def _check_no_identities(options: Options) -> None:
    """Raises UserError for keys of pairs=identities if pairs is something else."""
    keys = ("train_list", "validation_list", "preprocess_train", "preprocess_validation")
    for key in keys:
        if getattr(options, key):
            raise UserError(
                f"config.data.{key}={getattr(options, key)!r} is read with config.data.pairs="
                f"identities only, not {options.pairs}; leave it empty"
            )
    if options.face_scale != alignment.SCALE:
        raise UserError(
            f"config.data.face_scale={options.face_scale} is read with config.data.pairs="
            f"identities only, not {options.pairs}; leave it at {alignment.SCALE}"
        )


def _check_identities(options: Options) -> None:
    if options.source not in ("folder", "drawn_faces"):
        raise UserError(
            "config.data.pairs=identities needs config.data.source=folder or drawn_faces, not "
            f"{options.source}"
        )
    if options.labels not in ("auto", "none"):
        raise UserError(
            f"config.data.labels={options.labels}: the classes of config.data.pairs=identities are "
            "the identities; leave it at auto"
        )
    _check_lists(options)
    for key in ("preprocess_train", "preprocess_validation"):
        text = getattr(options, key)
        if text:
            training = key == "preprocess_train"
            preprocess.delivered(text, f"config.data.{key}", options.resolution, training)


def _check_lists(options: Options) -> None:
    lists = [key for key in ("train_list", "validation_list") if getattr(options, key)]
    if lists and options.source != "folder":
        raise UserError(
            f"config.data.{lists[0]} is read with config.data.source=folder only, not "
            f"{options.source}; leave it empty"
        )
    if lists == ["validation_list"]:
        raise UserError("config.data.validation_list needs config.data.train_list too; set both")
    if lists and (options.validation_path or options.validation_split):
        key = "validation_path" if options.validation_path else "validation_split"
        raise UserError(
            f"config.data.{key}={getattr(options, key)} beside config.data.train_list: validation "
            "is on config.data.validation_list then, or on a fraction; leave it empty"
        )


def _check_factor(options: Options) -> None:
    side, factor = options.resolution, options.factor
    if factor >= 2 and side % factor == 0:
        return
    fitting = [str(n) for n in range(2, side + 1) if side % n == 0][:6]
    raise UserError(
        f"config.data.factor={factor}: config.data.pairs=upscale wants a factor of 2 or more that "
        f"divides config.data.resolution={side}"
        + (f", such as {', '.join(fitting)}" if fitting else "; raise the resolution")
    )
