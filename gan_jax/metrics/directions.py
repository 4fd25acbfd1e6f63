"""Whether a lower or a higher value of a metric is better."""

LOWER = (
    *("fid", "fid_64", "fid_192", "fid_768", "sfid", "kid", "kid_rbf", "fid_by_class"),
    *("fd", "kd", "kd_rbf", "fd_by_class", "swd", "l1", "lpips"),
    *("loss", "total", "reconstruction", "bits_per_dim"),
)
HIGHER = (
    *("is", "precision", "recall", "f_score", "density", "coverage", "psnr", "ssim"),
    *("class_entropy", "class_confidence", "pixel_accuracy", "class_accuracy", "class_iou"),
    *("rank1", "rank1_generated", "identity_cosine", "exaggeration/correlation"),
    *("exaggeration/correlation_centred", "accuracy", "accuracy@1", "accuracy@5"),
)
IN_PARTS = ("swd", "fid_by_class", "fd_by_class")  # with values for sides or classes, "swd/16"
ENDINGS = ("_classifier", "_strict")  # the same metric of other features, or with a stricter border


def direction(name: str) -> str:
    """What is better for a metric: "min" for lower values, "max" for higher ones, "" for neither.

    Neither is better for losses of an adversary ("val/gen"), for standard deviations, and for
    values that are to be compared with those of real images ("ms_ssim", "class_fraction/3").
    `name` is that of a value, such as "fid", "swd/16" or "val/l1".
    """
    name = name.removeprefix("val/")
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    group = name.partition("/")[0].removesuffix("_classifier")
    name = group if group in IN_PARTS else name
    return "min" if name in LOWER else "max" if name in HIGHER else ""
