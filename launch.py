"""The one door for a shell.

    python launch.py --config=configs/dcgan_mnist.py --workdir=runs/a --config.optim.gen.lr=1e-4
    python launch.py --mode=sample --workdir=runs/a --seeds=0-63 --format=grid,png
    python launch.py --mode=evaluate --workdir=runs/a [--config=… --config.quality.metrics=…]
    python launch.py --mode=translate --workdir=runs/f --input=DIR --out=DIR
    python launch.py --mode=interpolate --workdir=runs/a --seeds=0-8
    python launch.py --mode=timelapse --workdir=runs/a
    python launch.py --mode=metrics --real=DIR --fake=samples.npz --metrics=fid,kid
    python launch.py --mode=sample --workdir=runs/d --sampler=ddim --steps=25 --classifier=runs/c
    python launch.py --mode=upsample --workdir=runs/u --input=DIR_OR_NPZ --out=DIR
    python launch.py --mode=invert --workdir=runs/d --input=DIR --out=DIR
    python launch.py --mode=likelihood --workdir=runs/d
    python launch.py --mode=import --from=256x256_diffusion.pt --workdir=runs/e
    python launch.py --mode=export --workdir=runs/d --out=model.pt
    python launch.py --mode=align --input=DIR --out=DIR --landmarks=FILE
    python launch.py --mode=caricature --workdir=runs/w --input=DIR --scale=0,0.5,1,2 --out=DIR
    python launch.py --config=configs/dcgan_mnist.py --dry_run

Running the same command again resumes. Exit status: 0 done, 1 something to fix, 2 a flag that is
not understood, 75 stopped by a signal with the state saved.
"""

import os
import signal
import sys

# XLA and TensorStore log to stderr what a person running a training does not need
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import app, flags, logging
from ml_collections import config_flags

from gan_jax.errors import ArgumentError, UserError
from gan_jax.modes.streams import make_lasting

MODES = (
    "train",
    "sample",
    "evaluate",
    "report",
    "translate",
    "interpolate",
    "timelapse",
    "metrics",
    "upsample",
    "invert",
    "likelihood",
    "import",
    "export",
    "align",
    "caricature",
)
WITH_DATA = ("sample", "evaluate", "interpolate", "likelihood")  # may open the data of a run
DRAWING = ("sample", "evaluate", "interpolate", "translate", "upsample", "invert", "likelihood")
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment: configs/x.py[:variant].", lock_config=True
)
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run: states, metrics, samples.")
MODE = flags.DEFINE_string("mode", "train", f"One of {', '.join(MODES)}.")
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print config, parameters, stages and bytes, and exit."
)
COMPILE = flags.DEFINE_bool("compile", False, "With --dry_run: XLA's memory analysis of a step.")
SEEDS = flags.DEFINE_string(
    "seeds",
    "0-63",
    "sample: which images, such as 0-63 or 1,5,8-11; interpolate: the cells; translate: the first "
    "one's.",
)
CLASSES = flags.DEFINE_string(
    "classes",
    "",
    "Of sample and the like: classes by name or number, such as cat,dog or 3-5, cycled over the "
    "images; empty: by the seed.",
)
INPUT = flags.DEFINE_string(
    "input",
    "",
    "translate, upsample, invert, align, caricature: folder or .zip of images; some "
    "also an .npz of them or one image.",
)
FROM = flags.DEFINE_string("from", "", "import: a .pt file in guided-diffusion's names.")
SAMPLER = flags.DEFINE_string(
    "sampler", None, "Diffusion: ancestral, ddim, dpm++ or heun; empty: as config.sampling says."
)
STEPS = flags.DEFINE_string(
    "steps", None, 'Diffusion: a number of steps, or of a chain also "ddim25", "90,60,60,20,20".'
)
ETA = flags.DEFINE_float("eta", None, "Diffusion: noise of ddim's steps, 0 to 1.")
GUIDANCE = flags.DEFINE_float(
    "guidance", None, "Diffusion: scale of guidance by the class alone; 1: none."
)
SAMPLING = flags.DEFINE_string(
    "sampling", "", "Diffusion: more keys of config.sampling, such as clip=dynamic,churn=40."
)
CLASSIFIER_SCALE = flags.DEFINE_float(
    "classifier_scale", None, "Diffusion: scale of guidance by the classifier."
)
LAYOUT = flags.DEFINE_string(
    "layout", "auto", "translate: single, side_by_side (input and target), or auto, by the shape."
)
OUT = flags.DEFINE_string(
    "out",
    "",
    "sample, translate, upsample, invert, align, caricature, likelihood: folder for files; "
    "interpolate, timelapse: a .webp or a folder for it; report: the page; metrics: a JSON file; "
    "export: a .pt file.",
)
FORMAT = flags.DEFINE_string("format", "grid", "sample: grid, png, npz, adm, separated by commas.")
STATE = flags.DEFINE_string(
    "state", "newest", "All modes that read a run's states: newest, best, a step."
)
WEIGHTS = flags.DEFINE_string(
    "weights", "", "sample, interpolate, timelapse: ema or raw; empty: ema where there is one."
)
SECONDS = flags.DEFINE_float("seconds", 10.0, "interpolate, timelapse: length of the video.")
FPS = flags.DEFINE_float("fps", 30.0, "interpolate, timelapse: frames per second.")
SMOOTHING = flags.DEFINE_float(
    "smoothing", 1.0, "interpolate: seconds over which latents are smoothed; higher is slower."
)
WARP = flags.DEFINE_float(
    "warp", 1.5, "timelapse: the place in training goes as time to this power."
)
TRUNCATION = flags.DEFINE_float("truncation", 0.0, "sample: latents beyond ± this are drawn again.")
STANDING = flags.DEFINE_integer(
    "standing_stats", 0, "sample: measure batch statistics over n batches."
)
DATA = flags.DEFINE_string(
    "data",
    "",
    "sample, evaluate, interpolate, likelihood: where the run's data are now, a folder or file "
    "for config.data.path, or keys such as path=DIR,validation_path=DIR2.",
)
REAL = flags.DEFINE_string(
    "real", "", "metrics: folder, .zip, .npz[:ARRAY], tfds:NAME[:SPLIT], or an .npz of statistics."
)
FAKE = flags.DEFINE_string("fake", "", "metrics: generated images, named as those of --real.")
METRICS = flags.DEFINE_string(
    "metrics",
    "fid",
    "metrics: what to measure, separated by commas; see docs/metrics.md.",
)
INCEPTION = flags.DEFINE_string(
    "inception",
    "",
    "metrics: weights of the Inception network; empty: genuine ones named before.",
)
LPIPS = flags.DEFINE_string(
    "lpips", "", "metrics: weights of LPIPS; empty: genuine ones named before."
)
CLASSIFIER = flags.DEFINE_string(
    "classifier",
    "",
    "metrics: the run of a classifier that judges. Diffusion: the run or the .pt file of a noisy "
    "classifier that guides.",
)
RESIZE = flags.DEFINE_string(
    "resize", "tf1", "metrics: how images come to Inception's size: tf1, clean, bilinear."
)
COUNT = flags.DEFINE_integer(
    "count", 0, "metrics, likelihood: at most so many images of each set; 0: all."
)
DEEP_BITS = flags.DEFINE_integer(
    "deep_bits", 16, "metrics: how many bits grey images of 16 bits a pixel use, 9 to 16."
)
FEW = flags.DEFINE_bool(
    "few", False, "metrics: a Frechet distance of fewer images than features, marked as biased."
)
SEED = flags.DEFINE_integer(
    "seed",
    2020,
    "metrics: of random subsets, orders and directions; caricature: of the first random style.",
)
KID_SUBSETS = flags.DEFINE_integer("kid_subsets", 100, "metrics: random subsets that KID averages.")
KID_SUBSET_SIZE = flags.DEFINE_integer("kid_subset_size", 1000, "metrics: images in each, at most.")
SPLITS = flags.DEFINE_integer("splits", 10, "metrics: parts of the Inception Score.")
SAVE_STATS = flags.DEFINE_string(
    "save_stats", "", "metrics: an .npz for what the metrics need of the real images."
)
NUM_STYLES = flags.DEFINE_integer("num_styles", 5, "caricature: random styles of each photo.")
SCALE = flags.DEFINE_string(
    "scale", "1", "caricature: factors of the warp, such as 0,0.5,1,2; 0: texture only."
)
STYLE_FROM = flags.DEFINE_string("style_from", "", "caricature: an image whose style is taken too.")
FREE_SIZE = flags.DEFINE_bool(
    "free_size", False, "caricature: take aligned faces of any size as they are."
)
LANDMARKS = flags.DEFINE_string(
    "landmarks", "", "align, caricature: file of lines with a path and five points x y."
)
DETECTOR = flags.DEFINE_string(
    "detector", "", "align, caricature: MTCNN's weights, a folder of .pt files or an .npz."
)
FACES = flags.DEFINE_string(
    "faces", "largest", "align, caricature: which of several faces: largest, central or all."
)
SIZE = flags.DEFINE_integer("size", 256, "align: side of the aligned faces in pixels.")
FACE_SCALE = flags.DEFINE_float(
    "face_scale", 0.7, "align: size of the face in its picture, 0.7 as in WarpGAN."
)
PLATFORM = flags.DEFINE_enum(
    "platform", "", ["", "cpu", "cuda", "tpu"], "Where to compute; empty: the best there is."
)
PREALLOCATE = flags.DEFINE_bool(
    "preallocate", True, "GPU: take most of the memory at once; false grows it as needed."
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the other hosts of a TPU pod or cluster before anything else."
)
CACHE = flags.DEFINE_string(
    "compilation_cache", "", "Folder where compiled steps are kept between runs."
)
PATHS = (  # flags that name a place: ~ is the home folder in them
    WORKDIR, INPUT, FROM, OUT, REAL, FAKE, INCEPTION, LPIPS, CLASSIFIER, SAVE_STATS, STYLE_FROM,
    LANDMARKS, DETECTOR, CACHE, DATA,
)  # fmt: skip


def parse(argv: list[str]) -> list[str]:
    """Flags, with one line and status 2 for what is not understood."""
    argv = with_home(argv)
    path = config_path(argv)[0]
    if path and not os.path.isfile(path):
        fail(f"--config={path}: no such file; configs/ holds those that come with gan_jax", 2)
    try:
        rest = flags.FLAGS(argv)
        for flag in PATHS:
            flags.FLAGS[flag.name].value = os.path.expanduser(flag.value)
        if CONFIG.value is not None:
            _ = CONFIG.value.system  # a file that could not be loaded says so on first use
        return rest
    except SystemExit:  # --help and its kin have printed what was asked for
        sys.exit(0)
    except flags.Error as error:
        fail(str(error), 2)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        # ml_collections raises these for unknown keys and wrong types of --config.x=y
        fail(unknown_key(argv) or f"--config: {error.args[0] if error.args else error}", 2)
    except (OSError, ImportError, SyntaxError) as error:
        fail(f"--config cannot be read: {error}", 2)
    except UserError as error:
        fail(f"--config: {error}", 2)


def with_home(argv: list[str]) -> list[str]:
    """The arguments with ~ in --config replaced, which is read before all flags are."""
    found = list(argv)
    for i, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            if equals:
                found[i] = f"{name}={os.path.expanduser(value)}"
            elif i + 1 < len(argv):
                found[i + 1] = os.path.expanduser(argv[i + 1])
    return found


def config_path(argv: list[str]) -> tuple[str, str]:
    """File and variant of --config=FILE:variant."""
    chosen = [a.split("=", 1)[1] for a in argv if a.lstrip("-").startswith("config=")]
    path, _, variant = chosen[-1].partition(":") if chosen else ("", "", "")
    return path, variant


def unknown_key(argv: list[str]) -> str:
    """What to say of the first --config.x=y whose key the config does not have; "" if all are."""
    from gan_jax import config as configs

    path, variant = config_path(argv)
    if not path:
        return ""
    config = configs.load_file(path, variant)
    for argument in argv:
        name = argument.lstrip("-").split("=")[0].removeprefix("no")
        if not name.startswith("config."):
            continue
        section, known = config, "config"
        for part in name.split(".")[1:]:
            keys = list(section) if hasattr(section, "keys") else []
            if part not in keys:
                return f"--{name}: {known} has no {part!r}; accepted are {', '.join(sorted(keys))}"
            section, known = section[part], f"{known}.{part}"
    return ""


def fail(message: str, status: int) -> None:
    """One line on stderr, and out."""
    line = " ".join(message.split())
    print(f"error: {line}", file=sys.stderr, flush=True)
    sys.exit(status)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        fail(f"unexpected argument {argv[1]!r}; flags begin with --", 2)
    logging.set_verbosity(logging.ERROR)
    # before and after the training loop, which has a handler of its own
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = run()
    except ArgumentError as error:
        fail(f"--{error}" if error.name in flags.FLAGS else str(error), 1)
    except UserError as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        print("stopped outside training: nothing is lost, run the same command again", flush=True)
        os._exit(75)  # without the teardown of a compiler that was interrupted
    sys.exit(status)


def run() -> int:
    """Does what --mode asks; returns the exit status."""
    # read when the first device is opened, so it is not too late here
    if not PREALLOCATE.value:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax

    open_devices(jax)
    from gan_jax import config as configs
    from gan_jax import training
    from gan_jax.modes import import_run, interpolate, likelihood, sample, translate
    from gan_jax.run import sampler_settings

    check_mode()
    if CONFIG.value is not None:
        configs.prepare(CONFIG.value)
    places = configs.places(DATA.value)
    if MODE.value == "train":
        if CONFIG.value is None:
            raise UserError(
                "--config is missing: name an experiment, such as configs/dcgan_mnist.py"
            )
        if DRY_RUN.value:
            sample.dry_run(CONFIG.value, COMPILE.value)
            return 0
        return training.train_status(CONFIG.value, WORKDIR.value)
    changes = {
        "sampler": SAMPLER.value, "steps": STEPS.value, "eta": ETA.value,
        "guidance": GUIDANCE.value, "progress": WEIGHTS.value or "ema",
        **sampler_settings.parse(SAMPLING.value),
    }  # fmt: skip
    adjust = lambda model: sampler_settings.adjusted(  # noqa: E731
        model, changes, CLASSIFIER.value, CLASSIFIER_SCALE.value
    )
    folders = {"translate": "translated", "upsample": "upsampled", "invert": "inverted"}
    if MODE.value in folders:
        translate.run(
            MODE.value, INPUT.value, OUT.value or os.path.join(WORKDIR.value, folders[MODE.value]),
            WORKDIR.value, None if WORKDIR.value else CONFIG.value, STATE.value, WEIGHTS.value,
            LAYOUT.value, (sample.numbers(SEEDS.value, "--seeds") or [0])[0],
            configs.words(CLASSES.value), adjust=adjust,
        )  # fmt: skip
        return 0
    if MODE.value == "align":
        from gan_jax.modes import align

        align.run(
            INPUT.value, OUT.value, LANDMARKS.value, DETECTOR.value, SIZE.value, FACE_SCALE.value,
            FACES.value,
        )  # fmt: skip
        return 0
    if MODE.value == "import":
        import_run.import_file(FROM.value, WORKDIR.value, CONFIG.value)
        return 0
    if MODE.value == "metrics":
        from gan_jax.evaluation import comparison

        comparison.run(
            REAL.value, FAKE.value, configs.words(METRICS.value),
            file=INCEPTION.value, resize=RESIZE.value, classifier=CLASSIFIER.value,
            lpips=LPIPS.value, count=COUNT.value, deep_bits=DEEP_BITS.value,
            settings=comparison.Settings(
                SEED.value, KID_SUBSETS.value, KID_SUBSET_SIZE.value, SPLITS.value, FEW.value
            ),
            save_stats=SAVE_STATS.value, out=OUT.value,
        )  # fmt: skip
        return 0
    untrained = None if WORKDIR.value else CONFIG.value  # weights come from its `restore`
    if MODE.value == "sample":
        sample.sample(
            WORKDIR.value,
            OUT.value or os.path.join(WORKDIR.value, "sampled"),
            sample.numbers(SEEDS.value, "--seeds"),
            configs.words(CLASSES.value),
            configs.words(FORMAT.value),
            STATE.value,
            WEIGHTS.value,
            TRUNCATION.value,
            STANDING.value,
            untrained,
            adjust=adjust,
            places=places,
        )
        return 0
    if MODE.value == "interpolate":
        interpolate.interpolate(
            WORKDIR.value, OUT.value or os.path.join(WORKDIR.value, "interpolation.webp"),
            sample.numbers(SEEDS.value if flags.FLAGS["seeds"].present else "0-8", "--seeds"),
            configs.words(CLASSES.value), STATE.value, WEIGHTS.value,
            SECONDS.value, FPS.value, SMOOTHING.value, config=untrained, adjust=adjust,
            places=places,
        )  # fmt: skip
        return 0
    if not WORKDIR.value:
        raise UserError(f"--workdir is missing: --mode={MODE.value} needs the folder of a run")
    if MODE.value == "timelapse":
        interpolate.timelapse(
            WORKDIR.value, OUT.value or WORKDIR.value, SECONDS.value, FPS.value, WARP.value,
            WEIGHTS.value,
        )  # fmt: skip
    elif MODE.value == "caricature":
        from gan_jax.modes import caricature

        caricature.run(
            WORKDIR.value, INPUT.value, OUT.value or os.path.join(WORKDIR.value, "caricatures"),
            NUM_STYLES.value, _factors(SCALE.value), STYLE_FROM.value, SEED.value,
            LANDMARKS.value, DETECTOR.value, FACES.value, FREE_SIZE.value, STATE.value,
        )  # fmt: skip
    elif MODE.value == "likelihood":
        likelihood.run(
            WORKDIR.value, OUT.value or os.path.join(WORKDIR.value, "likelihood"), STATE.value,
            COUNT.value, CONFIG.value, adjust=adjust, places=places,
        )  # fmt: skip
    elif MODE.value == "export":
        target = OUT.value or os.path.join(WORKDIR.value, "model.pt")
        import_run.export_file(WORKDIR.value, target, STATE.value, WEIGHTS.value)
    elif MODE.value == "evaluate":
        training.evaluate(
            WORKDIR.value, STATE.value, config=CONFIG.value, adjust=adjust, places=places
        )
    else:
        from gan_jax.report import page

        target = OUT.value or os.path.join(WORKDIR.value, "report.html")
        page.page(WORKDIR.value, target)
        print(target)
    return 0


def open_devices(jax) -> None:
    """Joins the cluster, chooses where to compute, and finds that it is there."""
    if PLATFORM.value:
        jax.config.update("jax_platforms", PLATFORM.value)
    if DISTRIBUTED.value:  # before any device is asked for
        try:
            jax.distributed.initialize()  # addresses come from the environment
        except (ValueError, RuntimeError) as error:
            raise UserError(f"--distributed: no cluster found here ({error})") from None
    if CACHE.value:
        jax.config.update("jax_compilation_cache_dir", CACHE.value)
    if not jax.config.jax_platforms:
        return
    named = f"--platform={PLATFORM.value}"
    if not PLATFORM.value:
        named = f"JAX_PLATFORMS={jax.config.jax_platforms} in the environment"
    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        raise UserError(
            f"{named}: jax finds no such device here; install gan_jax[cuda] or gan_jax[tpu], or "
            "choose cpu"
        ) from None


def check_mode() -> None:
    """UserError for a mode that does not exist, and for flags that it would not look at."""
    if MODE.value not in MODES:
        raise UserError(f"--mode={MODE.value}: accepted are {', '.join(MODES)}")
    if MODE.value not in DRAWING:
        for name in ("sampler", "steps", "eta", "guidance", "sampling", "classifier_scale"):
            if flags.FLAGS[name].present:
                raise UserError(
                    f"--{name} says how images are drawn; --mode={MODE.value} takes it from "
                    "config.sampling, and the length of training from config.run.steps"
                )
    if DATA.value and MODE.value not in WITH_DATA:
        instead = "--config.data.path names them" if MODE.value == "train" else "it opens none"
        raise UserError(
            f"--data says where the data of a trained run are, for --mode={', '.join(WITH_DATA)}; "
            f"with --mode={MODE.value} leave it out: {instead}"
        )
    if DATA.value and not WORKDIR.value:
        raise UserError("--data says where the data of a run are: name the run by --workdir too")


def _factors(text: str) -> list[float]:
    """Numbers separated by commas, as of --scale."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--scale={text}: give numbers separated by commas, such as 0,0.5,1,2"
        ) from None


if __name__ == "__main__":
    make_lasting()
    app.run(main, flags_parser=parse)
