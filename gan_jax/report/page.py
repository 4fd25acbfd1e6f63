"""A self-contained HTML page about a run, which opens anywhere, offline, and can be mailed."""

import base64
import html
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_jax import files
from gan_jax.errors import ArgumentError, UserError
from gan_jax.report import curves

MOST_FRAMES = (
    40  # pictures per name; long runs show evenly spaced ones, with the first and the last
)
SHOWN_IN_SUMMARY = 40

STYLE = """
:root { color-scheme: light; --line: #ddd; --soft: #666; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1320px; padding: 24px;
  color: #1b1b1b; background: #fff; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 18px; margin: 32px 0 8px; }
.soft { color: var(--soft); margin: 0 0 16px; }
table { border-collapse: collapse; font-size: 14px; }
td, th { padding: 3px 16px 3px 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: normal; color: var(--soft); white-space: nowrap; }
.columns { columns: 2 420px; column-gap: 48px; } .columns table { width: 100%; }
img { max-width: 100%; height: auto; } figure { margin: 0; }
.frames { display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }
.frames figure { flex: 0 1 calc(50% - 12px); min-width: 320px; }
figcaption { color: var(--soft); font-size: 14px; margin-bottom: 4px; }
.time { display: flex; gap: 12px; align-items: center; margin: 8px 0 16px; }
.time input { flex: 1; max-width: 700px; } output { font-variant-numeric: tabular-nums; }
button { font: inherit; padding: 2px 14px; }
details > summary { cursor: pointer; }
"""

SCRIPT = """
const data = JSON.parse(document.getElementById("frames").textContent);
const slider = document.getElementById("slider"), label = document.getElementById("step");
const play = document.getElementById("play");
let timer = null;
function show(at) {
  const step = data.steps[at];
  label.textContent = "step " + step.toLocaleString("en");
  for (const [index, frames] of data.series.entries()) {
    let frame = frames[0];
    for (const candidate of frames) if (candidate[0] <= step) frame = candidate;
    document.getElementById("frame" + index).src = frame[1];
    document.getElementById("at" + index).textContent = "step " + frame[0].toLocaleString("en");
  }
}
function stop() { clearInterval(timer); timer = null; play.textContent = "play"; }
slider.addEventListener("input", () => { stop(); show(+slider.value); });
play.addEventListener("click", () => {
  if (timer) return stop();
  if (+slider.value === data.steps.length - 1) slider.value = -1;
  play.textContent = "pause";
  timer = setInterval(() => {
    slider.value = +slider.value + 1; show(+slider.value);
    if (+slider.value === data.steps.length - 1) stop();
  }, 400);
});
"""

# makes the browser refuse every request, even if a text in the run contains one
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(workdir: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Writes the page of the run in `workdir` to the file `out`.

    It shows, if they exist: summary.json; the curves, drawn anew from metrics.jsonl; the sample
    grids `samples/NNNNNN_<name>.png` with a slider over the steps, at most 40 of each name; other
    pictures in the folder (real images, nearest neighbours); config.json.

    Raises:
        UserError: `workdir` is not the folder of a run, or `out` cannot be written.
    """
    workdir = Path(workdir)
    if not any((workdir / name).exists() for name in ("config.json", "metrics.jsonl")):
        raise UserError(
            f"{workdir} is not the folder of a run: it has neither config.json nor metrics.jsonl; "
            "give the folder of a training run"
        )
    title = workdir.resolve().name
    rows = curves.read_rows(workdir / "metrics.jsonl")
    state = f"at step {max(row['step'] for row in rows):,}" if rows else "nothing logged yet"
    parts = [
        f"<h1>{_text(title)}</h1><p class=soft>{state}</p>",
        _section("Summary", _table(_read_json(workdir / "summary.json"), SHOWN_IN_SUMMARY)),
        _frames(workdir / "samples"),
        _section("Curves", _image(curves.draw(rows), "curves") if rows else ""),
        _pictures(workdir),
        _config(_read_json(workdir / "config.json")),
    ]
    body = "\n".join(part for part in parts if part)
    document = (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name=viewport content="width=device-width">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )
    try:
        files.write_bytes(out, document.encode("utf-8", "replace"))
    except OSError as error:
        raise ArgumentError(
            "out",
            f": {out} cannot be written ({error.strerror}); name a file in a folder that "
            "exists and is yours",
        ) from error


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _section(title: str, content: str) -> str:
    return f"<h2>{_text(title)}</h2>\n{content}" if content else ""


def _image(png: bytes, name: str) -> str:
    return f'<img src="{_data_uri(png)}" alt="{_text(name)}">'


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _read_json(path: Path) -> dict[str, Any]:
    """The file's values by dotted name; {} for a file that is missing or damaged."""
    try:
        content = files.read_json(path)
    except (OSError, ValueError):
        return {}
    return _flatten(content) if isinstance(content, dict) else {}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _table(values: Mapping[str, Any], most: int | None = None) -> str:
    rows = [
        f"<tr><th>{_text(key)}</th><td>{_text(_value(value))}</td></tr>"
        for key, value in list(values.items())[:most]
    ]
    return f"<table>{''.join(rows)}</table>" if rows else ""


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else str(value)
    return value if isinstance(value, str) else json.dumps(value)


def _config(values: Mapping[str, Any]) -> str:
    table = _table(values)
    if not table:
        return ""
    fold = f"<details open><summary>{len(values)} settings</summary>"
    return _section("Config", f"{fold}<div class=columns>{table}</div></details>")


def _pictures(workdir: Path) -> str:
    """Pictures in the run's folder itself, beside the curves."""
    figures = [
        f"<figure><figcaption>{_text(path.stem.replace('_', ' '))}</figcaption>"
        f"{_image(path.read_bytes(), path.stem)}</figure>"
        for path in sorted(workdir.glob("*.png"))
        if path.name != "curves.png" and path.is_file()
    ]
    return _section("Pictures", f"<div class=frames>{''.join(figures)}</div>" if figures else "")


def _frames(folder: Path) -> str:
    """The sample grids over time, with one slider for all names, so that they can be compared."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted(folder.glob("*.png")):
        match = re.fullmatch(r"(\d+)_(.+)", path.stem)
        if match and path.is_file():
            found.setdefault(match[2], []).append((int(match[1]), path))
    if not found:
        return ""
    series = [_even_choice(sorted(frames)) for frames in found.values()]
    steps = sorted({step for frames in series for step, _ in frames})
    encoded = [[[step, _data_uri(path.read_bytes())] for step, path in f] for f in series]
    figures = [
        f"<figure><figcaption>{_text(name)} · <span id=at{index}>step {frames[-1][0]:,}</span>"
        f'</figcaption><img id=frame{index} alt="{_text(name)}" src="{frames[-1][1]}"></figure>'
        for index, (name, frames) in enumerate(zip(found, encoded, strict=True))
    ]
    # the script's data is only numbers and base64, so nothing in it can close the element
    data = json.dumps({"steps": steps, "series": encoded})
    last = len(steps) - 1
    control = (
        "<div class=time><button id=play>play</button>"
        f'<input id=slider type=range min=0 max={last} value={last} aria-label="step">'
        f"<output id=step>step {steps[-1]:,}</output></div>"
    )
    script = f"<script type=application/json id=frames>{data}</script>\n<script>{SCRIPT}</script>"
    content = f"{control}\n<div class=frames>{''.join(figures)}</div>\n{script}"
    return _section("Samples over time", content)


def _even_choice(frames: list[tuple[int, Path]]) -> list[tuple[int, Path]]:
    if len(frames) <= MOST_FRAMES:
        return frames
    last = len(frames) - 1
    return [frames[round(i * last / (MOST_FRAMES - 1))] for i in range(MOST_FRAMES)]
