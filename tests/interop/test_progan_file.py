"""Network files of the original ProGAN: pickles that are read without running what they ask for."""

import contextlib
import io
import os
import pickle
import struct
import sys
import types
from types import SimpleNamespace
from typing import ClassVar

import jax
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.interop import progan, progan_file
from gan_jax.models import progan as models
from tests.helpers import golden_rule, progan_golden
from tests.helpers.hostile import Call
from tests.helpers.progan_trees import SMALL, trees, zeros
from tests.helpers.trees import assert_same

KWARGS = dict(num_channels=3, resolution=16, label_size=2, fmap_base=24, fmap_max=np.int64(6))
SOURCE = "open('ran', 'w')\n"


class Python2(pickle._Pickler):
    """Writes text and bytes as Python 2 wrote str."""

    def save_text(self, value):
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, str: save_text, bytes: save_text}


def pickled(content, protocol: int = 4, python2: bool = False) -> bytes:
    """`content` as the original pickles it; in it, `Network` dicts become tfutil's networks."""
    module = types.ModuleType("tfutil")

    class Network:
        def __init__(self, state):
            self.state = state

        def __getstate__(self):
            return self.state

    Network.__module__, Network.__qualname__ = "tfutil", "Network"
    module.Network = Network
    sys.modules["tfutil"] = module
    try:
        wrapped = [Network(part) if type(part) is dict else part for part in content]
        file = io.BytesIO()
        pickler = Python2 if python2 else pickle.Pickler
        pickler(file, protocol).dump(tuple(wrapped))
    finally:
        del sys.modules["tfutil"]
    stored = file.getvalue()
    if protocol == 2:
        stored = stored.replace(b"numpy._core", b"numpy.core")  # as numpy 1 writes
    return stored


def state(name: str, variables: dict, **kwargs) -> dict:
    """What a network's __getstate__ gives."""
    return {
        "version": 2,
        "name": name,
        "static_kwargs": {**KWARGS, **kwargs},
        "build_module_src": SOURCE,
        "build_func_name": f"{name[0]}_paper",
        "variables": [("lod", np.float32(0.25)), *variables.items()],
    }


def states(fused: bool = True) -> list[dict]:
    kwargs = {"G": dict(latent_size=5), "D": {}, "Gs": dict(latent_size=5)}
    return [
        state(name, progan.from_trees(tree, 16, fused), fused_scale=fused, **kwargs[name])
        for name, tree in trees().items()
    ]


def read(tmp_path, content: bytes) -> progan_file.Networks:
    (tmp_path / "a.pkl").write_bytes(content)
    return progan_file.networks(tmp_path / "a.pkl")


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("protocol", "python2"), [(2, False), (3, False), (4, False), (5, False), (2, True)]
)
def test_network_files_are_read(tmp_path, monkeypatch, protocol, python2, fused):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tfutil.py").write_text(SOURCE)  # whoever imports it runs this
    found = read(tmp_path, pickled(states(fused), protocol, python2))
    expected = trees()
    for tree, name in ((found.gen, "G"), (found.disc, "D"), (found.gen_ema, "Gs")):
        assert_same(tree, expected[name])
    assert (found.resolution, found.channels, found.classes) == (16, 3, 2)
    assert found.model == {**models.defaults(), **SMALL, "fused_scale": fused}
    assert type(found.model["fmap_max"]) is int
    assert "tfutil" not in sys.modules
    assert sorted(os.listdir(tmp_path)) == ["a.pkl", "tfutil.py"]  # nothing ran


@pytest.mark.parametrize("file", ["networks_r16_decay", "networks_r16_options"])
def test_networks_of_a_file_give_the_originals_images(tmp_path, file):
    meta, arrays = golden_rule.load(f"progan/{file}")
    options = meta["options"]
    wscale = options["G"].get("use_wscale", True)
    content = []
    for name, net in (("G", "G"), ("D", "D"), ("Gs", "G")):
        variables = {
            n.removeprefix(f"{net}/"): progan_golden.rule(n, shape, wscale)
            for n, shape in progan_golden.variables(meta, net)
        }
        own = {k: options[k] for k in ("label_size", "fmap_base", "fmap_max", "fused_scale")}
        content.append(state(name, variables, **own, **options[net]))
    found = read(tmp_path, pickled(content))
    facts = (found.resolution, found.channels, found.classes)
    assert facts == (16, 3, options["label_size"])
    gen, disc = models.build(SimpleNamespace(**found.model), *facts)

    @jax.jit
    def run(z, label, image):
        return (
            gen.apply(found.gen_ema, {}, z, label, 16, 0.0)[0],
            disc.apply(found.disc, {}, image, label, 16, 0.0)[0][0],
        )

    image = progan_golden.images(arrays["in/images"], 16)
    made, score = run(arrays["in/latents"], arrays["in/labels"], image)
    for value, golden in (
        (np.moveaxis(made, -1, 1), arrays["out/G_lod0"]),
        (score[:, None], arrays["out/D_scores"][0]),
    ):
        np.testing.assert_allclose(value, golden, rtol=0, atol=1e-5 * np.abs(golden).max())


def test_defaults_of_the_original_hold_where_a_file_is_silent(tmp_path):
    content = states()
    for network in content:
        network["static_kwargs"] = {}
    found = read(tmp_path, pickled(content))
    assert found.model == {**models.defaults(), "z_dim": 5, "fused_scale": True}
    # G computes the same either way, D does not
    content[0]["static_kwargs"] = content[2]["static_kwargs"] = {"fused_scale": False}
    assert read(tmp_path, pickled(content)).model["fused_scale"] is True


def test_one_network_by_the_name_of_its_leaves(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickled(states()))
    for name, tree in (("gen", trees()["Gs"]), ("disc", trees()["D"])):
        found = progan_file.net(tmp_path / "a.pkl", name)
        assert len(found) == len(jax.tree.leaves(tree))
        kernel = found["params/block8_conv0/kernel"]
        np.testing.assert_array_equal(kernel, tree["block8_conv0"]["kernel"])
    with pytest.raises(UserError, match="has no net 'unet'; accepted are gen and disc"):
        progan_file.net(tmp_path / "a.pkl", "unet")


SYSTEM = Call(os.system, "touch ran")
CLASS = b"ctfutil\nNetwork\n"
SYSTEM_NAME = rf"asks to run {os.system.__module__}\.system, which no network of ProGAN needs"


def with_state(**changes):
    """The networks of a file, the first with another state."""
    first, *rest = states()
    first = {k: v for k, v in (first | changes).items() if v is not None}
    return [first, *rest]


def with_variables(*pairs):
    return with_state(variables=[*states()[0]["variables"], *pairs])


HOSTILE = {
    "a network": ([SYSTEM, *states()[1:]], SYSTEM_NAME),
    "the state": ([types.SimpleNamespace(a=1), *states()[1:]], r"asks to run types\.SimpleName"),
    "an option": (with_state(static_kwargs={"func": SYSTEM}), SYSTEM_NAME),
    "the source": (with_state(build_module_src=SYSTEM), SYSTEM_NAME),
    "the name": (with_state(name=Call(eval, SOURCE)), r"asks to run \w+\.eval"),
    "a variable": (with_variables(("a", SYSTEM)), SYSTEM_NAME),
    "an array of objects": (with_variables(("a", np.array([SYSTEM]))), r"system|dtype 'O8'"),
    "getattr": (with_variables(("a", Call(getattr, "", "join"))), r"asks to run \w+\.getattr"),
    "a path": (with_variables(("a", pytest.Cache)), r"asks to run _pytest\.cacheprovider"),
    "complex": (with_variables(("a", np.zeros(2, complex))), "no real numbers in the variable 'a'"),
    "a list": (with_variables(("a", [1.0])), "holds a variable that is no name with an array"),
    "another key": (with_variables((1, zeros(2))), "holds a variable that is no name"),
    "a single": (with_variables(3), "holds a variable that is no name with an array"),
    "an early version": (with_state(version=1), "holds a network of another version than 2"),
    "no version": (with_state(version=None), "holds a network of another version than 2"),
    "Theano": (with_state(version=None, build_func_spec={}), "of the original's Theano version"),
    "a dict": (with_state(variables={}), "holds a network without variables"),
    "no variables": (with_state(variables=None), "holds a network without variables"),
    "two": (states()[:2], "holds a tuple and not three networks"),
    "four": ([*states(), states()[0]], "holds a tuple and not three networks"),
    "no network": ([*states()[:2], zeros(3)], "holds a bare array in place of a network"),
    "a number": ([*states()[:2], 3], "holds a int in place of a network"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_anything_else_in_a_file_is_refused(tmp_path, monkeypatch, name, protocol):
    monkeypatch.chdir(tmp_path)
    content, message = HOSTILE[name]
    with pytest.raises(UserError, match=f"({message}).*: refused, nothing was run") as caught:
        read(tmp_path, pickled(content, protocol))
    assert str(caught.value).isprintable()
    assert os.listdir(tmp_path) == ["a.pkl"]  # nothing ran


ODD_BYTES = {
    # the class that stands for the original's cannot be changed, in both forms of BUILD
    "alter the class": CLASS + b"}X\x01\x00\x00\x00aK\x01sb.",
    "alter by slots": CLASS + b"N}X\x01\x00\x00\x00aK\x01s\x86b.",
    "call with arguments": CLASS + b"K\x01\x85R.",
    "new with arguments": CLASS + b"K\x01\x85\x81.",
    "no dict as state": CLASS + b")\x81K\x01b.",
    "two states": CLASS + b")\x81}b}b.",
    "item of the class": CLASS + b"K\x01K\x01s.",
    "scalar of text": b"cnumpy.core.multiarray\nscalar\nX\x02\x00\x00\x00f4C\x04aaaa\x86R.",
    "scalar without bytes": b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nN\x86R.",
    "inside the class": b"ctfutil\nNetwork.__init__\n.",
    "memo": b"}r\xff\xff\xff\x7f.",
    "nothing": b"",
    "no state": (CLASS + b")\x81") * 3 + b"\x87.",
    "the class": CLASS * 3 + b"\x87.",
    "itself": CLASS + b")\x81q\x00}X\x01\x00\x00\x00ah\x00sbh\x00h\x00\x87.",
}


@pytest.mark.parametrize("name", ODD_BYTES)
def test_odd_pickles_give_one_line(tmp_path, name):
    with pytest.raises(UserError, match=r"a\.pkl .*(damaged|refused)") as caught:
        read(tmp_path, b"\x80\x04" + ODD_BYTES[name])
    assert str(caught.value).isprintable()
    assert_same(read(tmp_path, pickled(states())).gen, trees()["G"])  # nothing was altered


def test_networks_that_do_not_belong_together_are_refused(tmp_path):
    gen, disc, average = states()
    other = state("D", progan.from_trees(trees(8)["D"], 8, True))
    odd = state("D", progan.from_trees(trees()["D"], 16, True), use_wscale=False)
    words = state("D", progan.from_trees(trees()["D"], 16, True), mbstd_group_size="4")
    endless = state(
        "D", progan.from_trees(trees()["D"], 16, True), mbstd_group_size=np.float64("inf")
    )
    broken = state("D", {**progan.from_trees(trees()["D"], 16, True), "a": zeros(1)})
    for content, message in (
        ((disc, gen, average), "G is the other kind of network; accepted are"),
        ((gen, other, average), "the networks differ in resolution"),
        ((gen, odd, average), "use_wscale of G and D differ"),
        ((gen, words, average), "the option mbstd_group_size of a network is no int"),
        ((gen, disc, state("Gs", {})), r"a\.pkl: Gs: no network of ProGAN has the variables"),
        ((gen, endless, average), "the option mbstd_group_size of a network is no int"),
        ((gen, broken, average), r"a\.pkl: D: variable a \[1\] is none of ProGAN's discriminator"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            read(tmp_path, pickled(content))
        assert str(caught.value).isprintable()


def test_what_is_no_pickle_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.pkl cannot be read: No such file"):
        progan_file.networks(tmp_path / "none.pkl")
    for content in (b"hello", b"", pickle.dumps({"a": 1}, 0)):
        with pytest.raises(UserError, match=r"a\.pkl is not a pickle of protocol 2 or later; acc"):
            read(tmp_path, content)
    with pytest.raises(UserError, match="holds a dict and not three networks: refused"):
        read(tmp_path, pickle.dumps({"a": 1}, 4))


@pytest.mark.parametrize("protocol", [2, 4])
def test_damage_never_escapes_as_another_error(tmp_path, protocol):
    content = pickled(states(), protocol)
    lengths = [*range(0, 400), *range(400, len(content), len(content) // 50)]
    for length in lengths:
        with pytest.raises(UserError, match=r"is (damaged or cut short|not a pickle)|refused"):
            read(tmp_path, content[:length])
    random = np.random.default_rng(0)
    whole = np.frombuffer(content, np.uint8)
    for n in range(200):
        damaged = whole.copy()
        damaged[random.integers(400 if n % 2 else whole.size, size=2)] = random.integers(256)
        with contextlib.suppress(UserError):
            read(tmp_path, damaged.tobytes())
