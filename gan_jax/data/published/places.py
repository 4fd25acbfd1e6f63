"""Where configs find the data sets that `--mode=prepare` has made.

Nothing is imported here, because every opening of a data set asks.
"""

import os

FOLDER = "data"  # below the current folder
# what `config.data.path` calls a set, and what --name calls it
NAMES = {
    "cifar10.npz": "cifar10",
    "mnist": "mnist",
    "fashion_mnist": "fashion_mnist",
    "facades": "facades",
    "celebahq": "celeba_hq",
}
# places in which a package of the system puts a set
OF_SYSTEM = {"fashion_mnist": "/usr/share/datasets/fashion-mnist"}


def find(path: str) -> str:
    """Where the data that `config.data.path` names are.

    A name of NAMES that does not exist as it is written is looked for in FOLDER, and then where a
    package of the system would put it. Any other path, and a name that is found nowhere, is
    returned as it is.
    """
    if path not in NAMES or os.path.exists(path):
        return path
    places = [os.path.join(FOLDER, path), OF_SYSTEM.get(path, "")]
    return next((place for place in places if place and os.path.exists(place)), path)


def advice(path: str) -> str:
    """The end of a message about missing data: the command that gets them, "" if there is none."""
    if path not in NAMES:
        return ""
    return f"; `python launch.py --mode=prepare --name={NAMES[path]}` gets it"
