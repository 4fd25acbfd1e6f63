"""A self-contained HTML page about a run, which opens anywhere, offline, and can be mailed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from gan_jax.patience import is_file
from gan_jax.report import frames, markup, names, panels, scores, series
from gan_jax.report.frames import Film, Picture, Pictures
from gan_jax.report.markup import text
from gan_jax.report.run_view import RunView, SavedState, Setting

LABELS = {  # of grids and other pictures
    "raw": "Raw weights",
    "ema": "Averaged weights (EMA)",
    "reals": "Real images",
    "neighbours": "Samples beside their closest training images",
}
STATUS = {  # a run's status in words
    "training": "Training",
    "finished": "Finished",
    "stopped": "Stopped",
    "interrupted": "Interrupted",
    "empty": "Nothing logged yet",
}
BETTER = {"min": "lower is better", "max": "higher is better", "": ""}
DRAWN_ELSEWHERE = ("curves", "reals")  # pictures that the page has in another form or place
MOST_OTHERS, OTHER_SIDE, OTHER_BYTES = 8, 1200, 450_000  # other pictures, bytes of all of them
REALS_BYTES = 250_000
MOST_SETTINGS = 1000


def write(view: RunView, out: str | os.PathLike[str]) -> None:
    """Writes the page of a run, as `made` makes it, to the .html file `out`.

    Raises ArgumentError of "out" if the file cannot be written.
    """
    markup.write(out, made(view))


def made(view: RunView, pictures: Pictures | None = None, seconds: float | None = None) -> bytes:
    """The page of a run, which stays below 5 MB.

    It shows, as far as they exist: what the run is and how it goes on; the sample grids with a
    slider over the steps, beside real images; scores; curves; other pictures of the folder; the
    config, saved states and environment.

    Args:
      view: what is shown.
      pictures: remembers small pictures between pages of the same run.
      seconds: roughly how long pictures may be made small; older grids that are not ready by then
        are left out. None: as long as it takes.
    """
    pictures = pictures or Pictures()
    films = frames.films(view.folder / "samples", pictures, seconds)
    found = series.by_name(view.rows)
    drawn = panels.of_run(found, view.best, view.classes)
    sections = [
        samples(view.folder, films, pictures),
        markup.section("scores", "Scores", score_table(view)),
        curves(drawn),
        other_pictures(view.folder, pictures),
        config(view.changed, view.settings),
        states(view.states, view.states_left_out),
        markup.section("environment", "Environment", environment(view.environment)),
    ]
    body = f"{header(view, sections)}\n<main>\n{''.join(filter(None, sections))}\n</main>"
    data = {"curves-data": drawn, "frames-data": film_data(films)}
    return markup.document(view.name, body, data)


def header(view: RunView, sections: Iterable[str]) -> str:
    """What the run is, how far it has got, and the command with which it goes on."""
    lead = f"<p class=lead>{text(view.sentence)}</p>" if view.sentence else ""
    return "\n".join(
        [
            f"<header>\n<p class=status>{badge(view)} <span>{text(view.progress)}</span></p>",
            f"<h1>{text(view.name)}</h1>\n{lead}\n{facts(view)}\n{command(view)}",
            f"{contents(sections)}\n</header>",
        ]
    )


def badge(view: RunView) -> str:
    """The run's status in a word or two."""
    return f'<span class="badge {text(view.status)}">{STATUS[view.status]}</span>'


def facts(view: RunView) -> str:
    """What there is to know at a glance: the best value, the speed, the times."""
    lines = [(label, text(shown)) for label, shown in view.facts]
    lines += [(label, moment(iso)) for label, iso in view.times]
    if view.best and view.best.found:
        metric, mode, found = view.best
        value, step = text(markup.value(found.value)), text(markup.value(found.step))
        name = f"{text(names.words(metric, view.classes))}, {BETTER[mode]}"
        line = f"<b>{value}</b> at step {step}<br>"
        line += f'<span class=soft title="{text(metric)}">{name}</span>'
        lines.insert(0, ("Best state", line))
    shown = "".join(f"<div><dt>{text(label)}</dt><dd>{line}</dd></div>" for label, line in lines)
    return f"<dl class=facts>{shown}</dl>" if shown else ""


def command(view: RunView) -> str:
    """The command with which the run goes on, to be copied."""
    if not view.command:
        return ""
    # a line is broken between words, not behind the hyphens of a flag
    words = " ".join(f"<span>{text(word)}</span>" for word in view.command.split(" "))
    return (
        f"<p class=soft>{text(view.advice)}</p>\n<div class=command><code>{words}</code>"
        "<button type=button class=copy hidden>Copy</button></div>"
    )


def moment(iso: str) -> str:
    """A time as an element that the page's script shows in the reader's own time zone."""
    shown = iso.replace("T", " ").replace("+00:00", " UTC")
    return f'<time datetime="{text(iso)}">{text(shown)}</time>'


def contents(sections: Iterable[str]) -> str:
    """Links to the sections that are not empty."""
    links = []
    for section in filter(None, sections):
        name = section.partition("<section id=")[2].partition(">")[0]
        title = section.partition("<h2>")[2].partition("</h2>")[0]
        links.append(f'<a href="#{name}">{title}</a>')
    return f"<nav aria-label=sections>{''.join(links)}</nav>" if links else ""


def samples(folder: Path, films: Sequence[Film], pictures: Pictures) -> str:
    """The grids over time, with one slider for all names, beside real images."""
    figures = [
        figure(film.newest, label(film.name), f"data-film={place}", step=film.frames[-1][0])
        for place, film in enumerate(films)
    ]
    real = pictures.small(folder / "reals.png", OTHER_SIDE, REALS_BYTES)
    if real:
        figures.append(figure(real, LABELS["reals"]))
    steps = film_steps(films)
    control = ""
    if len(steps) > 1:
        last = len(steps) - 1
        control = (
            "<div class=time><button type=button id=play aria-pressed=false>Play</button>"
            f'<input id=slider type=range min=0 max={last} value={last} aria-label="training step">'
            f"<output id=step for=slider>step {steps[-1]:,}</output></div>"
        )
    shown = f"<div class=figures data-choose>{''.join(figures)}</div>" if figures else ""
    title = "Samples over time" if films else "Real images"
    return markup.section("samples", title, control, shown)


def figure(
    picture: Picture, title: str, attributes: str = "", step: int | None = None, before: str = ""
) -> str:
    """A picture under its title, which opens in full size. `attributes` and what stands `before`
    the title are markup."""
    at = f" <span class=soft>step {step:,}</span>" if step is not None else ""
    large = f'<button type=button class=enlarge aria-label="enlarge: {text(title)}">'
    return (
        f"<figure {attributes}><figcaption>{before}<b>{text(title)}</b>{at}</figcaption>"
        f"{large}{markup.image(picture, title)}</button></figure>"
    )


def label(name: str) -> str:
    """The title of a picture by its name."""
    return LABELS.get(name, names.capital(name.replace("_", " ")))


def film_steps(films: Iterable[Film]) -> list[int]:
    """Every step at which there is a grid."""
    return sorted({step for film in films for step, _ in film.frames})


def film_data(films: Sequence[Film]) -> dict[str, Any]:
    """The grids as JSON values: {"steps", "films": [[[step, address], …], …]}. The newest grid of a
    name has null for its address, since the page shows it already."""
    return {
        "steps": film_steps(films),
        "films": [
            [[step, markup.uri(p)] for step, p in film.frames[:-1]] + [[film.frames[-1][0], None]]
            for film in films
        ],
    }


def score_table(view: RunView) -> str:
    """The newest and the best value of every score; the parts of scores are folded."""
    whole, parts = [], []
    for score in scores.of_rows(view.rows, view.directions, view.best, view.stage_start):
        name = metric(score.key, score.mode, view.classes)
        if view.best and score.key == view.best.metric:
            name += " <span class=tag>picks the best state</span>"
        best = _at_step(score.best) if score.best else "<span class=soft>–</span>"
        lines = parts if scores.is_part(score.key) else whole
        lines.append((name, _at_step(score.newest), best))
    return score_tables(("Score", "Newest", "Best"), whole, parts)


def score_tables(
    head: Sequence[str], whole: Sequence[Sequence[str]], parts: Sequence[Sequence[str]]
) -> str:
    """A table of scores, and a folded one of their parts, such as values of single classes."""
    more = markup.table(head, parts, "numbers")
    return markup.table(head, whole, "numbers") + markup.folded(f"Parts ({len(parts)})", more)


def metric(key: str, mode: str, classes: Sequence[str] = ()) -> str:
    """A metric's name in words, with its key as a tooltip, and whether lower or higher is better
    (`mode` is "min", "max" or "")."""
    name = f'<span title="{text(key)}">{text(names.title(key, classes))}</span>'
    return f"{name}<br><span class=soft>{BETTER[mode]}</span>" if mode else name


def _at_step(found: series.Extreme) -> str:
    value, step = markup.value(found.value), markup.value(found.step)
    return f"<b>{text(value)}</b> <span class=soft>step {text(step)}</span>"


def curves(drawn: Sequence[Mapping[str, Any]], note: str = "") -> str:
    """The place where the page's script draws the curves."""
    if not drawn:
        return ""
    averaged = any(line["faint"] for s in drawn for p in s["panels"] for line in p["lines"])
    note = note or ("Strong lines are averages, faint ones single steps." if averaged else "")
    hint = (
        f"<p class=soft>{note} Point at a curve to read its values, or focus it and use the arrow "
        "keys; click a name to hide its line.</p>"
    )
    return markup.section(
        "curves",
        "Curves",
        hint,
        "<div id=charts></div>",
        "<noscript><p>The curves are drawn by a script, which is switched off here.</p></noscript>",
    )


def other_pictures(folder: Path, pictures: Pictures) -> str:
    """Pictures in the run's folder itself, beside those that the page has elsewhere."""
    paths = [
        path
        for path in sorted(folder.glob("*.png"))
        if path.stem not in DRAWN_ELSEWHERE and is_file(path)
    ][:MOST_OTHERS]
    found = [
        figure(small, label(path.stem))
        for path in paths
        if (small := pictures.small(path, OTHER_SIDE, OTHER_BYTES // len(paths)))
    ]
    shown = f"<div class=figures>{''.join(found)}</div>" if found else ""
    return markup.section("pictures", "Other pictures", shown)


def config(changed: Sequence[Setting], settings: Mapping[str, Any]) -> str:
    """The settings that are not the default, and all of them, folded, by section."""
    lines = [
        (
            markup.key(s.key),
            f"<b>{text(markup.setting(s.value))}</b>"
            + (" <span class=tag>command line</span>" if s.typed else ""),
            f"<span class=soft>{text(markup.setting(s.usual))}</span>",
        )
        for s in changed
    ]
    few = markup.table(("Setting", "Value", "Default"), lines, "settings")
    usual = "<p class=soft>Every setting has its default value.</p>" if settings else ""
    groups = [
        f"<h3>{text(name or 'general')}</h3>{markup.pairs(group)}"
        for name, group in _by_group(settings)
    ]
    every = f"<div class=columns>{''.join(f'<div>{group}</div>' for group in groups)}</div>"
    every = markup.folded(f"All {len(settings)} settings", every) if groups else ""
    return markup.section("config", "Config", few or usual, every)


def _by_group(settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """(name of a section, its settings as texts); those outside of all sections come first."""
    shown = [*settings.items()][:MOST_SETTINGS]
    ordered = sorted(shown, key=lambda item: "." in item[0])
    return [
        (name, [(key.removeprefix(f"{name}."), markup.setting(found)) for key, found in group])
        for name, group in groupby(ordered, lambda item: item[0].rpartition(".")[0])
    ]


def states(saved: Sequence[SavedState], left_out: int = 0) -> str:
    """Where the saved states are."""
    lines = [(markup.key(s.path), f"{s.step:,}", text(s.note)) for s in saved]
    more = f"<p class=soft>… and {left_out:,} more</p>" if left_out else ""
    table = markup.table(("Folder", "Step", ""), lines, "settings")
    return markup.section("states", "Saved states", table, more)


def environment(lines: Sequence[tuple[str, str]]) -> str:
    """Versions, devices and the revision of the code, folded."""
    return markup.folded("Versions, devices and the revision of the code", markup.pairs(lines))
