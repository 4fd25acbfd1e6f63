"""A program for one of two processes of a cluster, see `test_deciding.py`.

Writes what it finds into found-RANK.json of the folder that its argument names, and ends with an
error in process 1.
"""

import json
import logging
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gan_jax import log
from gan_jax.core import cluster, shared_folder
from gan_jax.core.best_states import Best, BestStates
from gan_jax.core.checkpoint import Checkpoints
from gan_jax.core.mesh import Mesh
from gan_jax.errors import ArgumentError, UserError
from gan_jax.modes import door
from tests.helpers.processes import join

LARGE = 50_000_000  # of float32, so 200 MB
LAST = 2
RULE = Best("loss")


def deciding(rank: int) -> dict:
    """What each process gets to know of values and errors of process 0."""

    def refuse() -> None:
        raise ArgumentError("workdir", f"={rank}: taken")

    try:
        cluster.decided("an error", refuse)
    except UserError as error:
        refused = [type(error).__name__, str(error), error.status, error.name, error.shared]
    mine = {"fid": rank + 1 / 3, "loss": float("nan") if rank else float("inf")}
    return {
        "rank": rank,
        "value": cluster.decided("a value", lambda: [rank, None, "ä"]),
        "scores": cluster.same("scores", {k: np.float32(v) for k, v in mine.items()}),
        "refused": refused,
    }


def large(mesh: Mesh, step: int) -> dict:
    """A state of 200 MB, whose values follow from its step."""

    def make() -> dict:
        return {"w": jnp.arange(LARGE, dtype=jnp.float32) + step}

    return jax.jit(make, out_shardings=mesh.replicated)()


def saving(folder: Path, rank: int) -> dict:
    """A best and a periodic state of 200 MB at the same steps, the newest damaged after that."""
    mesh = Mesh()
    states, best = Checkpoints(folder / "checkpoints"), BestStates(folder / "best", RULE)
    for step in range(1, LAST + 1):
        meta = {"best_value": 1.0 / step, "step": step}
        state = large(mesh, step)
        best.save(0, step, state, meta)
        states.save(step, state, meta)
    found = {"best": best.path(0).name}
    states.close()
    best.close()
    if rank == 0:
        files = [f for f in (folder / f"checkpoints/{LAST}/state").rglob("*") if f.is_file()]
        largest = max(files, key=lambda f: f.stat().st_size)
        with largest.open("r+b") as file:
            file.seek(1000)
            file.write(b"damaged!")
    cluster.together("damaged")
    again = Checkpoints(folder / "checkpoints")
    # process 1 would not notice: only process 0 computes checksums
    step, tree, meta = again.restore_newest(mesh.shape(jax.eval_shape(lambda: large(mesh, 0))))
    expected = large(mesh, step)["w"]
    same = jax.jit(lambda a, b: jnp.array_equal(a, b), out_shardings=mesh.replicated)
    found |= {"step": step, "meta": meta, "same": bool(same(tree["w"], expected))}
    found["left"] = again.steps()
    return found


def main() -> None:
    folder, rank = Path(sys.argv[1]), join()
    log.install()
    logging.getLogger("gan_jax").info(f"only process 0 prints, this is {rank}")
    # in a file: process 1 prints nothing
    found = json.dumps(deciding(rank) | saving(folder, rank))
    (folder / f"found-{rank}.json").write_text(found)
    shared_folder.SEEING = 0.2
    shared_folder.check_shared(folder)
    own = folder / str(rank)  # as if each host had a disk of its own under this name
    own.mkdir()
    try:
        shared_folder.check_shared(own)
    except UserError as error:
        door.fail(str(error), error.status)
    cluster.together("never reached")
