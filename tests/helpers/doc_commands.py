"""Commands and Python code in README and docs."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALL = re.compile(r"(?:python launch\.py|^(?:\w+=\S+ )*gan_jax)(?: (.*)|$)")
SHELL = re.compile(
    r"^```bash\n(.*?)^```$|`((?:\S*python launch\.py|gan_jax) [^`\n]+)`", re.M | re.S
)


class Block(NamedTuple):
    """A fenced block: its language, the title of the file that it shows, and its lines."""

    language: str
    title: str
    text: str


def name(page: Path) -> str:
    """What a page is called: its path in the checkout."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = re.findall(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', page.read_text(), re.M | re.S)
    return [Block(*parts) for parts in found]


def write_files(folder: Path) -> None:
    """Writes the files that pages tell their readers to write."""
    for page in PAGES:
        for block in blocks(page):
            if block.title:
                (folder / block.title).write_text(block.text)


def commands(page: Path) -> list[list[str]]:
    """The words that each call of launch.py or gan_jax on a page passes to it, in order.

    Calls in blocks may go on over several lines and use variables that the block sets before. Calls
    within a sentence stand between backticks.
    """
    found = []
    for part in SHELL.findall(page.read_text()):
        variables = {}
        for line in "".join(part).replace("\\\n", " ").splitlines():
            if assigned := re.fullmatch(r'(\w+)="(.*)"', line.strip()):
                variables["$" + assigned[1]] = assigned[2]
                continue
            for variable, value in variables.items():
                line = line.replace(variable, value)
            if call := CALL.search(line):
                found.append(_words(call[1] or ""))
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # the quote that ends a command for another host
        return shlex.split(text.rstrip().removesuffix("'"))
