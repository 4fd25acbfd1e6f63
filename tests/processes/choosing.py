"""A program for one of two processes of a cluster, see `test_choosing.py`.

Chooses the length of a run for a budget, and writes what it has found into chosen-RANK.json of the
folder that its argument names. The clocks of the processes differ by a day.
"""

import json
import sys
import time
from pathlib import Path

import gan_jax
from gan_jax import budgeting
from gan_jax import config as configs
from gan_jax.run import budget as budgets
from gan_jax.run.experiment import Experiment
from tests.helpers import contract
from tests.helpers.processes import join


def main() -> None:
    folder = Path(sys.argv[1])
    rank = join()
    ahead, clock = rank * 86_400.0, time.time
    time.time = lambda: clock() + ahead
    config = contract.load("mlpgan_mnist")
    config.batch_size = 8
    config.run.update(steps="100000000", eval_every="0", sample_every="0", save_every="1000")
    config.quality.classifier_steps = "50"
    run = folder / "run"
    run.mkdir(exist_ok=True)
    began = time.time() - 10 * (1 + rank)
    budget = budgets.parse("1h")
    made, chosen = budgeting.shortened(Experiment(config), run, budget, began, gan_jax.train)
    found = {"config": configs.flat(configs.plain(made.config)), "chosen": chosen}
    (folder / f"chosen-{rank}.json").write_text(json.dumps(found))
