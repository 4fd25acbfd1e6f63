"""Networks of the original ProGAN: names and layouts of their variables, there and back."""

import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.interop import progan
from tests.helpers import golden_rule, progan_golden
from tests.helpers.progan_trees import trees, zeros
from tests.helpers.trees import assert_same

FILES = sorted(p.stem for p in (golden_rule.GOLDEN / "progan").glob("networks_*.npz"))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("resolution", [4, 8, 16])
def test_trees_go_to_the_originals_names_and_back(resolution, fused):
    for tree in trees(resolution).values():
        names = progan.from_trees(tree, resolution, fused)
        assert any(name.endswith(("_up/weight", "_down/weight")) for name in names) == (
            fused and resolution > 4
        )
        again = progan.to_trees({"lod": np.float32(1.5), **dict(reversed(names.items()))})
        assert_same(again, tree)


@pytest.mark.parametrize("file", FILES)
def test_variables_are_the_originals_own_in_its_order(file):
    meta, _ = golden_rule.load(f"progan/{file}")
    options = meta["options"]
    for net in "GD":
        tree = progan_golden.params(meta, net)
        found = progan.from_trees(tree, options["resolution"], options["fused_scale"])
        expected = progan_golden.variables(meta, net)
        assert [f"{net}/{name}" for name in found] == [name for name, _ in expected]
        for name, shape in expected:
            array = found[name.removeprefix(f"{net}/")]
            np.testing.assert_array_equal(
                array, progan_golden.rule(name, shape), strict=True, err_msg=name
            )


def test_kernels_turn_element_by_element():
    tree = trees()["G"]
    names = progan.from_trees(tree, 16, True)
    h, w, i, o, z = 0, 1, 2, 3, 4
    kernel = tree["block8_conv0"]["kernel"]
    assert names["8x8/Conv0_up/weight"][2 - h, 2 - w, o, i] == kernel[h, w, i, o]
    assert names["8x8/Conv1/weight"][h, w, i, o] == tree["block8_conv1"]["kernel"][h, w, i, o]
    assert names["ToRGB_lod1/weight"][0, 0, i, 1] == tree["to_rgb8"]["kernel"][0, 0, i, 1]
    dense = tree["block4_dense"]["kernel"].reshape(-1, 4, 4, 6)
    assert names["4x4/Dense/weight"].reshape(-1, 6, 4, 4)[z, i, h, w] == dense[z, h, w, i]
    tree = trees()["D"]
    dense = tree["block4_dense0"]["kernel"].reshape(4, 4, 6, -1)
    names = progan.from_trees(tree, 16, True)
    assert names["4x4/Dense0/weight"].reshape(6, 4, 4, -1)[i, h, w, o] == dense[h, w, i, o]


def test_every_layer_may_be_fused_or_not():
    tree = trees()["G"]
    plain, fused = (progan.from_trees(tree, 16, f) for f in (False, True))
    mixed = {name: a for name, a in plain.items() if not name.startswith("16x16/Conv0")}
    mixed |= {name: a for name, a in fused.items() if name.startswith("16x16/Conv0_up")}
    assert_same(progan.to_trees(mixed), tree)


def test_group_statistics_are_optional():
    tree = trees(minibatch_stddev=0)["D"]
    assert tree["block4_conv"]["kernel"].shape[2] == 6
    assert_same(progan.to_trees(progan.from_trees(tree, 16, True)), tree)


@pytest.mark.parametrize(
    ("net", "changes", "message"),
    [
        ("G", {"16x16/Conv1/bias": None}, "variable 16x16/Conv1/bias of .* is missing"),
        ("G", {"8x8/Conv0_up/weight": None}, "variable 8x8/Conv0/weight of .* is missing"),
        ("D", {"FromRGB_lod2/weight": None}, "variable FromRGB_lod2/weight of .* is missing"),
        ("G", {"8x8/Conv2/weight": zeros(3, 3, 6, 6)}, r"8x8/Conv2/weight \[3, 3, 6, 6\] is none"),
        ("G", {"8x8/Conv0/weight": zeros(3, 3, 6, 6)}, r"8x8/Conv0/weight .* is none of"),
        ("G", {"a\nb": zeros()}, r"variable a b \[\] is none of ProGAN's generator of 16x16"),
        ("G", {"4x4/Dense/weight": zeros(7, 95)}, r"4x4/Dense/weight \[7, 95\] and bias \[6\]"),
        ("G", {"4x4/Dense/weight": zeros(0, 96)}, r"4x4/Dense/weight \[0, 96\] and bias"),
        ("G", {"4x4/Dense/weight": zeros(96)}, r"4x4/Dense/weight \[96\] and bias"),
        ("G", {"4x4/Dense/bias": zeros(96)}, r"4x4/Dense/weight .* and bias \[96\]"),
        ("G", {"8x8/Conv0_up/weight": zeros(4, 4, 6, 6)}, r"8x8/Conv0_up/weight \[4, 4, 6, 6\]"),
        ("G", {"16x16/Conv0_up/weight": zeros(3, 3, 6, 3)}, r"16x16/Conv0_up/weight \[3, 3, 6, 3"),
        ("G", {"ToRGB_lod1/weight": zeros(1, 1, 6, 1)}, r"ToRGB_lod1/weight \[1, 1, 6, 1\]"),
        ("D", {"FromRGB_lod1/weight": zeros(1, 1, 1, 6)}, r"FromRGB_lod1/weight \[1, 1, 1, 6\]"),
        ("D", {"4x4/Conv/weight": zeros(3, 3, 8, 6)}, r"4x4/Conv/weight \[3, 3, 8, 6\]"),
        ("D", {"4x4/Dense0/weight": zeros(95, 6)}, r"4x4/Dense0/weight \[95, 6\]"),
        ("G", {"FromRGB_lod0/weight": zeros(1, 1, 3, 6)}, "no network of ProGAN has"),
        ("G", {"ToRGB_lod0/weight": None}, "no network of ProGAN has the variables 4x4/Dense/w"),
        ("G", {"24x24/Conv1/weight": zeros(3, 3, 3, 3)}, "no network of ProGAN has"),
        ("G", {"65536x65536/Conv1/weight": zeros(3, 3, 3, 3)}, "no network of ProGAN has"),
        ("G", {"32x32/Conv1/weight": zeros(3, 3, 3, 3)}, "ToRGB_lod3/weight of .* is missing"),
    ],
)
def test_wrong_variables_are_named(net, changes, message):
    names = progan.from_trees(trees()[net], 16, True) | changes
    names = {name: array for name, array in names.items() if array is not None}
    with pytest.raises(UserError, match=message) as caught:
        progan.to_trees(names)
    assert str(caught.value).isprintable()


def test_other_networks_and_trees_are_refused():
    for names in ({}, {"conv.weight": zeros(3)}, {"lod": zeros()}):
        with pytest.raises(UserError, match="no network of ProGAN has the variables"):
            progan.to_trees(names)
    tree = trees()["G"]
    with pytest.raises(ValueError, match="params/extra/kernel has no counterpart in a generator"):
        progan.from_trees({**tree, "extra": {"kernel": zeros(1)}}, 16, True)
    with pytest.raises(ValueError, match=r"params/block32_conv0/kernel of a gen.* is missing"):
        progan.from_trees(tree, 32, True)
    with pytest.raises(ValueError, match="is missing"):
        progan.from_trees({}, 16, True)
