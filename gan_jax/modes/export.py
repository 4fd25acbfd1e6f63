"""Writes a run's network as a .pt file that guided-diffusion can read.

python launch.py --mode=export --workdir=runs/d --out=model.pt
python launch.py --mode=export --workdir=runs/d --state=best --weights=raw --out=raw.pt
"""

import os

from gan_jax.modes import flags

FLAGS = flags.FlagValues()
OUT = flags.out(FLAGS, "The .pt file; empty: model.pt in the run's folder.")
STATE = flags.state(FLAGS)
WEIGHTS = flags.weights(FLAGS)


def main(config, workdir: str) -> int:
    """Writes the file, and the run's config beside it."""
    from gan_jax.modes.actions import export_file

    flags.need_workdir(workdir, "export")
    target = OUT.value or os.path.join(workdir, "model.pt")
    export_file.export_file(workdir, target, STATE.value, WEIGHTS.value)
    return 0
