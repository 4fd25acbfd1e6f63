"""Folders of runs that nobody trained, for what is made from a run's files."""

import html.parser
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gan_jax.report import grids

CONFIG = {
    "system": "gan",
    "seed": 7,
    "batch_size": 64,
    "data": {"source": "digits", "path": "", "flip": False},
    "best": {"metric": "fd_classifier", "mode": "min"},
    "run": {"steps": "400"},
}
FACTS = {
    "resolution": 28,
    "channels": 1,
    "num_classes": 4,
    "train_size": 10_000,
    "input_channels": 0,
    "class_names": ["cat", "dog", "bird", "cow"],
}


def rows(steps: int = 40, seed: int = 0, scores: Callable[[int], dict] | None = None) -> list[dict]:
    """Rows of metrics.jsonl up to ten times that step.

    `scores` gives those of an evaluation at a step; by default the lowest fd_classifier is at step
    300, or at the last evaluation if there are fewer.
    """

    def usual(step: int) -> dict:
        found = {"val/gen": 1 + 1 / step, "fd_classifier": 4 + seed + abs(step - 300) / 100}
        found |= {"class_entropy": 1.4 - 10 / step}
        return found | {f"class_fraction/{i}": 0.25 for i in range(4)}

    scores = scores or usual
    random, found = np.random.default_rng(seed), []
    for step in range(10, 10 * steps + 1, 10):
        row = {"loss/gen": random.normal(2, 0.3), "loss/disc": random.normal(0.7, 0.1)}
        row |= {"rate/gen": 2e-4, "rate/disc": 1e-4, "accuracy/real": random.uniform(0.5, 1)}
        row |= {"grad_norm/gen": random.lognormal(), "time/images_per_second": 800.0}
        found.append({"step": step, "kind": "train", **row})
        if step % 100 == 0:
            found.append({"step": step, "kind": "epoch", "epoch": step // 100, **row})
            found.append({"step": step, "kind": "eval", **scores(step)})
    return found


def write_rows(folder: Path, content: list[dict], tail: str = "") -> None:
    """Writes metrics.jsonl."""
    lines = "".join(json.dumps(row) + "\n" for row in content)
    (folder / "metrics.jsonl").write_text(lines + tail)


def make(folder: Path, seed: int = 0, **config) -> Path:
    """A finished run of 400 steps with grids of raw and averaged weights; `config` replaces keys of
    its config."""
    (folder / "samples").mkdir(parents=True)
    content = rows(seed=seed)
    write_rows(folder, content)
    about = {
        "config": {**CONFIG, **config},
        "data": FACTS,
        "devices": {"platform": "cpu", "count": 1},
        "versions": {"jax": "0.10.2"},
        "git": "0" * 40,
        "written": "2026-01-02T03:04:05+00:00",
    }
    (folder / "config.json").write_text(json.dumps(about))
    summary = {"reason": "finished", "step": 400, "train_seconds": 75.0}
    (folder / "summary.json").write_text(json.dumps(summary))
    for step in (0, 200, 400):
        for shade, name in enumerate(("ema", "raw")):
            image = np.full((4, 8, 8, 1), step // 2 + 20 * shade, np.uint8)
            grids.save_grid(folder / "samples" / f"{step:06d}_{name}.png", image)
    grids.save_grid(folder / "reals.png", np.full((4, 8, 8, 1), 77, np.uint8))
    grids.save_png(folder / "curves.png", np.zeros((4, 4, 3), np.uint8))
    grids.save_grid(folder / "neighbours.png", np.full((4, 8, 8, 1), 99, np.uint8))
    return folder


class Parsed(html.parser.HTMLParser):
    """A page as a browser reads it: its tags, its texts, and the addresses in it.

    `data` holds the JSON of the page by the name of its element.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.addresses, self.texts, self.titles = [], [], [], []
        self.data: dict[str, object] = {}
        self._open = ""
        self.source = path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.addresses += [found[k] for k in ("src", "href", "srcset", "action") if k in found]
        self.titles += [found["title"]] if "title" in found else []
        self._open = tag if tag in ("script", "style") else ""
        self._name = found.get("id", "")

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open == "script" and self._name:
            self.data[self._name] = json.loads(data)
        elif not self._open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """What a person reads."""
        return " ".join(" ".join(self.texts).split())
