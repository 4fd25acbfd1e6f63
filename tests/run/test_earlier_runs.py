"""Runs that an earlier revision has written go on as they would have gone on then.

tests/golden/runs holds a run of each system at its tiny size, as revision 371fbc9 left it before
its last step, and what that revision made of it: of every array of its last state the sum and the
sum of absolute values, the last metrics, and four images. A machine of another kind may round
otherwise, so the numbers are compared to what float32 can promise after two steps.
"""

import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import gan_jax
from gan_jax import config as configs
from gan_jax.core import saved_states
from gan_jax.run import folder as folders

RUNS = Path(__file__).parents[1] / "golden/runs"
SYSTEMS = sorted(configs.SYSTEMS)
LARGEST_RATE = 1e-3  # of the runs


@pytest.fixture(scope="module", params=SYSTEMS)
def run(request, tmp_path_factory):
    """(folder of the run, what the earlier revision made of it)."""
    folder = tmp_path_factory.mktemp(request.param)
    with zipfile.ZipFile(RUNS / f"{request.param}.zip") as file:
        file.extractall(folder)
    with np.load(RUNS / f"{request.param}_expected.npz") as file:
        return folder, dict(file)


def summed(array: np.ndarray) -> np.ndarray:
    """The sum of an array and that of its absolute values, float64 [2]."""
    values = array.astype(np.float64)
    return np.array([values.sum(), np.abs(values).sum()])


def weight_of(name: str) -> tuple[str, str]:
    """The net and the weight that an array belongs to: a parameter, its average or its moment.

    "state/nets/gen/opt/ema/params/0/conv/bias" → ("gen", "conv/bias"). So does the running mean of
    the normalization that takes out a bias: "…/stats/batch_stats/conv_norm/mean".
    """
    parts = name.split("/")
    if parts[:2] != ["state", "nets"]:
        return "", name
    if parts[-1] == "mean" and parts[-2].endswith("_norm"):
        return parts[2], f"{parts[-2].removesuffix('_norm')}/bias"
    start = max((i for i, part in enumerate(parts) if part in ("params", "mu", "nu")), default=3)
    rest = parts[start + 1 :]
    return parts[2], "/".join(rest[1:] if rest and rest[0].isdecimal() else rest)


def without_gradient(expected: dict) -> set[tuple[str, str]]:
    """The weights whose gradient is zero but for rounding, such as a bias that the normalization
    after it takes out again.

    Adam divides a gradient by its own size, so such a weight takes whole steps in the direction of
    the rounding, which differs from one kind of processor to another. Nothing depends on it. Its
    second moment is smaller by ten orders of magnitude than that of the other weights.
    """
    sums = dict(zip(expected["names"], expected["sums"][:, 1], strict=True))
    found = set()
    for net in {weight_of(name)[0] for name in sums} - {""}:
        seconds = {n: v for n, v in sums.items() if "/nu/" in n and weight_of(n)[0] == net}
        usual = np.median([v for v in seconds.values() if v > 0] or [0.0])
        found |= {weight_of(n) for n, v in seconds.items() if v < 1e-8 * usual}
    return found


def test_only_weights_without_influence_are_compared_loosely(run):
    noise = {weight for _, weight in without_gradient(run[1])}
    before_norms = {"conv_1/bias", "conv_2/bias", "deconv_0/bias"}
    grown = {weight for weight in noise if "_rgb" in weight}  # of ProGAN's past resolutions
    assert noise <= before_norms | grown


def test_a_saved_state_is_read_whole(run):
    """Every array has its name, and its bytes are those that the checksums were made of."""
    folder, expected = run
    state = folders.state_path(folder)
    arrays = saved_states.read_arrays(state)
    assert sorted(arrays) == sorted(expected["names"])
    assert gan_jax.load(folder).step == int(state.name)


def test_it_resumes_and_draws_as_the_earlier_revision_did(run, tmp_path):
    folder, expected = run
    shutil.copytree(folder, tmp_path / "run")
    config = configs.typed(json.loads((folder / "config.json").read_text())["config"])
    last = int(dict(zip(expected["metric_names"], expected["metrics"], strict=True))["step"])
    gan_jax.train(config, tmp_path / "run")
    model = gan_jax.load(tmp_path / "run")
    assert model.step == last
    arrays = saved_states.read_arrays(folders.state_path(tmp_path / "run"))
    before = saved_states.read_arrays(folders.state_path(folder))
    off, moved = Counter(), Counter()  # by net and part, such as gen/params
    noise = without_gradient(expected)
    steps = last - int(folders.state_path(folder).name)
    for name, sums in zip(expected["names"], expected["sums"], strict=True):
        found = summed(arrays[name])
        if weight_of(name) in noise:
            # each of the two runs moved every number by a learning rate or so, in any direction
            far = 2 * 2 * steps * LARGEST_RATE * arrays[name].size
            np.testing.assert_allclose(found, sums, rtol=0, atol=far, err_msg=name)
            continue
        scale = max(sums[1], 1e-3)
        np.testing.assert_allclose(found, sums, rtol=0, atol=1e-3 * scale, err_msg=name)
        if name.startswith("state/nets/"):
            part = "/".join(name.split("/")[2:4])
            off[part] += np.abs(sums - found).sum()
            moved[part] += np.abs(sums - summed(before[name])).sum()
    # the last steps are those that the earlier revision took
    assert all(moved.values())
    for part, distance in off.items():
        assert distance <= 0.05 * moved[part], part
    rows = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["step"] == last and row["kind"] != "epoch"]
    found = {name: value for row in rows for name, value in row.items()}
    for name, value in zip(expected["metric_names"], expected["metrics"], strict=True):
        np.testing.assert_allclose(found[name], value, rtol=1e-2, atol=1e-4, err_msg=name)
    makes_images = model.experiment.system.sample_step is not None
    assert ("images" in expected) == makes_images
    if makes_images:
        drawn = model.sample(range(len(expected["images"]))).astype(int)
        assert np.abs(drawn - expected["images"]).max() <= 2
