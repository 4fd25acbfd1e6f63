"""States on disk: bit for bit, on any number of devices, damaged or not, the best one kept."""

import errno
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_jax.core import loss_scale, optim, saved_states, schedules, state_writer
from gan_jax.core.best_states import Best, BestStates
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.mesh import Mesh, fetch
from gan_jax.core.saved_states import SUMS, Damaged
from gan_jax.core.system import new_state
from gan_jax.errors import UserError
from tests.helpers.shell import python

MESH = Mesh(1)
LOWEST, HIGHEST = Best("val/loss"), Best("val/accuracy", lowest=False)


def state(seed: int = 0, width: int = 24):
    """A TrainState with Adam, averages and a loss scale, filled with random numbers."""
    config = SimpleNamespace(**{**optim.defaults(), "ema": (0.9,)})
    config.schedule = SimpleNamespace(**{**schedules.defaults(), "name": "plateau"})
    tx = loss_scale.with_loss_scale(optim.make(config, "o"))
    rng = np.random.default_rng(seed)
    params = {"dense": {"kernel": np.zeros((width, width), np.float32)}, "scale": np.float32(0)}
    nets = {
        "gen": optim.new_net(tx, params, {"norm": {"mean": np.zeros(width, np.float32)}}),
        "disc": optim.new_net(tx, params, {}),
    }

    def draw(x):
        return np.asarray(rng.integers(1, 9, x.shape) + rng.random(x.shape)).astype(x.dtype)

    tree = {"state": new_state(nets, {"history": np.zeros(5, np.float32)}), "steps": jnp.int32(0)}
    return MESH.copy(jax.tree.map(draw, tree))


STATES = {step: state(step) for step in range(1, 8)}
SHAPES = MESH.shape(STATES[1])


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(fetch(found)), jax.tree.leaves(fetch(expected)), strict=True):
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes()


def saved(folder: Path, *steps: int, **options) -> Path:
    """A folder with these states in it."""
    states = Checkpoints(folder, **{"keep": 9, **options})
    for step in steps:
        states.save(step, STATES[step], {"seconds": step / 3})
    states.close()
    return folder


def folders(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_round_trip_bit_for_bit(tmp_path, lines):
    folder = saved(tmp_path / "c", 3, 5)
    states = Checkpoints(folder)
    step, tree, meta = states.restore_newest(SHAPES)
    assert (step, meta, lines) == (5, {"seconds": 5 / 3}, [])
    assert_same(tree, STATES[5])
    arrays = saved_states.read_arrays(folder / "3")
    expected = saved_states.named(fetch(STATES[3]))
    assert arrays.keys() == expected.keys()
    assert "state/nets/gen/params/dense/kernel" in arrays
    assert "state/nets/gen/opt/inner/ema/params/0/dense/kernel" in arrays
    for name, array in expected.items():
        assert arrays[name].tobytes() == array.tobytes()
    states.close()


def test_nothing_to_restore(tmp_path):
    states = Checkpoints(tmp_path / "c")
    assert states.steps() == []
    assert states.saved_step is None
    assert states.restore_newest(SHAPES) is None
    states.close()


def test_newest_and_every_kth_stay(tmp_path):
    folder = saved(tmp_path / "a", 1, 2, 3, 4, 5, 6, 7, keep=2, keep_every=3)
    assert folders(folder) == ["3", "6", "7"]
    folder = saved(tmp_path / "b", 1, 2, 3, keep=1)
    assert folders(folder) == ["3"]


def test_a_second_save_of_a_step_does_nothing(tmp_path):
    states = Checkpoints(tmp_path / "c")
    states.save(2, STATES[2], {"n": 1})
    states.save(2, STATES[3], {"n": 2})
    states.close()
    reopened = Checkpoints(tmp_path / "c")
    assert reopened.saved_step == 2
    reopened.save(2, STATES[3], {"n": 3})
    reopened.close()
    tree, meta = saved_states.read((tmp_path / "c" / "2").resolve(), SHAPES)
    assert meta == {"n": 1}
    assert_same(tree, STATES[2])


def test_what_is_saved_is_what_was_given_not_what_it_became(tmp_path):
    """The caller goes on at once: it changes its notes and donates the arrays to the next step."""
    states = Checkpoints(tmp_path / "c")
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    tree, meta = state(1), {"n": 1}
    states.save(1, tree, meta)
    step(tree)
    meta["n"] = 2
    states.close()
    tree, meta = saved_states.read((tmp_path / "c" / "1").resolve(), SHAPES)
    assert meta == {"n": 1}
    assert_same(tree, STATES[1])


def test_a_state_is_sealed_before_it_becomes_visible(tmp_path, monkeypatch):
    """A kill between writing and renaming leaves no state without checksums."""
    seen, seal = [], state_writer._seal
    monkeypatch.setattr(state_writer, "_seal", lambda f: (seal(f), seen.extend(folders(f.parent))))
    saved(tmp_path / "c", 4)
    assert len(seen) == 1
    assert seen[0].startswith("4.")
    assert json.loads((tmp_path / "c" / "4" / SUMS).read_text())


def data_file(step: Path) -> Path:
    """The file that holds the arrays: random numbers, which no compression shortens."""
    return max((p for p in step.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip(file: Path, at: float = 0.5) -> None:
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 0x10
    file.write_bytes(data)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


DAMAGE = {
    "a byte flipped in an array": lambda s: flip(data_file(s)),
    "a byte flipped in the notes": lambda s: flip(s / "meta" / "metadata", 0.9),
    "an array cut short": lambda s: truncate(data_file(s)),
    "an index cut short": lambda s: truncate(s / "state" / "manifest.ocdbt"),
    "an array deleted": lambda s: data_file(s).unlink(),
    "the notes deleted": lambda s: (s / "meta" / "metadata").unlink(),
    "the checksums cut short": lambda s: truncate(s / SUMS),
    "the checksums deleted": lambda s: (s / SUMS).unlink(),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_newest_state_is_moved_aside_and_the_one_before_taken(
    tmp_path, kind, capfd, lines
):
    folder = saved(tmp_path / "c", 1, 2)
    DAMAGE[kind](folder / "2")
    contents = {p.name: p.read_bytes() for p in (folder / "2").rglob("*") if p.is_file()}
    states = Checkpoints(folder, keep=9)
    step, tree, meta = states.restore_newest(SHAPES)
    assert (step, meta) == (1, {"seconds": 1 / 3})
    assert_same(tree, STATES[1])
    assert len(lines) == 1
    assert "checkpoint 2 is damaged" in lines[0]
    assert "damaged-2" in lines[0]
    assert "\n" not in lines[0]
    # nothing is lost, and the step can be saved again
    aside = tmp_path / "damaged-2"
    assert {p.name: p.read_bytes() for p in aside.rglob("*") if p.is_file()} == contents
    states.save(2, STATES[2], {"seconds": 9})
    states.close()
    assert folders(folder) == ["1", "2"]
    assert_same(saved_states.read(folder.resolve() / "2", SHAPES)[0], STATES[2])
    assert "Traceback" not in capfd.readouterr().err


def test_two_damaged_states_and_one_set_aside_before(tmp_path, lines):
    folder = saved(tmp_path / "c", 1, 2, 3)
    (tmp_path / "damaged-3").mkdir()
    for step in "23":
        flip(data_file(folder / step))
    states = Checkpoints(folder)
    assert states.restore_newest(SHAPES)[0] == 1
    states.close()
    assert len(lines) == 2
    assert folders(tmp_path) == ["c", "damaged-2", "damaged-3", "damaged-3-2"]


def test_all_damaged_is_an_error_and_moves_nothing(tmp_path):
    folder = saved(tmp_path / "c", 1, 2)
    for step in "12":
        flip(data_file(folder / step))
    states = Checkpoints(folder)
    for _ in range(2):  # the same answer when asked again, never a start from step 0
        with pytest.raises(UserError, match=r"none of the checkpoints \[1, 2\] can be read"):
            states.restore_newest(SHAPES)
    states.close()
    assert folders(folder) == ["1", "2"]
    with pytest.raises(Damaged, match="checksum"):
        saved_states.read(folder.resolve() / "2", SHAPES)
    with pytest.raises(Damaged, match="checksum"):
        saved_states.read_arrays(folder.resolve() / "2")


def test_another_model_is_an_error_that_names_the_arrays(tmp_path, capfd):
    folder = saved(tmp_path / "c", 1)
    states = Checkpoints(folder)
    with pytest.raises(UserError) as error:
        states.restore_newest(MESH.shape(state(0, width=16)))
    assert "holds another model" in str(error.value)
    assert "dense/kernel is float32 (24, 24) there and float32 (16, 16) here" in str(error.value)
    assert "more" in str(error.value)
    other = dict(STATES[1], more=np.zeros(2))
    with pytest.raises(UserError, match="more is not in the checkpoint"):
        states.restore_newest(MESH.shape(other))
    with pytest.raises(UserError, match="steps is not in this model"):
        states.restore_newest(MESH.shape({"state": STATES[1]["state"]}))
    with pytest.raises(UserError, match=r"steps is int32 .* there and float32"):
        states.restore_newest(MESH.shape(dict(STATES[1], steps=np.float32(0))))
    states.close()
    assert folders(folder) == ["1"]
    assert len(capfd.readouterr().err) < 2000


RESAVE = """
import sys, jax
from pathlib import Path
import tests.core.test_checkpoint as t
mesh = t.Mesh()
assert mesh.size == len(jax.devices()) == 1
states = t.Checkpoints(Path(sys.argv[1]))
step, tree, meta = states.restore_newest(mesh.shape(t.SHAPES))
t.assert_same(tree, t.STATES[step])
other = t.Checkpoints(Path(sys.argv[2]))
other.save(step, tree, meta)
states.close(); other.close()
"""


def test_from_eight_devices_onto_one_and_back(tmp_path):
    """Between processes, since the devices of one do not change."""
    eight = Mesh(8)
    states = Checkpoints(tmp_path / "eight")
    states.save(2, eight.copy(STATES[2]), {"n": 1})
    states.close()
    done = python(RESAVE, tmp_path / "eight", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    states = Checkpoints(tmp_path / "one")
    step, tree, meta = states.restore_newest(eight.shape(SHAPES))
    assert (step, meta) == (2, {"n": 1})
    assert_same(tree, STATES[2])
    assert all(len(x.sharding.device_set) == 8 for x in jax.tree.leaves(tree))
    states.close()


def test_better():
    assert LOWEST.better(1.0, None)
    assert LOWEST.better(1.0, 2.0)
    assert not LOWEST.better(2.0, 1.0)
    assert not LOWEST.better(1.0, 1.0)
    assert HIGHEST.better(2.0, 1.0)
    assert not HIGHEST.better(1.0, 2.0)
    for rule in (LOWEST, HIGHEST):
        for value in (math.nan, math.inf, -math.inf):
            assert not rule.better(value, None)
            assert not rule.better(value, 1.0)


def offer(best: BestStates, stage: int, values: dict[int, float]) -> None:
    """Saves what beats the ones before, as a run does."""
    held = None
    for step, value in values.items():
        if best.rule.better(value, held):
            held = value
            best.save(stage, step, STATES[step], {"best_value": value})


def test_best_states_beyond_the_step_resumed_from_go(tmp_path):
    best = BestStates(tmp_path / "best", LOWEST)
    offer(best, 0, {3: 4.0})
    offer(best, 1, {5: 9.0})
    best.close()
    again = BestStates(tmp_path / "best", LOWEST)
    again.cut(3)
    assert folders(tmp_path / "best" / "stage0") == ["3"]
    assert again.path(1) is None
    offer(again, 1, {4: 9.5})
    assert again.path(1).name == "4"
    again.close()


def test_exactly_one_best_state_for_each_stage(tmp_path):
    best = BestStates(tmp_path / "best", LOWEST)
    assert best.path(0) is None
    offer(best, 0, {1: 5.0, 2: math.nan, 3: 4.0, 4: 4.5})
    offer(best, 1, {5: 9.0, 6: 8.0, 7: 7.0})
    assert best.path(0) == (tmp_path / "best" / "stage0" / "3").resolve()
    best.close()
    assert folders(tmp_path / "best" / "stage0") == ["3"]
    assert folders(tmp_path / "best" / "stage1") == ["7"]
    again = BestStates(tmp_path / "best", LOWEST)
    tree, meta = saved_states.read(again.path(1), SHAPES)
    assert meta == {"best_value": 7.0}
    assert_same(tree, STATES[7])
    assert again.path(2) is None
    # offered once more after a resume from before it, it stays as it is
    again.save(1, 7, STATES[7], {"best_value": 7.0})
    again.close()
    assert folders(tmp_path / "best" / "stage1") == ["7"]


@pytest.mark.parametrize(("rule", "kept"), [(LOWEST, "2"), (HIGHEST, "1")])
def test_two_best_states_left_by_a_kill(tmp_path, rule, kept):
    """The value decides, not the step: here 1 holds 5.0, 2 and 3 hold 4.0."""
    folder = tmp_path / "best" / "stage0"
    states = Checkpoints(folder, keep=9)
    for step, value in {1: 5.0, 2: 4.0, 3: 4.0}.items():
        states.save(step, STATES[step], {"best_value": value})
    states.close()
    best = BestStates(tmp_path / "best", rule)
    assert best.path(0).name == kept
    best.close()
    assert folders(folder) == [kept]


def test_a_better_state_of_an_earlier_step_and_an_unreadable_one(tmp_path):
    """Notes that cannot be read never win."""
    folder = saved(tmp_path / "best" / "stage0", 6)
    flip(folder / "6" / "meta" / "metadata", 0.0)
    best = BestStates(tmp_path / "best", LOWEST)
    best.save(0, 4, STATES[4], {"best_value": 4.0})
    best.close()
    assert folders(folder) == ["4"]


def test_a_disk_that_does_not_answer_does_not_make_a_state_damaged(tmp_path, monkeypatch):
    """It stays where it is, and no older one is taken in its place."""
    folder = saved(tmp_path / "checkpoints", 1, 2)

    def unreadable(path):
        raise OSError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(saved_states, "read_json", unreadable)
    with pytest.raises(PermissionError):
        Checkpoints(folder, keep=9).restore_newest(SHAPES)
    monkeypatch.undo()
    assert sorted(saved_states.states_in(folder)) == [1, 2]
    assert Checkpoints(folder, keep=9).restore_newest(SHAPES)[0] == 2


def test_states_are_listed_again_when_an_error_passes(tmp_path, monkeypatch):
    folder, errors = saved(tmp_path / "checkpoints", 1), [OSError(errno.ESTALE, "Stale")]
    listed = Path.iterdir

    def iterdir(path):
        if errors:
            raise errors.pop()
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert list(saved_states.states_in(folder)) == [1]
