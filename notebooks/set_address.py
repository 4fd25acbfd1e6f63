"""Writes the address of the repository into the first cell of every notebook.

    python notebooks/set_address.py

The address is that of `[project.urls]` in pyproject.toml, or "" if it names none. A notebook that
is opened without a checkout, as in Colab, clones this address.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# as the line stands in the JSON of a notebook
LINE = re.compile(r'(REPOSITORY = os\.environ\.get\(\\"GAN_JAX_REPOSITORY\\"\) or \\")[^"\\]*')


def address(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """The address of the repository, "" if the file names none."""
    project = tomllib.loads(pyproject.read_text())["project"]
    return project.get("urls", {}).get("Repository", "").rstrip("/")


def write(address: str, folder: Path) -> list[Path]:
    """Puts the address into the notebooks of a folder; those that have changed.

    Raises ValueError for a notebook without the line that names it.
    """
    changed = []
    for file in sorted(folder.glob("*.ipynb")):
        old = file.read_text()
        new, count = LINE.subn(lambda found: found[1] + address, old)
        if count != 1:
            raise ValueError(f"{file}: {count} lines set REPOSITORY; its first cell needs one")
        if new != old:
            file.write_text(new)
            changed.append(file)
    return changed


if __name__ == "__main__":
    for file in write(address(), ROOT / "notebooks"):
        print("changed", file.relative_to(ROOT))
