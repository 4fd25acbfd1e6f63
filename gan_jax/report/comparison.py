"""A page that compares several runs: curves over each other, grids and scores side by side."""

import os
from collections.abc import Sequence
from typing import Any

from gan_jax.report import frames, markup, page, panels, scores, series
from gan_jax.report.frames import Pictures
from gan_jax.report.markup import text
from gan_jax.report.panels import COLOURS
from gan_jax.report.run_view import RunView

GRID_BYTES = 2_400_000  # of the grids of all runs


def write(views: Sequence[RunView], out: str | os.PathLike[str]) -> None:
    """Writes one page about two or more runs to the file `out`; the page stays below 5 MB.

    Raises ArgumentError of "out" if the file cannot be written.
    """
    labels = distinct(views)
    found = {label: series.by_name(view.rows) for label, view in zip(labels, views, strict=True)}
    drawn = panels.of_runs(found, [view.best for view in views], _classes(views))
    sections = [
        grids(labels, views),
        markup.section("scores", "Scores", score_table(labels, views)),
        page.curves(drawn, "Each panel shows one metric of all runs."),
        markup.section("config", "Config", settings_table(labels, views)),
    ]
    body = f"{header(labels, views, sections)}\n<main>\n{''.join(filter(None, sections))}\n</main>"
    data = {"curves-data": drawn, "frames-data": page.film_data([]), "runs-data": labels}
    markup.write(out, markup.document(_title(labels), body, data))


def distinct(views: Sequence[RunView]) -> list[str]:
    """A name for each run: as much of the end of its folder's path as tells it from the others."""
    places = [view.folder.resolve().parts for view in views]
    for length in range(1, max(map(len, places))):
        ends = ["/".join(parts[-length:]) for parts in places]
        if len(set(ends)) == len(ends):
            return ends
    return [str(view.folder) for view in views]


def _title(labels: Sequence[str]) -> str:
    return f"Comparison of {len(labels)} runs"


def header(labels: Sequence[str], views: Sequence[RunView], sections: Sequence[str]) -> str:
    """What the runs are, each with the colour of its curves."""
    runs = [
        f"<li>{swatch(place)}<div><b>{text(label)}</b> {page.badge(view)} "
        f"<span class=soft>{text(view.progress)}</span><br>{text(view.sentence)}</div></li>"
        for place, (label, view) in enumerate(zip(labels, views, strict=True))
    ]
    return (
        f"<header>\n<h1>{text(_title(labels))}</h1>\n<ul class=runs>{''.join(runs)}</ul>\n"
        f"{page.contents(sections)}\n</header>"
    )


def swatch(place: int) -> str:
    """The colour of a run's curves; from the ninth run on they are dashed."""
    dashed = " dashed" if place >= COLOURS else ""
    return f'<span class="swatch c{place % COLOURS}{dashed}" aria-hidden=true></span>'


def _classes(views: Sequence[RunView]) -> Sequence[str]:
    """The names of the classes, if they are the same in all runs."""
    return views[0].classes if len({tuple(view.classes) for view in views}) == 1 else ()


def grids(labels: Sequence[str], views: Sequence[RunView]) -> str:
    """The newest grid of each run, of averaged weights where there are any."""
    pictures, figures = Pictures(), []
    for place, (label, view) in enumerate(zip(labels, views, strict=True)):
        found = frames.listed(view.folder / "samples")
        chosen = found.get("ema") or next(iter(found.values()), [])
        if chosen:
            step, path = chosen[-1]
            small = pictures.small(path, frames.NEWEST_SIDE, GRID_BYTES // len(views))
            if small:
                figures.append(page.figure(small, label, step=step, before=swatch(place)))
    shown = f"<div class=figures data-choose>{''.join(figures)}</div>" if figures else ""
    return markup.section("samples", "Newest samples", shown)


def score_table(labels: Sequence[str], views: Sequence[RunView]) -> str:
    """The newest and the best value of every score of any run; the best of a line stands out."""
    found = [
        {score.key: score for score in scores.of_rows(v.rows, v.directions, v.best, v.stage_start)}
        for v in views
    ]
    classes, whole, parts = _classes(views), [], []
    for key in dict.fromkeys(key for own in found for key in own):
        own = [scored.get(key) for scored in found]
        mode = next((score.mode for score in own if score and score.mode), "")
        lines = parts if scores.is_part(key) else whole
        lines.append((page.metric(key, mode, classes), *_cells(own, mode)))
    head = ["Score", *(swatch(i) + text(label) for i, label in enumerate(labels))]
    return page.score_tables(head, whole, parts)


def _cells(own: Sequence[scores.Score | None], mode: str) -> list[str]:
    """A score's cell for each run: the best value, where there is one, and the newest."""
    best = [score.best.value if score and score.best else None for score in own]
    winners, cells = scores.winners(best, mode), []
    for place, score in enumerate(own):
        if score is None:
            cells.append("<span class=soft>–</span>")
            continue
        newest = text(markup.value(score.newest.value))
        if score.best is None:
            cells.append(newest)
            continue
        top = f"<b>{text(markup.value(score.best.value))}</b>"
        top = f"<mark>{top}</mark>" if place in winners else top
        step = text(markup.value(score.best.step))
        cells.append(f"{top} <span class=soft>step {step}<br>newest {newest}</span>")
    return cells


def settings_table(labels: Sequence[str], views: Sequence[RunView]) -> str:
    """The settings in which the runs differ."""
    missing = object()
    lines = []
    for key in dict.fromkeys(key for view in views for key in view.settings):
        own = [view.settings.get(key, missing) for view in views]
        if any(found != own[0] for found in own):
            cells = ["–" if found is missing else text(markup.setting(found)) for found in own]
            lines.append((markup.key(key), *cells))
    if not lines:
        return "<p class=soft>The runs have the same settings.</p>"
    head: list[Any] = ["Setting", *(swatch(i) + text(label) for i, label in enumerate(labels))]
    return markup.table(head, lines[: page.MOST_SETTINGS], "settings")
