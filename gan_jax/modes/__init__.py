"""One file for each --mode, with its own flags and `main(config, workdir) -> int`.

`main` gets the config of --config, ready to be used, or None, and the folder that --workdir names,
or "". It returns the exit status. A mode that needs neither of them and no device says
`COMPUTES = False`. One whose work several processes would not share says `ALONE = True`: the first
process of a cluster does it. One that may begin a run has `starts_run()`, which says whether it
does; without --workdir it gets a new folder. One that makes a run in another way says
`MAKES_RUN = True`, and one whose --workdir may name several runs `SEVERAL_RUNS = True`. The work
itself is done by functions in `gan_jax.modes.actions`; a mode whose functions have parameters that
are not called like its flags has `PARAMETERS`, which maps such a parameter to its flag.
"""

import time
from typing import NamedTuple

BEGAN = time.perf_counter()  # when the command began, as nearly as Python can tell


class Mode(NamedTuple):
    """The module of a mode, and what it does in one line."""

    module: str
    help: str


MODES = {
    "train": Mode("gan_jax.modes.train", "trains, or continues a run that was stopped"),
    "sample": Mode("gan_jax.modes.sample", "makes images with a trained model"),
    "evaluate": Mode("gan_jax.modes.evaluate", "measures a saved state: losses and image quality"),
    "metrics": Mode(
        "gan_jax.modes.metrics", "compares any two sets of images: FID, KID and others"
    ),
    "prepare": Mode("gan_jax.modes.prepare", "fetches a data set or weights, or makes shards"),
    "report": Mode("gan_jax.modes.report", "writes one HTML page about a run"),
    "translate": Mode("gan_jax.modes.translate", "translates a folder of images"),
    "upsample": Mode("gan_jax.modes.upsample", "enlarges a folder of images"),
    "invert": Mode("gan_jax.modes.invert", "encodes images as noise and decodes them again"),
    "caricature": Mode("gan_jax.modes.caricature", "draws caricatures of photos with a WarpGAN"),
    "align": Mode("gan_jax.modes.align", "finds, turns and cuts out the faces in photos"),
    "interpolate": Mode(
        "gan_jax.modes.interpolate", "makes a video that moves through the latents"
    ),
    "timelapse": Mode("gan_jax.modes.timelapse", "makes a video of a run's training"),
    "likelihood": Mode("gan_jax.modes.likelihood", "measures the bits per dimension of images"),
    "import": Mode("gan_jax.modes.import_run", "makes a run from a .pt file of guided-diffusion"),
    "export": Mode("gan_jax.modes.export", "writes a run's network as such a .pt file"),
    "list": Mode("gan_jax.modes.list", "lists the configs that come with gan_jax"),
    "completion": Mode("gan_jax.modes.completion", "prints a script for a shell's completion"),
}
