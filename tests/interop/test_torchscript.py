"""TorchScript archives: genuine in form, hostile and damaged."""

import builtins
import os
import pickle

import numpy as np
import pytest

from gan_jax.interop import inception
from gan_jax.interop.formats import torch_file
from tests.helpers.hostile import Call
from tests.helpers.one_line import assert_refused
from tests.helpers.torchscript_files import (
    archive,
    module,
    module_archive,
    program,
    sizes,
    tensor,
    text,
    whole,
)


def test_modules_become_their_tensors_by_dotted_name(tmp_path):
    arrays = {
        "net.layers.conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
        "net.layers.conv.beta": np.float32([1, 2]),
        "net.scale": np.float32(3),
        "mean": np.float32([[4]]),
    }
    path = module_archive(tmp_path / "a.pt", arrays)
    found = torch_file.module_tensors(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    content = torch_file.read(path, modules=True)
    assert content["training"] is False
    assert content["net"]["_is_full_backward_hook"] is None


def test_attributes_of_other_kinds_are_read(tmp_path):
    """Lists of numbers have functions of their own; a class of the main script has no package."""
    numbers = pickle.EMPTY_LIST + pickle.MARK + whole(2) + whole(3) + pickle.APPENDS
    lists = {
        name: f"ctorch.jit._pickle\n{name}\n".encode() + numbers + pickle.TUPLE1 + pickle.REDUCE
        for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
    }
    weight = np.float32([5])
    inner = module(".a.b.___torch_mangle_9\nInner", {"weight": tensor(0, weight)})
    body = module("\nNet", lists | {"inner": inner})
    path = archive(tmp_path / "a.pt", program(body), [weight])
    content = torch_file.read(path, modules=True)
    assert [content[name] for name in lists] == [[2, 3]] * 4
    assert torch_file.module_tensors(path) == {"inner.weight": weight}


def test_module_that_is_held_twice_has_two_names(tmp_path):
    weight = np.float32([1, 2])
    layer = module(".a\nLayer", {"weight": tensor(0, weight)})
    twice = {"first": layer + pickle.BINPUT + b"\x00", "second": pickle.BINGET + b"\x00"}
    path = archive(tmp_path / "a.pt", program(module(".a\nNet", twice)), [weight])
    found = torch_file.module_tensors(path)
    assert sorted(found) == ["first.weight", "second.weight"]


def test_modules_are_read_only_where_asked_for(tmp_path):
    path = module_archive(tmp_path / "a.pt", {"weight": np.zeros(2, np.float32)})
    for call in (torch_file.read, torch_file.state_dict):
        assert_refused(r"asks to run __torch__\.layers\.Layer, which is not", call, path)
    plain = archive(tmp_path / "b.pt", program(sizes([1, 2])))
    assert torch_file.read(plain) == (1, 2)
    assert_refused("holds no module but a tuple", torch_file.module_tensors, plain)


def hidden(structure: bytes) -> bytes:
    """The same as an attribute of a module."""
    return program(module(".a\nNet", {"weight": structure}))


SYSTEM = {protocol: pickle.dumps(Call(os.system, "touch ran"), protocol) for protocol in (0, 2, 4)}
EVAL = pickle.dumps(Call(builtins.eval, "open('ran', 'w')"), 2)
HOSTILE = {
    **{f"system {protocol}": structure for protocol, structure in SYSTEM.items()},
    "eval": EVAL,
    "eval in a module": hidden(EVAL[2:-1]),
    "system in a module": hidden(SYSTEM[0][:-1]),
    # names that look like those of modules
    "no module": program(b"c__torch__x\nsystem\n(X\x09\x00\x00\x00touch rantR"),
    "another list": program(b"ctorch.jit._pickle\nsystem\n(X\x09\x00\x00\x00touch rantR"),
    "torch": program(b"ctorch.jit\nload\n(X\x01\x00\x00\x00xtR"),
    "line break": program(text("os\nand") + text("system\n") + pickle.STACK_GLOBAL),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_archive_that_asks_for_anything_else_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = archive(tmp_path / "bad.pt", HOSTILE[name])
    assert torch_file.is_torchscript(path)
    for call in (inception.read, torch_file.module_tensors):
        message = assert_refused(r"asks to run .*: refused, nothing was run", call, path)
        assert str(path) in message
    assert os.listdir(tmp_path) == ["bad.pt"]  # nothing ran


@pytest.mark.parametrize("name", ["os", "posix", "builtins"])
def test_module_of_a_dangerous_name_is_only_a_module(tmp_path, monkeypatch, name):
    """Below __torch__ every name stands for a class of the archive, which is never looked up."""
    monkeypatch.chdir(tmp_path)
    body = module(f".{name}\nsystem", {"weight": tensor(0, np.zeros(1))})
    path = archive(tmp_path / "a.pt", program(body), [np.zeros(1)])
    assert list(torch_file.module_tensors(path)) == ["weight"]
    called = program(f"c__torch__.{name}\nsystem\n(X\x09\x00\x00\x00touch rantR".encode())
    path = archive(tmp_path / "a.pt", called)
    assert_refused("damaged", torch_file.module_tensors, path)
    assert os.listdir(tmp_path) == ["a.pt"]


MADE = b"c__torch__.a\nNet\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ


@pytest.mark.parametrize(
    "body",
    [
        # BUILD with a list, a number, a text and the pair of dictionaries that slots have
        MADE + pickle.EMPTY_LIST + pickle.BUILD,
        MADE + whole(3) + pickle.BUILD,
        MADE + text("weight") + pickle.BUILD,
        MADE + pickle.EMPTY_DICT + pickle.EMPTY_DICT + pickle.TUPLE2 + pickle.BUILD,
        # BUILD of the class itself, the class as a value, and its creation from something
        b"c__torch__.a\nNet\n" + pickle.EMPTY_DICT + pickle.BUILD,
        b"c__torch__.a\nNet\n",
        b"c__torch__.a\nNet\n" + whole(1) + pickle.TUPLE1 + pickle.NEWOBJ,
        # attributes set one by one, appended, under a number and a tuple as name
        MADE + text("weight") + whole(1) + pickle.SETITEM,
        MADE + whole(1) + pickle.APPEND,
        MADE + b"}(" + sizes([1]) + whole(1) + b"ub",
        # a module inside itself
        MADE + b"q\x00}" + text("self") + b"h\x00sb",
        # nested deeper than anybody's
        (MADE + b"}" + text("a")) * 5000 + pickle.NONE + b"sb" * 5000,
    ],
)
def test_odd_module_gives_one_line(tmp_path, body):
    path = archive(tmp_path / "odd.pt", program(body))
    for call in (torch_file.module_tensors, inception.read):
        assert_refused(r"odd\.pt is damaged", call, path)
    # nothing of ours was altered
    good = module_archive(tmp_path / "good.pt", {"weight": np.ones(2, np.float32)})
    assert list(torch_file.module_tensors(good)) == ["weight"]


def test_module_without_attributes_is_empty(tmp_path):
    path = archive(tmp_path / "a.pt", program(MADE))
    assert torch_file.module_tensors(path) == {}
    assert_refused(r"net\.layers\.conv\.weight is missing", inception.read, path)


@pytest.mark.parametrize("leaf", [pickle.EMPTY_DICT, tensor(0, np.zeros(2))])
def test_few_bytes_cannot_stand_for_countless_names(tmp_path, leaf):
    """Each of 60 modules holds the one before it twice: 2^60 paths lead to the first."""
    body = leaf
    for depth in range(60):
        last = bytes([depth])
        body += pickle.BINPUT + last + pickle.POP + MADE + b"}("
        body += text("a") + pickle.BINGET + last + text("b") + pickle.BINGET + last + b"ub"
    path = archive(tmp_path / "a.pt", program(body), [np.zeros(2)])
    assert path.stat().st_size < 5000
    assert_refused(r"a\.pt is damaged: .* attributes", torch_file.module_tensors, path)


def test_module_tensor_outside_its_storage_is_refused(tmp_path):
    body = module(".a\nNet", {"weight": tensor(0, np.zeros(3))})
    path = archive(tmp_path / "a.pt", program(body), [np.zeros(2)])
    assert_refused("storage 0 is too short", torch_file.module_tensors, path)
