"""What a `Writer` has written, and pictures for it to write."""

import json
import time

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PIXELS = np.zeros((2, 4, 4, 1), np.uint8)


def save_grid(path, images):
    """A picture of the right kind, as the report room makes them."""
    path.write_bytes(b"a picture")
    return np.full((4, 4, 3), len(images), np.uint8)


def rows(workdir):
    """The rows without their times, which must be about now."""
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert all(abs(row.pop("wall_time", time.time()) - time.time()) < 600 for row in found)
    return found


def events(workdir) -> dict[str, list[tuple[int, float]]]:
    """Scalars as TensorBoard reads them: {tag: [(step, value)]}."""
    accumulator = EventAccumulator(str(workdir / "events"))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {t: sorted((e.step, e.value) for e in accumulator.Scalars(t)) for t in tags}
