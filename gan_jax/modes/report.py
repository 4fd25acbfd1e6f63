"""Writes a single HTML page about a run, which opens in any browser without other files.

python launch.py --mode=report --workdir=runs/a
python launch.py --mode=report --workdir=runs/a --out=a.html
"""

import os

from gan_jax.modes import flags

FLAGS = flags.FlagValues()
OUT = flags.out(FLAGS, "The page; empty: report.html in the run's folder.")


def main(config, workdir: str) -> int:
    """Writes the page and prints its name."""
    from gan_jax.report import page

    flags.need_workdir(workdir, "report")
    target = OUT.value or os.path.join(workdir, "report.html")
    page.page(workdir, target)
    print(target)
    return 0
