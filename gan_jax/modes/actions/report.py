"""HTML pages about a run, or about several runs beside each other."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from gan_jax.errors import UserError
from gan_jax.files import check_file
from gan_jax.report import comparison, page
from gan_jax.run.view import view

logger = logging.getLogger(__name__)


def report(workdirs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str] = "") -> Path:
    """Writes the page of one run, or the comparison of several; returns the file.

    Args:
      workdirs: the folders of the runs, at least one.
      out: the .html file; "" for report.html in the folder of a single run, and for
        comparison.html in the working directory where there are several.

    Raises UserError if one of them is not the folder of a run, if one is named twice, or if `out`
    cannot be written.
    """
    places = [Path(workdir) for workdir in workdirs]
    seen: set[Path] = set()
    for place in places:
        if place.resolve() in seen:
            raise UserError(f"--workdir names {place} twice: name each run once")
        seen.add(place.resolve())
    views = [view(place) for place in places]
    for seen in views:
        if not seen.settings:
            logger.warning(
                f"{seen.folder}: config.json is missing or damaged, so the page shows neither the "
                "settings nor the command of this run"
            )
    several = len(views) > 1
    target = Path(out) if out else Path("comparison.html") if several else places[0] / "report.html"
    check_file(target)
    if several:
        comparison.write(views, target)
    else:
        page.write(views[0], target)
    return target
