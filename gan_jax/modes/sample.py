"""Samples as files, and what a config amounts to before anything is trained."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from clu import parameter_overview
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import loop
from gan_jax.core.checkpoint import named
from gan_jax.core.system import Batch
from gan_jax.errors import UserError
from gan_jax.files import check_folder
from gan_jax.modes.output import save_arrays, save_png, save_sheet
from gan_jax.report import grids
from gan_jax.run import class_names
from gan_jax.run.experiment import MOST_COLUMNS, TITLES, Experiment
from gan_jax.run.model import Adjust, Model, as_it_is
from gan_jax.run.pretrained import opened

FORMATS = ("grid", "png", "npz", "adm")


def numbers(text: str, key: str) -> list[int]:
    """ "0-3,8" → [0, 1, 2, 3, 8]. UserError naming `key` for anything else."""
    found: list[int] = []
    try:
        for part in filter(None, text.replace(" ", "").split(",")):
            first, dash, last = part.partition("-")
            part = range(int(first), int(last) + 1) if dash else [int(first)]
            if not part:
                raise ValueError
            found += part
    except ValueError:
        found = []
    if not found and text:
        raise UserError(f"{key}={text!r}: write numbers and ranges, such as 0-63 or 1,5,8-11")
    return found


def sample(
    workdir: str | Path,
    out: str | Path,
    seeds: Sequence[int],
    classes: Sequence[int | str] = (),
    formats: Sequence[str] = ("grid",),
    which: str = "newest",
    weights: str = "",
    truncation: float = 0.0,
    standing_batches: int = 0,
    config: ConfigDict | None = None,
    say=print,
    adjust: Adjust = as_it_is,
    places: Mapping[str, str] | None = None,
) -> list[Path]:
    """Draws one image per seed into `out`; returns the files. The model is that of a run,
    `workdir`, or without one of a `config` whose `restore` names weights of its generator.

    Formats: `grid` (sheets/grid.png), `png` (seed<NNNNNN>.png, with the class if it has one), `npz`
    (images uint8 [N, H, W, C], seeds, labels, of translations also input and target), `adm`
    (samples_NxHxWxC.npz as guided-diffusion writes it: arr_0, and int64 labels as arr_1 where
    images are of a class). `adjust` is applied to the model first. `places`: where the run's data
    are now, of a model that translates; see `model.load`.
    """
    if not formats:
        raise UserError(f"--format is empty: accepted are {', '.join(FORMATS)}")
    for name in formats:
        if name not in FORMATS:
            raise UserError(
                f"--format={name}: accepted are {', '.join(FORMATS)}, separated by commas"
            )
    folder = check_folder(out)
    # the first of a system's nets is the one that draws
    drawn_by = lambda system: [*system.rates][:1]  # noqa: E731
    model = opened(workdir, which, config, drawn_by, "sample", say, places)
    model = adjust(model)
    if standing_batches:
        model = model.standing_statistics(standing_batches)
    images = model.sample(seeds, classes, truncation, weights)
    batch = model.experiment.sample_batch(seeds, classes)
    files = _write(folder, model, images, batch, seeds, classes, formats)
    shown = ", ".join(f.name for f in files[:4]) + (" …" if len(files) > 4 else "")
    say(f"{len(images)} images of step {model.step} in {folder}: {shown}")
    return files


def _write(
    folder: Path,
    model: Model,
    images: np.ndarray,
    batch: Batch,
    seeds: Sequence[int],
    classes: Sequence[int],
    formats: Sequence[str],
) -> list[Path]:
    """The files of `sample`."""
    labels = batch.get("label", np.zeros(len(images), np.int32))
    files = []
    if "grid" in formats:
        # where classes come in turn: columns of one class each, as near to a square as that allows
        kinds = len(model.experiment.chosen(classes)) or len(model.experiment.drawn_classes)
        turns = model.experiment.system.labelled and kinds > 1 and len(images) % kinds == 0
        turns = turns and (labels.reshape(-1, kinds) == labels[:kinds]).all()
        wide = kinds * max(round(len(images) ** 0.5 / max(kinds, 1)), 1)
        columns = wide if turns and kinds <= MOST_COLUMNS else 0
        titles = [model.experiment.class_title(label) for label in labels[:columns]]
        if "input" in batch:
            shown = grids.triples(batch["input"], images, batch["target"])
            picture = grids.grid(shown, columns=len(TITLES), column_titles=TITLES)
        else:
            picture = grids.grid(images, columns=columns, column_titles=titles)
        files.append(save_sheet(folder, "grid.png", picture))
    if "png" in formats:
        for seed, label, image in zip(seeds, labels, images, strict=True):
            suffix = ""
            if model.experiment.system.labelled:
                suffix = class_names.file_suffix(int(label), model.experiment.facts.class_names)
            files.append(folder / f"seed{seed:06d}{suffix}.png")
            save_png(files[-1], image)
    if "npz" in formats:
        files.append(folder / "samples.npz")
        pairs = {k: batch[k] for k in ("input", "target") if k in batch}
        own = dict(images=images, seeds=np.asarray(seeds), labels=labels)
        save_arrays(files[-1], compressed=True, **own, **pairs)
    if "adm" in formats:
        files.append(folder / f"samples_{'x'.join(map(str, images.shape))}.npz")
        arrays = [images, labels.astype(np.int64)] if model.experiment.system.labelled else [images]
        save_arrays(files[-1], *arrays)
    return files


def dry_run(config: ConfigDict, compile_step: bool = False, say=print) -> dict:
    """Prints the resolved config, parameter tables, stages and the state's exact bytes; with
    `compile_step` also XLA's own estimate of the memory of one training step."""
    say(json.dumps(configs.plain(config), indent=2))
    experiment = Experiment(config)
    say(f"data: {experiment.data.description}")
    carry = experiment.carry
    for name, net in carry.state.nets.items():
        table = parameter_overview.get_parameter_overview(net.params, include_stats=False)
        say(f"\n{name}\n{table}\n{_layers(net.params)}")
    for index, stage in enumerate(experiment.system.stages):
        epochs = stage.steps / experiment.data.epoch_steps(stage)
        say(
            f"stage {index}: {stage.resolution} px, {stage.batch_size} images per step, "
            f"steps {stage.start} to {stage.end} ({epochs:.2f} epochs)"
        )
    bytes_ = {
        name: sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))
        for name, tree in {"state": carry.state, **dict(carry.state.nets)}.items()
    }
    say("bytes: " + ", ".join(f"{k} {v:,}" for k, v in bytes_.items()))
    report = {"bytes": bytes_}
    if compile_step:
        train = loop.train_function(experiment.system, experiment.mesh)
        stage, shapes = experiment.last, loop.Carry(**experiment.shapes())  # the largest
        batch = {
            k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=experiment.mesh.split)
            for k, v in experiment.batch(stage).items()
        }
        memory = train.lower(shapes, batch, experiment.key, stage).compile().memory_analysis()
        names = ("argument", "output", "temp", "alias", "generated_code")
        report["xla"] = {n: int(getattr(memory, f"{n}_size_in_bytes")) for n in names}
        say(
            "XLA bytes per device for one step: "
            + ", ".join(f"{k} {v:,}" for k, v in report["xla"].items())
        )
    return report


def _layers(params) -> str:
    """Parameters by layer, kernel and bias together: one line each."""
    counts: dict[str, int] = {}
    for path, leaf in named(params).items():
        layer = path.rpartition("/")[0]
        counts[layer] = counts.get(layer, 0) + int(np.prod(leaf.shape))
    width = max(map(len, counts), default=0)
    return "\n".join(f"  {layer:<{width}}  {count:>12,}" for layer, count in counts.items())
