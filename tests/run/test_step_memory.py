"""The memory of a step on devices that are not here: --dry_run --topology."""

import re

import jax
import pytest

from gan_jax import config as configs
from gan_jax.core import tiles
from gan_jax.errors import ArgumentError, UserError
from gan_jax.modes import parsing, train
from gan_jax.run import described_data, memory, step_memory, topology
from gan_jax.run.dry_run import forecast
from gan_jax.run.experiment import Experiment

GIB = topology.GIB
SMALL = topology.Topology("4xSMALL", "gpu", 4, GIB)


def config(name: str, **keys):
    found = configs.load_file(*name.split(":"))
    found.update_from_flattened_dict(keys)
    configs.prepare(found)
    return found


def counted(name: str, where: str, facts: str = "", **keys) -> step_memory.Forecast:
    chosen, on = config(name, **keys), topology.parse(where)
    made = step_memory.described(chosen, on, described_data.facts(chosen, facts))
    return step_memory.counted(made, on)


@pytest.mark.parametrize(
    ("name", "kind", "devices", "gib", "libtpu"),
    [
        ("v4-8", "tpu", 4, 32, "v4:2x2x1"),
        ("v4-32", "tpu", 16, 32, "v4:2x2x4"),
        ("v4-256", "tpu", 128, 32, "v4:4x4x8"),
        ("v5p-8", "tpu", 4, 95, "v5p:2x2x1"),
        ("v5e-16", "tpu", 16, 16, "v5e:4x4"),
        ("v5litepod-8", "tpu", 8, 16, "v5e:2x4"),
        ("v3-8", "tpu", 8, 16, ""),
        ("8xH100", "gpu", 8, 80, ""),
        ("8xA100-80GB", "gpu", 8, 80, ""),
        ("A100", "gpu", 1, 40, ""),
        ("1xL4", "gpu", 1, 24, ""),
        ("2xfuture9-500GB", "gpu", 2, 500, ""),
    ],
)
def test_devices_by_name(name, kind, devices, gib, libtpu):
    assert topology.parse(name) == (name, kind, devices, gib * GIB, libtpu)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("v4-7", "there is no such slice"),
        ("v4-24", "there is no such slice"),
        ("v9-8", "accepted are slices of TPUs, such as v4-32"),
        ("eight", "accepted are"),
        ("0xH100", "accepted are"),
        ("2xH101", "2xH101-24GB; did you mean H100?"),
        ("", "accepted are"),
    ],
)
def test_names_that_stand_for_no_devices(name, words):
    with pytest.raises(ArgumentError, match=re.escape(words)) as found:
        topology.parse(name)
    assert found.value.name == "topology"
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not say how many classes they have; add --facts=classes=NUMBER"),
        ("clases=3", "did you mean classes?"),
        ("classes=many", "write a whole number, as in classes=1000"),
        ("classes=3,images=0", "write a whole number"),
    ],
)
def test_facts_that_are_missing_or_wrong(text, words):
    with pytest.raises(ArgumentError, match=re.escape(words)):
        described_data.facts(config("diffusion_imagenet64"), text)


def test_facts_come_from_the_config_and_the_flag():
    found = described_data.facts(config("diffusion_imagenet64"), "classes=1000, images=1281167")
    assert found[:4] == (64, 3, 1000, 1281167)
    assert described_data.facts(config("dcgan_mnist:tiny"))[:3] == (8, 1, 4)
    upsampler = described_data.facts(config("upsampler_64_256"), "classes=1000")
    assert (upsampler.resolution, upsampler.input_channels) == (256, 3)


SYSTEMS = (
    "pix2pix_facades", "warpgan_drawn", "classifier_mnist", "mlpgan_mnist", "progan_mnist",
    "diffusion_mnist", "noisy_classifier_mnist", "upsampler_64_256",
)  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_described_set_is_as_the_data_are(name):
    """What a run of the same config finds out from its data, whatever the system."""
    chosen = config(f"{name}:tiny")
    real, said = Experiment(chosen).facts, described_data.facts(chosen)
    names = ("resolution", "channels", "num_classes", "input_channels")
    assert [getattr(said, n) for n in names] == [getattr(real, n) for n in names]


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_step_of_every_system_is_counted(name):
    """On two TPUs a step takes less than on one, and never less than its state."""
    one, two = (counted(f"{name}:tiny", where) for where in ("v5e-1", "v5e-2"))
    chosen = config(f"{name}:tiny")
    made = step_memory.described(chosen, topology.parse("v5e-1"), described_data.facts(chosen))
    last = made.last
    state = jax.eval_shape(lambda k: made.system.init(k, made.batch(last), last), jax.random.key(0))
    arrays = [*jax.tree.leaves(state), *made.batch(last).values()]
    held = sum(x.size * x.dtype.itemsize for x in arrays)
    assert counted(f"{name}:tiny", "1xL4").state == pytest.approx(held, abs=64)
    padded = sum(tiles.tiled(x.shape, x.dtype.itemsize) for x in arrays)
    assert one.state == pytest.approx(padded, abs=1024)  # with the key of the step
    assert two.total < one.total


def test_a_dry_run_for_other_devices_reads_no_data(lines):
    """The folder of the images is not there, nor are the devices."""
    chosen = config("diffusion_imagenet64", **SHALLOW)
    found = forecast(chosen, "8xH100", "classes=1000")
    assert lines[0] == "devices: 8xH100, 8 GPU devices, each with 80 GiB of memory"
    assert lines[1] == "step: the last stage, 64 px, 32 images, 4 of them on each device"
    assert lines[-1].startswith("memory: ")
    assert lines[-1].endswith(": it fits")
    assert found.total < GIB


# of the same shape as the recipes, and quickly traced
SHALLOW = {
    "batch_size": 32, "model.num_channels": 32, "model.num_res_blocks": 1,
    "model.channel_mult": (1, 2), "model.attention_resolutions": (32,), "model.remat": "none",
    "microbatches": 1,
}  # fmt: skip


def test_what_does_not_fit_is_told_what_would(lines):
    """Each line is what the same count says of the config with those keys."""
    chosen = config("diffusion_imagenet64", **SHALLOW | {"batch_size": 64})
    facts = described_data.facts(chosen, "classes=10")
    now = step_memory.counted(step_memory.described(chosen, SMALL, facts), SMALL)
    # too little for blocks computed again alone, whose count depends on jax's order of a step
    blocks = config("diffusion_imagenet64", **SHALLOW | {"batch_size": 64, "model.remat": "blocks"})
    alone = step_memory.counted(step_memory.described(blocks, SMALL, facts), SMALL)
    tight = SMALL._replace(memory=int(0.9 * alone.total))
    found = list(step_memory.changes(chosen, tight, facts, now))
    assert found[0].keys == {"model.remat": "blocks"}
    assert found[1].words().startswith("--config.model.remat=blocks --config.microbatches=")
    totals = [now.total, *(change.forecast.total for change in found)]
    assert totals == sorted(totals, reverse=True)
    assert [step_memory.fits(change.forecast, tight) for change in found][-2:] == [False, True]
    last = config("diffusion_imagenet64", **SHALLOW | {"batch_size": 64} | found[-1].keys)
    again = step_memory.counted(step_memory.described(last, tight, facts), tight)
    assert again == found[-1].forecast


def test_what_never_fits_says_so():
    chosen = config("dcgan_mnist:tiny")
    facts = described_data.facts(chosen)
    none = SMALL._replace(memory=1000)
    now = step_memory.counted(step_memory.described(chosen, none, facts), none)
    told = list(step_memory.advice(chosen, none, facts, now))
    assert told[0].startswith("with --config.mesh.fsdp=4: ")  # batch norm takes no microbatches
    assert told[1].startswith("with --config.mesh.fsdp=4 --config.batch_size=4")
    assert "it does not fit" in told[1]
    assert told[-1].startswith("nothing above makes it fit: use more devices")


@pytest.mark.parametrize(
    ("name", "keys", "smaller"),
    [
        # batch norm takes no parts
        ("dcgan_mnist:tiny", {}, {"mesh.fsdp": 4, "batch_size": 32}),
        # as many parts as hold whole groups of images
        (
            "dcgan_mnist:tiny",
            {"model.gen.name": "dense", "model.disc.batch_norm": "off",
             "model.disc.minibatch_stddev": 16},
            {"mesh.fsdp": 4, "batch_size": 32, "microbatches": 2},
        ),
        # another number of devices would not be that of config.mesh.data
        ("dcgan_mnist:tiny", {"mesh.data": 4}, {"batch_size": 32}),
    ],
)  # fmt: skip
def test_the_largest_batch_that_is_accepted_is_told(name, keys, smaller):
    """The first batch below 64 images is half of it, whatever was refused before."""
    chosen = config(name, batch_size=64, **keys)
    facts = described_data.facts(chosen)
    none = SMALL._replace(memory=1000)
    now = step_memory.counted(step_memory.described(chosen, none, facts), none)
    told = [change.keys for change in step_memory.changes(chosen, none, facts, now)]
    first = next(keys for keys in told if "batch_size" in keys)
    assert first == smaller
    assert [keys["batch_size"] for keys in told if "batch_size" in keys] == [32, 16, 8, 4]


def test_as_many_devices_as_a_run_would_use(lines):
    chosen = config("mlpgan_mnist:tiny", batch_size=12, **{"mesh.data": 2, "mesh.fsdp": 3})
    forecast(chosen, "8xH100")
    assert lines[1].endswith(" 12 images, 2 of them on each device")
    for keys, words in (
        ({"run.devices": 16}, "config.run.devices=16: there are 8 devices"),
        ({"mesh.data": 4, "mesh.fsdp": 4}, "8 devices do not make such a mesh"),
        ({"mesh.fsdp": 3}, "config.mesh.fsdp=3: 8 devices do not make"),
        ({"microbatches": 2}, "parts that do not divide by 8 devices"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            forecast(config("diffusion_mnist:tiny", **keys), "8xH100")


def test_a_split_state_takes_a_share_of_each_device():
    """All but small arrays; the weights are gathered for the step."""
    keys = SHALLOW | {"mesh.least_mb": 0.0001}
    # a TPU pads each share of arrays as small as these
    whole = counted("diffusion_imagenet64", "4xL4", "classes=10", **keys)
    split = counted("diffusion_imagenet64", "4xL4", "classes=10", **keys, **{"mesh.fsdp": 4})
    assert split.examples == whole.examples
    assert split.state == pytest.approx(whole.state / 4, rel=0.05)
    weights = whole.state / 4  # beside them their average and two moments
    assert split.weights - whole.weights == pytest.approx(weights, rel=0.05)


def test_most_of_a_gpu_has_to_be_asked_for():
    where = topology.parse("H100")
    full = step_memory.Forecast(0, 0, 70 * GIB)
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" in step_memory.verdict(full, where)
    assert step_memory.verdict(full, topology.parse("v5p-8")).endswith(": it fits")
    over = full._replace(examples=79 * GIB)
    assert step_memory.verdict(over, where).endswith(": it does not fit")


def test_a_full_memory_names_what_makes_the_same_update():
    """And what would be accepted."""
    text = memory.of_training(config("diffusion_imagenet64", **SHALLOW))
    flags = "--config.model.remat=blocks or --config.microbatches=2 or --config.mesh.fsdp=8"
    assert text.startswith(f"add {flags}, which makes the same update but for what is drawn at ")
    assert " random, or lower one of config.data." in text
    assert "--dry_run --topology=" in text
    told = {
        "dcgan_mnist:tiny": [], "pix2pix_facades:original,tiny": [], "classifier_mnist:tiny": [],
        "mlpgan_mnist:tiny": ["--config.microbatches=2"],
    }  # fmt: skip
    for name, parts in told.items():
        few, split = {"run.devices": 2}, ["--config.mesh.fsdp=2"]
        assert memory.savers(config(name, **few)) == parts + split, name
        assert memory.savers(config(name, **few, **{"mesh.data": 2})) == parts
    assert memory.savers(config("mlpgan_mnist:tiny")) == ["--config.mesh.fsdp=8"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--topology=8xH100"], "go with --dry_run"),
        (["--dry_run", "--facts=classes=3"], "--facts goes with --topology"),
        (["--dry_run", "--topology=8xH100", "--compile"], "leave out one"),
    ],
)
def test_flags_that_do_not_go_together(words, said):
    command = parsing.parse(["launch.py", "--config=dcgan_mnist:tiny", *words])
    with pytest.raises(UserError, match=said):
        train.main(command.general.config.value, "")


@pytest.mark.parametrize(
    "name", ["diffusion_imagenet256", "diffusion_imagenet512", "progan_celebahq"]
)
def test_recipes_fit_the_devices_they_are_for(name):
    """Eight GPUs of 80 GB, without a word about the share of memory that JAX may take."""
    where = topology.parse("8xA100-80GB")
    found = counted(name, where.name, "classes=1000")
    assert step_memory.verdict(found, where).endswith(": it fits")


def test_what_saves_memory_may_change_when_a_run_goes_on():
    """Runs that began before the recipes had it are continued by the same command."""
    assert all(configs.may_change(key) for key in ("model.remat", "microbatches"))
    assert not configs.may_change("model.dropout")
    for name in ("diffusion_imagenet512", "upsampler_128_512"):
        assert (config(name).model.remat, config(name).microbatches) == ("blocks", 2)
