"""Writes a single HTML page about a run, which opens in any browser without other files.

python launch.py --mode=report --workdir=runs/a
python launch.py --mode=report --workdir=runs/a,runs/b,runs/c --out=abc.html
"""

import os

from gan_jax.modes import flags

FLAGS = flags.FlagValues()
ALONE = SEVERAL_RUNS = True
OUT = flags.out(
    FLAGS,
    "The page; empty: report.html in the run's folder, or comparison.html here for several runs.",
)


def main(config, workdir: str) -> int:
    """Writes the page and prints its name."""
    from gan_jax.modes.actions import report

    flags.need_workdir(workdir, "report")
    print(report.report(folders(workdir), OUT.value))
    return 0


def folders(workdir: str) -> list[str]:
    """The folders that --workdir names, separated by commas; a folder may have commas in its name
    if it is the only one."""
    from gan_jax import config as configs

    if os.path.isdir(workdir):
        return [workdir]
    return [os.path.expanduser(place) for place in configs.words(workdir)] or [workdir]
