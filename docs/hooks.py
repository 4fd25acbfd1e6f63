"""What the site needs beyond its pages: tables made from the code, and links to files of the code.

mkdocs calls `on_page_markdown` for every page; mkdocs.yml names this file.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import config_keys
from mkdocs.exceptions import PluginError

from gan_jax.modes import MODES, flags, parsing

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s#]+)(#[^()\s]*)?\)")
FENCE = re.compile(r"(^```.*?^```$)", re.M | re.S)
CODE = re.compile(r"<code>.*?</code>", re.S)
# flags, and configs with a variant such as gan_folder:laptop, outside of tags
IN_CODE = re.compile(r"(--[\w.]{1,28}|(?<![\w/.:])\w{1,20}:\w{1,12}(?![\w,]))(?![^<]*>)")
FLAG = re.compile(r"(?<![\w`-])(--[a-z][\w.]*(?:=[\w.]*\w)?)")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The text of a page with its tables filled in, and with links that work on the site.

    Raises PluginError for a link to a file that does not exist.
    """
    for name, make in TABLES.items():
        marker = f"<!-- table: {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    parts = FENCE.split(markdown)  # code is left alone
    parts[::2] = [linked(part, page.file.src_uri, repository()) for part in parts[::2]]
    return "".join(parts)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """The page with marks around flags and variants in its code, where no line is broken."""
    return CODE.sub(lambda code: IN_CODE.sub(r'<span class="whole">\1</span>', code[0]), html)


def repository() -> str:
    """The address of the repository that pyproject.toml names, "" if it names none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project.get("urls", {}).get("Repository", "").rstrip("/")


def linked(markdown: str, page: str, address: str) -> str:
    """The text with links out of docs/ turned into links to the repository.

    Without an address of the repository the text of such a link remains, without the link.

    Args:
      markdown: a part of a page.
      page: the page's path below docs/.
      address: of the repository, "" where there is none yet.

    Raises PluginError for a link to a file that does not exist.
    """
    docs = ROOT / "docs"

    def replaced(found: re.Match) -> str:
        picture, text, target, anchor = found.groups(default="")
        if picture or re.match(r"[a-z]+:", target):
            return found[0]
        path = (docs / page).parent.joinpath(target).resolve()
        if path.is_relative_to(docs):
            return found[0]
        if not path.exists():
            raise PluginError(f"docs/{page}: the link to {target} leads to no file")
        place = path.relative_to(ROOT).as_posix()
        return f"[{text}]({address}/blob/main/{place}{anchor})" if address else text

    return LINK.sub(replaced, markdown)


def flag_tables() -> str:
    """A section for each mode with its examples and a table of its flags."""
    general = flags.FlagValues()
    flags.general(general, ["launch.py"])
    parts = ["## Flags of every mode\n", _flag_table(general)]
    for name in MODES:
        module = parsing.load(name)
        about, _, examples = module.__doc__.strip().partition("\n\n")
        shown = "\n".join(line.removeprefix("    ") for line in examples.splitlines())
        parts += [f"## `--mode={name}`\n", f"{about}\n", f"```bash\n{shown}\n```\n"]
        parts.append(_flag_table(module.FLAGS))
    return "\n".join(parts)


def _flag_table(own: flags.FlagValues) -> str:
    rows = ["| flag | default | meaning |", "|---|---|---|"]
    for flag in flags.in_order(own):
        switch = flags.takes_no_value(flag)
        default = {True: "on", False: "off"}[flag.default] if switch else flag.default
        shown = "" if default in (None, "") else f"`{default}`"
        name = f"--[no]{flag.name}" if switch else f"--{flag.name}"
        rows.append(
            f"| `{name}`{{.whole}} | {shown} | {config_keys.cell(FLAG.sub(BACKTICKS, flag.help))} |"
        )
    return "\n".join(rows) + "\n"


BACKTICKS = r"`\1`"
TABLES = {"flags": flag_tables, "config keys": config_keys.tables}
