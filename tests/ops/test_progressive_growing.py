"""The schedule of progressive growing against the original's tables, and what reals look like."""

import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.errors import UserError
from gan_jax.ops import images, progressive_growing
from tests.helpers.golden_rule import load

TABLES = sorted(
    p.stem for p in (Path(__file__).parents[1] / "golden/progan").glob("schedule_*.npz")
)


def ints(table: dict) -> dict:
    return {int(k): v for k, v in table.items()}


def growth_of(options: dict) -> progressive_growing.Growth:
    s = options["schedule"]
    assert s["G_lrate_dict"] == s["D_lrate_dict"] if "G_lrate_dict" in s else True
    return progressive_growing.Growth(
        options["final_resolution"], s["minibatch_base"], ints(s["minibatch_dict"]),
        initial_resolution=s.get("lod_initial_resolution", 4),
        training_kimg=s.get("lod_training_kimg", 600),
        transition_kimg=s.get("lod_transition_kimg", 600),
        repeats=options["minibatch_repeats"], devices=options["num_gpus"],
        per_device=ints(s["max_minibatch_per_gpu"]), rates=ints(s.get("G_lrate_dict", {})),
    )  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_schedule(name):
    meta, arrays = load(f"progan/{name}")
    growth = growth_of(meta["options"])
    rows = []
    for images_ in arrays["in/nimg"].tolist():
        lod = growth.lod(images_)
        side, rate = growth.side(lod), growth.learning_rate(growth.side(lod))
        row = [images_ / 1000, lod, side, growth.batch_size(side), rate, rate]
        rows.append([*row, growth.tick_kimg(side)])
    np.testing.assert_allclose(rows, arrays["out/table"], rtol=1e-12)
    run = progressive_growing.spans(growth, images=meta["options"]["total_kimg"] * 1000)
    last = run[-1]
    assert last.step + last.steps == arrays["out/total_iterations"]
    assert last.images + last.steps * last.batch == arrays["out/final_nimg"]
    starts = [(s.images, growth.lod(s.images)) for s in run]
    np.testing.assert_array_equal(starts, arrays["out/reset_points"])
    changes = [b for a, b in zip([None, *run], run, strict=False) if not a or a.batch != b.batch]
    np.testing.assert_array_equal(
        [(s.images, s.batch, s.side) for s in changes], arrays["out/minibatch_changes"]
    )
    ticks = list(progressive_growing.ticks(growth, run))
    np.testing.assert_array_equal([t.images for t in ticks], arrays["out/ticks"][:, 1])
    place = {t.step: next(s for s in run if s.step < t.step <= s.step + s.steps) for t in ticks}
    assert [s.batch for s in place.values()] == arrays["out/ticks"][:, 3].tolist()


@pytest.mark.parametrize("name", [name for name in TABLES if "nogrowing" not in name])
def test_presets_are_the_originals(name):
    """Of the tables that grow: a run that begins at its full size has no preset."""
    options = load(f"progan/{name}")[0]["options"]
    preset, s = progressive_growing.PRESETS[options["preset"]], options["schedule"]
    assert preset.base == s["minibatch_base"]
    assert preset.batch == ints(s["minibatch_dict"])
    assert preset.rates == ints(s.get("G_lrate_dict", {}))
    assert preset.kimg == s.get("lod_training_kimg", 600)
    assert preset.devices == options["num_gpus"]
    assert ints(s["max_minibatch_per_gpu"]) == progressive_growing.PER_DEVICE


SPOTS = {0: 8, 600: 8, 900: 7.5, 1200: 7, 2100: 6.5, 4800: 4, 9600: 0, 12000: 0}


def test_spot_values_and_resets_at_1024():
    growth = progressive_growing.Growth(1024, 4)
    assert {k: growth.lod(k * 1000) for k in SPOTS} == SPOTS
    run = progressive_growing.spans(growth, images=12_000_000)
    assert len(run) == 17  # one reset at each beginning
    assert len({(s.side, s.batch) for s in run}) == 9  # compilations
    assert all(a.step + a.steps == b.step for a, b in itertools.pairwise(run))


def test_walking_block_by_block_finds_the_same_stages():
    growth = progressive_growing.Growth(
        32, 6, {4: 10, 8: 7}, training_kimg=0.15, transition_kimg=0.11, repeats=3
    )
    run = progressive_growing.spans(growth, images=1200)
    images_ = step = 0
    before, starts = None, []
    while images_ < 1200:
        lod = growth.lod(images_)
        now = (math.floor(lod), math.ceil(lod), growth.batch_size(growth.side(lod)))
        if now != before:
            starts.append((step, images_, growth.side(lod), now[2]))
        before = now
        step, images_ = step + 3, images_ + 3 * now[2]
    assert [(s.step, s.images, s.side, s.batch) for s in run] == starts
    assert run[-1].step + run[-1].steps == step


def test_a_run_of_steps_ends_inside_a_block_and_begins_alike():
    growth = progressive_growing.Growth(
        16, 8, training_kimg=0.064, transition_kimg=0.064, repeats=4
    )
    long, short = (
        progressive_growing.spans(growth, steps=1000),
        progressive_growing.spans(growth, steps=18),
    )
    assert sum(s.steps for s in short) == 18
    assert short[:-1] == long[: len(short) - 1]
    assert short[-1]._replace(steps=0) == long[len(short) - 1]._replace(steps=0)


@pytest.mark.parametrize("preset", ["v2-1gpu", "v1-1gpu"])
def test_fade_of_a_step_is_the_schedules(preset):
    chosen = progressive_growing.PRESETS[preset]
    growth = progressive_growing.Growth(
        1024, chosen.base, chosen.batch, training_kimg=chosen.kimg, transition_kimg=chosen.kimg
    )
    run = progressive_growing.spans(growth, images=chosen.total_kimg * 1000)
    random = np.random.default_rng(0)
    for span in run:
        at = jax.jit(lambda step, side=span.side: progressive_growing.fade(growth, run, step, side))
        for step in random.integers(span.step, span.step + span.steps, 5):
            block = (step - span.step) // growth.repeats * growth.repeats
            lod = growth.lod(span.images + int(block) * span.batch)
            np.testing.assert_allclose(at(np.int32(step)), lod - math.floor(lod), atol=1e-6)
    # seen from the stage before and the one after
    first, fading = run[0], run[1]
    assert progressive_growing.fade(growth, run, jnp.int32(first.step + first.steps), 4) == 0
    assert progressive_growing.fade(growth, run, jnp.int32(fading.step - 1), 8) == 1
    assert progressive_growing.fade(growth, run, jnp.int32(run[2].step), 8) == 0


def test_reals_are_as_the_original_shows_them():
    meta, arrays = load("progan/reals_r32_rgb")
    for lod in meta["options"]["lods"]:
        side, weight = 32 >> math.floor(lod), lod - math.floor(lod)
        pixels = np.moveaxis(arrays[f"in/images_lod{lod:g}"], 1, -1)
        assert pixels.shape[1] == side
        mirrored = arrays[f"in/mirror_u_lod{lod:g}"].ravel() >= 0.5
        for name, x in (
            ("reals", pixels),
            ("reals_mirrored", images.flip(jnp.asarray(pixels), mirrored)),
        ):
            seen = (
                progressive_growing.blend(images.to_unit(x), weight)
                if weight
                else images.to_unit(x)
            )
            full = np.moveaxis(arrays[f"out/{name}_lod{lod:g}"], 1, -1)
            times = 32 // side
            np.testing.assert_allclose(
                np.asarray(seen).repeat(times, 1).repeat(times, 2), full, atol=2e-6
            )


def test_shrunk_images_are_those_of_the_exporter():
    _, arrays = load("progan/reals_r32_rgb")
    pixels = np.moveaxis(arrays["in/pyramid_images"], 1, -1)
    for level in (2, 3, 4, 5):
        golden = np.moveaxis(arrays[f"out/pyramid_r{level:02}"], 1, -1)
        np.testing.assert_array_equal(progressive_growing.shrink(pixels, 2**level), golden)


def test_a_preset_goes_with_the_devices_that_are_there():
    found = [progressive_growing.preset_for(n) for n in (1, 2, 3, 4, 7, 8, 64)]
    names = ["v2-1gpu", "v2-2gpus", "v2-2gpus", "v2-4gpus", "v2-4gpus", "v2-8gpus", "v2-8gpus"]
    assert found == names


def test_tables():
    assert progressive_growing.table("4:128, 8:64", int, "k") == {4: 128, 8: 64}
    assert progressive_growing.table("1024:0.0015", float, "k") == {1024: 0.0015}
    assert progressive_growing.table("", int, "k") == {}
    for text in ("4", "5:3", "4:0", "4:-1", "a:b", "4:1.5", "2:8"):
        with pytest.raises(UserError, match=r"config\.growth\.batch"):
            progressive_growing.table(text, int, "config.growth.batch", UserError)
