"""The original's TensorFlow checkpoints, read without TensorFlow, as parameters of our networks.

tests/golden/warpgan_checkpoint was written by tf.compat.v1.train.Saver of TensorFlow 2.21: "ckpt-7"
holds the variables of a WarpGAN of width 2 with one residual block, 32 px and 2 identities, by the
rule of `warpgan_golden`, one slot of Adam, a step and small variables of other types; "shards",
from two devices, two variables and one that is partitioned. Its text file was given another folder.
"""

import contextlib
import json
import shutil
import struct
from pathlib import Path

import jax
import numpy as np
import pytest

from gan_jax import config as configs
from gan_jax.core.mesh import fetch
from gan_jax.errors import UserError
from gan_jax.interop import warpgan
from gan_jax.interop.formats import crc32c, sstable, tf_checkpoint
from gan_jax.models import warpgan as networks
from gan_jax.run.experiment import Experiment
from gan_jax.run.weights import restore_weights
from tests.helpers import warpgan_golden as rule
from tests.helpers.shell import ROOT

FOLDER = Path(__file__).parents[1] / "golden/warpgan_checkpoint"
CKPT = FOLDER / "ckpt-7"
TINY = dict(width=2, blocks=1, control_width=4, warp_head="flat", disc_width=2, bottleneck=4)


# checksums and tables


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0x00000000),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (b"123456789", 0xE3069283),
    ],
)
def test_checksums_of_rfc_3720(data, expected):
    assert crc32c.checksum(data) == expected


def test_a_checksum_does_not_depend_on_how_it_is_cut():
    """Against a register that takes byte by byte."""
    data = np.random.default_rng(0).integers(0, 256, 5003, dtype=np.uint8).tobytes()

    def plain(text: bytes) -> int:
        register = 0xFFFFFFFF
        for byte in text:
            register ^= byte
            for _ in range(8):
                register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
        return register ^ 0xFFFFFFFF

    for length in (1, 2, 3, 255, 256, 257, 4096, 5003):
        assert crc32c.checksum(data[:length]) == plain(data[:length]), length


def test_snappy_blocks():
    """Literal bytes, then copies with one and with two bytes of offset, one of them overlapping."""
    packed = bytes([14, 3 << 2]) + b"abcd" + bytes([1 | (4 - 4) << 2, 4])
    packed += bytes([2 | (6 - 1) << 2, 2, 0])
    assert sstable.uncompressed(packed) == b"abcdabcd" + b"cdcdcd"
    for broken in (packed[:-1], packed + b"\x00", bytes([200]) + packed[1:], b"\x05\x01\x09"):
        with pytest.raises(ValueError, match=r"."):
            sstable.uncompressed(broken)


# checkpoints


def test_every_type_is_read():
    found = tf_checkpoint.read(CKPT, lambda name: name.startswith("extra/") and "truth" not in name)
    assert {name: a.dtype.name for name, a in found.items()} == {
        "extra/brain": "bfloat16",
        "extra/double": "float64",
        "extra/half": "float16",
        "extra/int": "int32",
    }
    assert found["extra/double"].tolist() == [1.5, -2.25]
    assert found["extra/int"].tolist() == [[1, -2]]
    assert found["extra/half"].tolist() == [0.5, 3.0]
    assert found["extra/brain"].astype(float).tolist() == [1.0, -3.5]
    assert tf_checkpoint.read(CKPT, lambda name: name == "global_step")["global_step"] == 7


def test_a_type_that_is_not_read_is_named():
    with pytest.raises(UserError, match="extra/truth has dtype 10"):
        tf_checkpoint.read(CKPT)


def test_several_data_files():
    found = tf_checkpoint.read(FOLDER / "shards", lambda name: not name.startswith("sliced"))
    np.testing.assert_array_equal(found["first/a"], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(found["second/b"], np.arange(4) / 4)
    with pytest.raises(UserError, match="sliced/c is partitioned"):
        tf_checkpoint.read(FOLDER / "shards")


@pytest.mark.parametrize("source", [FOLDER, CKPT, f"{CKPT}.index", f"{CKPT}.data-00000-of-00001"])
def test_a_checkpoint_is_found_by_folder_prefix_or_file(source):
    assert tf_checkpoint.find(str(source)) == CKPT


def test_what_is_no_checkpoint_is_not_found(tmp_path):
    assert tf_checkpoint.find("") is None
    assert tf_checkpoint.find(tmp_path) is None
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "gone-3"\n')
    with pytest.raises(UserError, match="names gone-3, which is not in that folder"):
        tf_checkpoint.find(tmp_path)


def copied(folder: Path) -> Path:
    for path in FOLDER.glob("ckpt-7.*"):
        shutil.copy(path, folder)
    return folder / "ckpt-7"


def one_line(prefix: Path) -> str:
    with pytest.raises(UserError) as caught:
        tf_checkpoint.read(prefix, lambda name: name.startswith("Discriminator/conv"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_damaged_files_are_one_line(tmp_path):
    prefix = copied(tmp_path)
    index, data = Path(f"{prefix}.index"), Path(f"{prefix}.data-00000-of-00001")
    whole, numbers = index.read_bytes(), data.read_bytes()
    data.write_bytes(numbers[:100])
    assert "damaged or cut short" in one_line(prefix)
    place = tf_checkpoint.variables(prefix)["Discriminator/conv1/weights"].offset
    flipped = bytearray(numbers)
    flipped[place + 5] ^= 1
    data.write_bytes(bytes(flipped))
    assert "the checksum of Discriminator/conv1/weights is wrong" in one_line(prefix)
    data.unlink()
    assert "does not exist; a checkpoint is all files of its name" in one_line(prefix)
    data.write_bytes(numbers)
    index.write_bytes(b"something else entirely, and long enough for a footer ......")
    assert "not the index of a TensorFlow checkpoint" in one_line(prefix)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole) - 8, 60):  # any flipped bit is noticed or harmless
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        index.write_bytes(bytes(broken))
        with contextlib.suppress(UserError):
            tf_checkpoint.read(prefix, lambda name: name.startswith("Discriminator/conv"))
    for end in (0, 20, 60, len(whole) - 1):
        index.write_bytes(whole[:end])
        one_line(prefix)


def test_a_footer_that_points_nowhere(tmp_path):
    table = bytes([0, 0, 200, 1, 50]).ljust(40, b"\0") + struct.pack("<Q", sstable.MAGIC)
    Path(f"{tmp_path}/x.index").write_bytes(table)
    assert "damaged or cut short" in one_line(tmp_path / "x")


# names


def test_every_variable_of_the_original_has_its_place():
    with np.load(Path(__file__).parents[1] / "golden/warpgan/networks_32.npz") as file:
        variables = json.loads(str(file["meta"]))["variables"]
    assert len(variables) > 80
    for name, _ in variables:
        net, path = rule.place(name)
        assert warpgan.ours(name) == (net, "/".join(path))
        assert warpgan.original(net, "/".join(path)) == name
    assert warpgan.ours("Discriminator/conv1/biases/Adam") is None
    assert warpgan.ours("beta1_power") is None


def test_a_checkpoint_gives_the_networks_parameters():
    gen, disc = networks.build(networks.defaults() | TINY, 32, 2)
    x = np.zeros((1, 32, 32, 3), np.float32)
    for name, net in (("gen", gen), ("disc", disc)):
        shapes = jax.eval_shape(net.init, jax.random.key(0), x)[0]
        wanted = {
            "params/" + "/".join(k.key for k in path): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
        }
        found = warpgan.net(CKPT, name)
        assert {path: a.shape for path, a in found.items()} == wanted
        for path, array in found.items():
            original = warpgan.original(name, path.removeprefix("params/"))
            np.testing.assert_array_equal(array, rule.rule(original, array.shape, (32, 32)))
    assert warpgan.identities(warpgan.shapes(CKPT)) == 2
    assert warpgan.identify(warpgan.shapes(CKPT)) == (
        "WarpGAN with warp_head and disc_head 'flat' at 32 px and 2 identities"
    )


def test_the_trunk_of_a_classifier_has_no_heads():
    arrays = tf_checkpoint.read(CKPT, lambda name: name.startswith("Discriminator/"))
    trunk = {k: v for k, v in arrays.items() if not k.startswith("Discriminator/patch5")}
    found = warpgan.convert(trunk)
    assert found["gen"] == {}
    assert {path.split("/")[1] for path in found["disc"]} == {
        *(f"conv{n}" for n in range(1, 6)), "bottleneck",
    }  # fmt: skip
    with pytest.raises(UserError, match="no network of WarpGAN has the variables first/a"):
        warpgan.convert({"first/a": np.zeros(3)})
    with pytest.raises(UserError, match="accepted are checkpoints of WarpGAN"):
        warpgan.net(FOLDER / "shards", "gen")


# config.restore


def config():
    made = configs.load_file(str(ROOT / "configs/warpgan_drawn.py"), "tiny")
    made.model.update(TINY)
    made.run.devices = 1
    return made


def test_training_begins_with_what_matches(lines):
    made = config()
    made.restore.disc = (str(FOLDER), "conv*|bottleneck*")
    made.restore.gen = (str(CKPT), "*encoder/*")
    experiment = Experiment(made)
    fresh = experiment.fresh()
    before = fetch(fresh.state)
    after = fetch(restore_weights(experiment, fresh).state)
    text = "\n".join(lines)
    assert "config.restore.disc: 12 arrays from" in text
    assert "4 do not match" in text
    for net, chosen in (("disc", ("conv", "bottleneck")), ("gen", ("style_enc", "content_enc"))):
        arrays = warpgan.net(CKPT, net)
        old, new = before.nets[net].params, after.nets[net].params
        for path, leaf in jax.tree_util.tree_leaves_with_path(new):
            name = "/".join(k.key for k in path)
            expected = arrays[f"params/{name}"] if name.startswith(chosen) else None
            if expected is None:
                expected = old
                for key in path:
                    expected = expected[key.key]
            np.testing.assert_array_equal(leaf, expected, err_msg=name)


@pytest.mark.parametrize(
    ("net", "pair", "message"),
    [
        ("disc", (str(CKPT), "resnet*"), r"'resnet\*' matches nothing"),
        ("disc", (str(FOLDER / "shards"), "*"), "accepted are checkpoints of WarpGAN"),
        ("disc", (str(FOLDER / "ckpt-9"), "*"), "no such run or file"),
    ],
)
def test_what_cannot_be_restored_is_one_line(net, pair, message):
    made = config()
    made.restore[net] = pair
    experiment = Experiment(made)
    fresh = experiment.fresh()
    with pytest.raises(UserError, match=message) as caught:
        restore_weights(experiment, fresh)
    assert "\n" not in str(caught.value)


def test_other_widths_are_refused_with_both_shapes():
    made = config()
    made.model.disc_width = 4
    made.restore.disc = (str(CKPT), "conv*")
    experiment = Experiment(made)
    fresh = experiment.fresh()
    with pytest.raises(UserError, match=r"conv1/kernel is \(4, 4, 3, 2\) there") as caught:
        restore_weights(experiment, fresh)
    assert "\n" not in str(caught.value)
