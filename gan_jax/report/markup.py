"""The frame of a page: one HTML document that holds everything it shows and fetches nothing."""

import base64
import hashlib
import html
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_jax import files
from gan_jax.errors import ArgumentError
from gan_jax.report.frames import Picture

HERE = Path(__file__).parent
LONGEST = 300  # characters of a value that are shown


def text(value: Any) -> str:
    """A text for an element or an attribute, in which nothing is markup."""
    return html.escape(_legible(str(value)), quote=True)


def _legible(value: str) -> str:
    """A text that UTF-8 can spell: names of files may hold bytes that are no text."""
    return value.encode(errors="replace").decode()


def value(found: Any) -> str:
    """A value as a person reads it."""
    if isinstance(found, bool) or found is None:
        return json.dumps(found)
    if isinstance(found, int):
        return f"{found:,}" if abs(found) < 10**15 else _cut(str(found))
    if isinstance(found, float):
        return f"{found:.6g}" if math.isfinite(found) else str(found)
    if isinstance(found, str):
        return _cut(found) if found else '""'
    return _cut(json.dumps(found, ensure_ascii=False, default=str))


def _cut(shown: str) -> str:
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"


def breakable(name: str) -> str:
    """A dotted name as markup that may be broken into lines at its dots and underscores."""
    return re.sub("([._/])", r"\1<wbr>", text(name))


def key(name: str) -> str:
    """A dotted name as an element; see `breakable`."""
    return f"<code>{breakable(name)}</code>"


def setting(found: Any) -> str:
    """A value of a config as it is written there."""
    plain = isinstance(found, int) and not isinstance(found, bool)
    return _cut(str(found)) if plain else value(found)


def section(name: str, title: str, *parts: str) -> str:
    """A section with a heading, or "" if all of its parts are empty."""
    content = "\n".join(filter(None, parts))
    return f"<section id={name}>\n<h2>{text(title)}</h2>\n{content}\n</section>" if content else ""


def folded(title: str, content: str, name: str = "") -> str:
    """Content under a line that opens it."""
    if not content:
        return ""
    place = f" id={name}" if name else ""
    return f"<details{place}><summary>{text(title)}</summary>\n{content}\n</details>"


def table(head: Sequence[str], lines: Iterable[Sequence[str]], style: str = "") -> str:
    """A table whose cells are markup, the first of each line a heading; "" without lines. It
    scrolls where it is too wide."""
    body = "\n".join(
        f"<tr><th scope=row>{line[0]}</th>{''.join(f'<td>{cell}</td>' for cell in line[1:])}</tr>"
        for line in lines
    )
    if not body:
        return ""
    top = "".join(f"<th scope=col>{cell}</th>" for cell in head)
    top = f"<thead><tr>{top}</tr></thead>" if head else ""
    return (
        f'<div class=scroll tabindex=0 role=group aria-label="table"><table class="{style}">{top}'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def pairs(lines: Iterable[tuple[str, str]]) -> str:
    """A table of two columns, of texts."""
    return table((), [(breakable(label), text(shown)) for label, shown in lines], "pairs")


def uri(picture: Picture) -> str:
    """A picture as an address that holds the picture itself."""
    return "data:image/webp;base64," + base64.b64encode(picture.data).decode()


def image(picture: Picture, label: str, attributes: str = "") -> str:
    """A picture as an element; `attributes` are markup."""
    size = f"width={picture.width} height={picture.height}"
    return f'<img {size} alt="{text(label)}" {attributes} src="{uri(picture)}">'


def embedded(name: str, values: Any) -> str:
    """Values as JSON in an element that scripts can read. No text in it can end the element."""
    content = json.dumps(values, allow_nan=False, separators=(",", ":"))  # ASCII
    content = content.replace("<", "\\u003c")
    return f'<script type="application/json" id={name}>{content}</script>'


def document(title: str, body: str, data: Mapping[str, Any]) -> bytes:
    """The whole page; each of `data` is embedded under its name."""
    style, *scripts = (
        (HERE / name).read_text(encoding="utf-8") for name in ("page.css", "charts.js", "page.js")
    )
    script = "".join(scripts)
    # the browser refuses every request and every other script, even if a text in the run holds one
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    parts = [
        "<!doctype html>",
        "<html lang=en><head><meta charset=utf-8>",
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name=viewport content="width=device-width, initial-scale=1">',
        '<meta name=color-scheme content="light dark">',
        '<link rel=icon href="data:,">',
        f"<title>{text(title)}</title>",
        f"<style>{style}</style></head>",
        f"<body>\n{body}",
        *(embedded(name, values) for name, values in data.items()),
        f"<script>{script}</script>\n</body></html>\n",
    ]
    return "\n".join(parts).encode("utf-8", "replace")  # a path may be any bytes


def write(out: str | os.PathLike[str], page: bytes) -> None:
    """Writes a page whole or not at all. Raises ArgumentError of "out" if it cannot be written."""
    try:
        files.write_bytes(out, page)
    except OSError as error:
        raise ArgumentError(
            "out",
            f": {out} cannot be written ({error.strerror or error}); name a file in a folder that "
            "exists and is yours",
        ) from error
