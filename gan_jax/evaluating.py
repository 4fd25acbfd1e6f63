"""`gan_jax.evaluate`: the scores of a trained model."""

import logging
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import cluster, shared_folder
from gan_jax.core.console import ProgressBar
from gan_jax.errors import ArgumentError
from gan_jax.evaluation import table
from gan_jax.files import write_json
from gan_jax.run import memory
from gan_jax.run.imported import measured
from gan_jax.run.model import Adjust, Model, as_it_is, load
from gan_jax.training import quality_of

logger = logging.getLogger(__name__)


def evaluate(
    workdir: str | Path,
    state: str = "newest",
    config: ConfigDict | None = None,
    adjust: Adjust = as_it_is,
    data: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """The validation losses by name and, if the run measures it, the quality of its images.

    What is done is logged while it goes on, and the scores at the end. They are also written to
    evaluate.json in the run's folder.

    Args:
      workdir: the folder of the run, or its address in a bucket, to which evaluate.json is copied.
      state: which one is evaluated, see `load`.
      config: its section `quality` is used in place of the run's, and quality is then always
        measured. An imported run, which has no data, also takes the section `data` from it.
      adjust: changes the model before it is evaluated.
      data: where the data are now, see `load`.

    Raises UserError for everything a user can get wrong.
    """
    with shared_folder.used(workdir) as folder:
        return _evaluated(Path(folder), state, config, adjust, data)


def _evaluated(
    folder: Path,
    state: str,
    config: ConfigDict | None,
    adjust: Adjust,
    data: Mapping[str, str] | None,
) -> dict[str, float]:
    """As `evaluate`, of a folder on the disk."""
    logger.info(f"reading the state {state} of {folder}")
    model = load(folder, state, data)
    if config is not None and config.system != model.config.system:
        raise ArgumentError(
            "config",
            f" is for config.system={config.system!r}, but {folder} holds a run of "
            f"{model.config.system!r}",
        )
    model = adjust(measured(model, config))
    if config is not None:
        configs.prepare(config)
        model.experiment.config.quality.update(config.quality)
        configs.check(model.experiment.config)
    scores, about = _losses(model), {}
    if model.experiment.system.sample_step is not None and (
        config is not None or model.experiment.measures_quality
    ):
        named = ", ".join(model.experiment.config.quality.metrics)
        logger.info(f"preparing the metrics {named}")
        # the run goes on with what its own config asks for
        measure = quality_of(model.experiment, folder, model.stage, keep=config is None)
        with memory.explained(model.config, memory.of_model):
            scores |= measure(model.state, model.stage, ProgressBar)
        about = {"quality": measure.about}
    logger.info(f"step {model.step} of {folder}:")
    for line in table.rows(scores) + (table.measured_with(measure.about) if about else []):
        logger.info(line)
    try:
        result = {"step": model.step, "state": state, **scores, **about}
        if cluster.is_first():
            write_json(folder / "evaluate.json", result)
    except OSError as error:  # the scores are logged already, and the folder may be read-only
        logger.warning(
            f"note: {folder / 'evaluate.json'} cannot be written ({error.strerror or error})"
        )
    return scores


def _losses(model: Model) -> dict[str, float]:
    """The validation losses; {} where there are no validation images."""
    count = model.experiment.data.sizes["validation"]
    if count:
        logger.info(f"validation losses of {count:,} images")
    with closing(ProgressBar(count, "image")) as progress:
        return model.evaluate(progress)
