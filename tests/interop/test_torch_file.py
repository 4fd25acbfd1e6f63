"""PyTorch files: genuine ones read, our own read back, hostile and damaged ones refused."""

import builtins
import contextlib
import os
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.interop.formats import torch_file
from tests.helpers.hostile import Call

# Written by torch.save of PyTorch 2.13, in the format of today and in the one before 1.6.
GENUINE = Path(__file__).parents[1] / "golden_torch"

BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
TENSORS = {
    "conv.weight": BASE,
    "conv.bias": BASE[1, :, 2],  # a window with stride 4
    "turned": BASE.transpose(2, 0, 1),
    "float16": np.array([0.5, -2, 65504], np.float16),
    "bfloat16": np.array([1, -3.140625, 2.0**100], ml_dtypes.bfloat16),
    "float64": np.array([1 / 3, 1e300]),
    "int8": np.array([-128, 127], np.int8),
    "int16": np.array([-300, 300], np.int16),
    "int32": np.array([-70000, 70000], np.int32),
    "num_batches_tracked": np.array(7, np.int64),
    "uint8": np.array([0, 255], np.uint8),
    "bool": np.array([True, False, True]),
    "parameter": BASE[0, 0, :2],
}


def assert_same(found: dict, expected: dict) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, strict=True, err_msg=name)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_genuine_file_is_read(form):
    content = torch_file.read(GENUINE / f"{form}.pth")
    assert_same(content.pop("state_dict"), TENSORS)
    assert content == {
        "epoch": 3,
        "lr": 2e-4,
        "name": "gén",
        "size": (2, 3),
        "dtype": "float32",
        "betas": (0.5, 0.999),
        "none": None,
    }


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_state_dict_is_found_inside_a_checkpoint(form):
    assert_same(torch_file.state_dict(GENUINE / f"{form}.pth"), TENSORS)


def test_what_is_written_is_read_back(tmp_path):
    tensors = TENSORS | {
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.float32(2),
        "big endian": np.array([1, 2], ">f4"),
        "grün": np.ones((2, 2), np.float32)[:, ::-1],
        "many": np.arange(70_000, dtype=np.int32),
    }
    torch_file.write(tmp_path / "a.pth", tensors)
    native = {
        k: np.asarray(v).astype(np.asarray(v).dtype.newbyteorder("=")) for k, v in tensors.items()
    }
    assert_same(torch_file.read(tmp_path / "a.pth"), native)


def test_writing_is_deterministic_and_leaves_nothing_beside(tmp_path):
    torch_file.write(tmp_path / "a.pth", TENSORS)
    first = (tmp_path / "a.pth").read_bytes()
    torch_file.write(tmp_path / "a.pth", TENSORS)
    assert (tmp_path / "a.pth").read_bytes() == first
    with pytest.raises(ValueError, match=r"z: PyTorch has no complex128"):
        torch_file.write(tmp_path / "a.pth", {"z": np.zeros(2, complex)})
    assert (tmp_path / "a.pth").read_bytes() == first
    assert os.listdir(tmp_path) == ["a.pth"]


# What torch.load(weights_only=True) understands, as far as tensors need it.
SAFE_OPCODES = {
    *("PROTO", "GLOBAL", "EMPTY_TUPLE", "REDUCE", "MARK", "BINUNICODE", "BININT", "LONG1"),
    *("TUPLE", "BINPERSID", "NEWFALSE", "SETITEMS", "STOP"),
}


def test_written_structure_is_what_pytorchs_safe_reader_takes(tmp_path):
    torch_file.write(tmp_path / "a.pth", TENSORS)
    names = {}
    for path in (tmp_path / "a.pth", GENUINE / "zip.pth"):
        with zipfile.ZipFile(path) as archive:
            assert archive.read(f"{path.stem}/version") == b"3\n"
            assert archive.read(f"{path.stem}/byteorder") == b"little"
            opcodes = list(pickletools.genops(archive.read(f"{path.stem}/data.pkl")))
        names[path.stem] = {arg for opcode, arg, _ in opcodes if opcode.name == "GLOBAL"}
        if path.stem == "a":
            assert {opcode.name for opcode, _, _ in opcodes} <= SAFE_OPCODES
    assert names["a"] <= names["zip"]


def test_data_parallel_prefix_is_dropped(tmp_path):
    torch_file.write(tmp_path / "a.pth", {"module.l1.0.weight": BASE, "module.l1.0.bias": BASE})
    assert list(torch_file.state_dict(tmp_path / "a.pth")) == ["l1.0.weight", "l1.0.bias"]


def archive_with(path: Path, structure: bytes, records: dict[str, bytes] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", structure)
        for name, data in (records or {}).items():
            archive.writestr(f"a/{name}", data)
    return path


HOSTILE = {
    "system": Call(os.system, "touch ran"),
    "eval": Call(builtins.eval, "open('ran', 'w')"),
    "getattr": Call(builtins.getattr, "", "join"),
    "exec": {"weight": [1, (Call(builtins.exec, "open('ran', 'w')"),)]},
    "_reconstruct": np.zeros(2),
    "scalar": np.float64(1),
    "Path": Path("x"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_pickle_asking_for_anything_else_is_refused(tmp_path, monkeypatch, name, protocol, form):
    monkeypatch.chdir(tmp_path)
    structure = pickle.dumps(HOSTILE[name], protocol)
    path = tmp_path / "bad.pth"
    if form == "zip":
        archive_with(path, structure)
    else:
        head = [pickle.dumps(x, 2) for x in (torch_file.LEGACY_MAGIC, 1001, {})]
        path.write_bytes(b"".join([*head, structure]))
    with pytest.raises(
        UserError, match=r"asks to run .*, which is not a tensor: refused"
    ) as caught:
        torch_file.read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert os.listdir(tmp_path) == ["bad.pth"]  # nothing ran


def test_hostile_first_pickle_of_a_legacy_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(HOSTILE["system"], 2))
    with pytest.raises(UserError, match="asks to run"):
        torch_file.read(tmp_path / "bad.pth")
    assert os.listdir(tmp_path) == ["bad.pth"]


@pytest.mark.parametrize(
    "structure",
    [
        # BUILD on an allowed function, on a storage class, and NEWOBJ of one
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00callK\x01sb.",
        b"\x80\x02ctorch\nFloatStorage\n}X\x05\x00\x00\x00dtypeK\x01sb.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        # a list that holds itself
        b"\x80\x02]q\x00h\x00a.",
        # an allowed function as a value, and called with nonsense
        b"\x80\x02ctorch\nSize\n.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02tR.",
        # deep nesting, an opcode that does not exist, no opcode at all
        b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
        b"\x80\x02\xff.",
        b"",
    ],
)
def test_odd_pickle_gives_one_line(tmp_path, structure):
    path = archive_with(tmp_path / "odd.pth", structure)
    with pytest.raises(UserError, match=r"odd\.pth is damaged") as caught:
        torch_file.read(path)
    assert "\n" not in str(caught.value)
    untouched = torch_file.read(GENUINE / "zip.pth")  # nothing of ours was altered
    assert_same(untouched["state_dict"], TENSORS)


def tensor_pickle(offset: int, shape: tuple, strides: tuple, numel: int = 4) -> bytes:
    """One float tensor over storage 0, with any numbers in it."""

    def whole(n: int) -> bytes:
        return pickle.dumps(n, 2)[2:-1]

    def tuple_of(values: tuple) -> bytes:
        return b"(" + b"".join(map(whole, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    body = storage + whole(numel) + b"tQ" + whole(offset) + tuple_of(shape) + tuple_of(strides)
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + body + b"\x89}tR."


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "numel"),
    [
        (1, (4,), (1,), 4),  # past the end
        (0, (2, 2), (3, 1), 4),
        (-1, (2,), (1,), 4),  # before the start
        (0, (2,), (-1,), 4),
        (0, (2, 2), (1,), 4),  # sizes without strides
        (0, (4,), (1,), 5),  # a storage longer than its record
        (0, (2**40,), (0,), 4),  # one number repeated until memory is full
        (0, (2**62, 2**62), (0, 0), 4),
    ],
)
def test_tensor_outside_its_storage_is_refused(tmp_path, offset, shape, strides, numel):
    structure = tensor_pickle(offset, shape, strides, numel)
    path = archive_with(tmp_path / "a.pth", structure, {"data/0": bytes(16)})
    with pytest.raises(UserError, match="damaged"):
        torch_file.read(path)


def test_offset_stride_repetition_and_byte_order(tmp_path):
    numbers = np.array([1, 2, 3, 4], "<f4")
    record = {"data/0": numbers.tobytes()}
    path = archive_with(tmp_path / "a.pth", tensor_pickle(1, (2, 3), (2, 0)), record)
    np.testing.assert_array_equal(torch_file.read(path), np.float32([[2, 2, 2], [4, 4, 4]]))
    record = {"data/0": numbers.astype(">f4").tobytes(), "byteorder": b"big"}
    path = archive_with(tmp_path / "b.pth", tensor_pickle(0, (4,), (1,)), record)
    np.testing.assert_array_equal(torch_file.read(path), np.float32([1, 2, 3, 4]), strict=True)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_file_cut_anywhere_gives_one_line(tmp_path, form):
    whole = (GENUINE / f"{form}.pth").read_bytes()
    path = tmp_path / "cut.pth"
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut\.pth is (damaged or cut short|not a)") as caught:
            torch_file.read(path)
        assert "\n" not in str(caught.value)


def test_flipped_bytes_never_escape_as_another_error(tmp_path):
    """Either the file still reads, or there is one UserError: whatever the damage."""
    path = tmp_path / "flipped.pth"
    random = np.random.default_rng(0)
    for form in ("zip", "legacy"):
        whole = np.frombuffer((GENUINE / f"{form}.pth").read_bytes(), np.uint8)
        for _ in range(150):
            damaged = whole.copy()
            damaged[random.integers(whole.size, size=3)] = random.integers(256, size=3)
            path.write_bytes(damaged.tobytes())
            with contextlib.suppress(UserError):
                torch_file.read(path)


def test_what_is_no_pytorch_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.pth cannot be read: No such file"):
        torch_file.read(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(UserError, match="is not a PyTorch file"):
        torch_file.read(tmp_path / "text.pth")
    (tmp_path / "other.pth").write_bytes(pickle.dumps({"a": 1}, 2))
    with pytest.raises(UserError, match="its magic number is missing"):
        torch_file.read(tmp_path / "other.pth")
    np.savez(tmp_path / "arrays.npz", a=BASE)
    with pytest.raises(UserError, match="zip archive but not a PyTorch file"):
        torch_file.read(tmp_path / "arrays.npz")


def test_file_without_a_state_dict_is_named(tmp_path):
    path = archive_with(tmp_path / "a.pth", pickle.dumps([1, 2], 2))
    with pytest.raises(UserError, match=r"holds no state dict but a list: accepted is torch\.save"):
        torch_file.state_dict(path)
    path = archive_with(tmp_path / "b.pth", pickle.dumps({"epoch": 3}, 2))
    with pytest.raises(UserError, match=r"'epoch' is a int, not a tensor"):
        torch_file.state_dict(path)


@pytest.mark.parametrize("modules", [False, True])
def test_a_memo_entry_far_ahead_is_damage_and_fills_no_memory(tmp_path, modules):
    path = tmp_path / "bomb.pt"
    structure = b"\x80\x02}r" + (2**31).to_bytes(4, "little") + b"."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bomb/data.pkl", structure)
        archive.writestr("bomb/version", "3")
    with pytest.raises(UserError, match="memo entry 2147483648 comes too early") as caught:
        torch_file.read(path, modules)
    assert "\n" not in str(caught.value)
