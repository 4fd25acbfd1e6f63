"""Compares any two sets of images: FID, KID and others (docs/metrics.md).

python launch.py --mode=metrics --real=DIR --fake=samples.npz --metrics=fid,kid
python launch.py --mode=metrics --real=DIR --metrics=fid --save_stats=real.npz
"""

import json

from gan_jax.modes import flags

FLAGS = flags.FlagValues()
REAL = flags.place(
    FLAGS, "real", "", "Folder, .zip, .npz[:ARRAY], tfds:NAME[:SPLIT], or an .npz of statistics."
)
FAKE = flags.place(FLAGS, "fake", "", "Generated images, named as those of --real.")
METRICS = flags.string(
    FLAGS, "metrics", "fid", "What to measure, separated by commas; see docs/metrics.md."
)
INCEPTION = flags.place(
    FLAGS, "inception", "", "Weights of the Inception network; empty: cached by an earlier use."
)
RESIZE = flags.string(
    FLAGS, "resize", "tf1", "How images are resized for Inception: tf1, clean, bilinear."
)
LPIPS = flags.place(FLAGS, "lpips", "", "Weights of LPIPS; empty: cached by an earlier use.")
FEATURE_CLASSIFIER = flags.place(
    FLAGS, "feature_classifier", "", "The run of a classifier whose features metrics compare."
)
COUNT = flags.count(FLAGS, "At most this many images of each set; 0: all.")
DEEP_BITS = flags.deep_bits(FLAGS)
FEW = flags.switch(
    FLAGS, "few", False, "Allow a Frechet distance of fewer images than features, which is biased."
)
SEED = flags.integer(
    FLAGS, "seed", 2020, "Seed of the random numbers: of subsets, orders and directions."
)
KID_SUBSETS = flags.integer(FLAGS, "kid_subsets", 100, "Random subsets that KID averages.")
KID_SUBSET_SIZE = flags.integer(FLAGS, "kid_subset_size", 1000, "Images in each, at most.")
SPLITS = flags.integer(FLAGS, "splits", 10, "Parts of the Inception Score.")
SAVE_STATS = flags.place(
    FLAGS, "save_stats", "", "An .npz for what the metrics need of the real images."
)
OUT = flags.out(FLAGS, "A JSON file for the result.")
RENAMED = {"classifier": "feature_classifier"}


def main(config, workdir: str) -> int:
    """Compares the two sets and prints a table and JSON."""
    import jax

    from gan_jax import config as configs
    from gan_jax.evaluation import comparison, table
    from gan_jax.evaluation.options import Options

    options = Options(
        seed=SEED.value,
        kid_subsets=KID_SUBSETS.value,
        kid_subset_size=KID_SUBSET_SIZE.value,
        splits=SPLITS.value,
        few=FEW.value,
        inception=INCEPTION.value,
        resize=RESIZE.value,
        feature_classifier=FEATURE_CLASSIFIER.value,
        lpips=LPIPS.value,
        count=COUNT.value,
        deep_bits=DEEP_BITS.value,
        save_stats=SAVE_STATS.value,
        out=OUT.value,
    )
    result = comparison.compare(REAL.value, FAKE.value, configs.words(METRICS.value), options)
    if result and jax.process_index() == 0:
        print(*table.lines(result), json.dumps(result), sep="\n", flush=True)
    return 0
