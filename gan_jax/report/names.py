"""What metrics are called in words: "generator loss" for loss/gen."""

import re
from collections.abc import Sequence

NETS = {"gen": "generator", "disc": "discriminator", "unet": "U-Net", "classifier": "classifier"}
TOKENS = {  # parts of names that are not words
    **{name: name.upper() for name in ("fid", "sfid", "kid", "mse", "psnr", "ssim", "lpips")},
    **{"l1": "L1", "l2": "L2", "r1": "R1", "iou": "IoU", "ema": "EMA", "rbf": "RBF"},
    **{"vb": "variational bound", "fake": "generated", "gan": "adversarial", **NETS},
    "kimg": "thousand images",
}
NO_LOSS = ("gradient_penalty", "drift", "weight_decay")  # terms of a loss with a name of their own
WHOLE = {
    "accuracy/fake": "accuracy on generated images",
    "accuracy/real": "accuracy on real images",
    "accuracy/train": "accuracy on training images",
    "class_confidence": "confidence of the classifier",
    "class_entropy": "entropy of the classes",
    "class_iou": "intersection over union of the classes",
    "f_score": "F-score",
    "growth/fade": "fade-in of the new resolution",
    "is": "Inception Score",
    "l1": "L1 distance",
    "loss/r1": "R1 penalty",
    "ms_ssim": "MS-SSIM of generated images",
    "ms_ssim_real": "MS-SSIM of real images",
    "progress/kimg": "thousand images shown",
    "rank1": "rank-1 identification",
    "swd": "sliced Wasserstein distance",
    "time/data_wait": "share of the time waiting for data",
    "time/images_per_second": "images per second",
    "val/accuracy@1": "top-1 accuracy, validation",
    "val/accuracy@5": "top-5 accuracy, validation",
    "val/accuracy_fake": "accuracy on generated images, validation",
    "val/accuracy_real": "accuracy on real images, validation",
    "val/bits_per_dim": "bits per dimension, validation",
    "val/gan": "adversarial loss, validation",
    "val/l1": "L1 distance, validation",
    "val/l1_train_mode": "L1 distance in training mode, validation",
    "val/loss": "loss, validation",
    "val/total": "total loss, validation",
    "val/wasserstein": "Wasserstein estimate, validation",
}
# beginnings of names of scores, the longest first
BEGINNINGS = {
    "fd_by_class": "Fréchet distance by class",
    "fid_by_class": "FID by class",
    "kd_rbf": "kernel distance, RBF kernel",
    "kid_rbf": "KID, RBF kernel",
    "fd": "Fréchet distance",
    "kd": "kernel distance",
    "is": "Inception Score",
    "f_score": "F-score",
}
ENDINGS = {
    "_std": "standard deviation",
    "_classifier": "classifier features",
    "_strict": "strict",
}


def words(key: str, classes: Sequence[str] = ()) -> str:
    """The name of a metric in words; one that is not known keeps its own words.

    `classes` are the names of the data's classes, for metrics that have a value for each class.
    """
    if key in WHOLE:
        return WHOLE[key]
    group, slash, rest = key.partition("/")
    if not slash:
        return _score(key)
    if not group or not rest:
        return key
    if group == "loss":
        return _loss(rest)
    if group == "val":
        named = rest in NETS
        return f"{NETS[rest]} loss, validation" if named else f"{_plain(rest)}, validation"
    if group == "accuracy":
        return f"accuracy, {_plain(rest)}"
    noun = {"rate": "learning rate", "grad_norm": "gradient norm", "loss_scale": "loss scale"}
    if group in noun:
        return f"{_plain(rest)} {noun[group]}"
    if group == "class_fraction":
        known = rest.isdecimal() and int(rest) < len(classes)
        return f"share of class {classes[int(rest)] if known else rest}"
    if "by_class" in group:  # these have the classes' own names already
        return f"{words(group)}, {rest}"
    return f"{words(group)}, {f'{rest} px' if group == 'swd' else _plain(rest)}"


def title(key: str, classes: Sequence[str] = ()) -> str:
    """`words` with a capital letter at its start."""
    return capital(words(key, classes))


def capital(text: str) -> str:
    """A text with a capital letter at its start; a name such as U-Net or pH stays as it is."""
    return text[:1].upper() + text[1:]


def _score(key: str) -> str:
    if key in WHOLE:
        return WHOLE[key]
    for ending, meaning in ENDINGS.items():
        if key.endswith(ending) and key != ending:
            return f"{words(key.removesuffix(ending))}, {meaning}"
    for start, meaning in BEGINNINGS.items():
        if key == start:
            return meaning
    return _plain(key)


def _loss(rest: str) -> str:
    """Of "disc_real": "discriminator loss, real"; of "identity_gen": "generator loss, identity"."""
    if rest in NO_LOSS:
        return _plain(rest)
    if rest in NETS:
        return f"{NETS[rest]} loss"
    if quarter := re.fullmatch(r"t(\d+)-(\d+)", rest):
        return f"loss at t = {quarter[1]} to {quarter[2]}"
    if rest.endswith("_weighted"):
        return f"{_loss(rest.removesuffix('_weighted'))}, weighted"
    parts = rest.split("_")
    for at in (0, -1):
        if parts[at] in NETS and len(parts) > 1:
            others = parts[1:] if at == 0 else parts[:-1]
            return f"{NETS[parts[at]]} loss, {_plain('_'.join(others))}"
    return f"{_plain(rest)} loss"


def _plain(text: str) -> str:
    """A name with spaces for underscores, and its abbreviations in full."""
    parts = re.split(r"[_/]", text)
    return " ".join(TOKENS.get(part, part) for part in parts).strip() or text
