"""What the soak trains: a tiny run of each system that passes through everything a run does."""

import dataclasses

from tests.soak.processes import ROOT


@dataclasses.dataclass(frozen=True)
class Program:
    """A run: its config at the size `tiny`, and what is set differently.

    Attributes:
      name: what `--systems` calls it.
      config: name of the config and of variants besides `tiny`.
      settings: keys of the config and their values.
      cost: about how long its process takes, in that of the first program; it is chosen so much
        less often.
    """

    name: str
    config: str
    settings: dict[str, str]
    cost: float

    def command(self, workdir, **settings) -> list[str]:
        """The words of the command line that trains it; settings replace its own, "__" is "."."""
        name, _, variants = self.config.partition(":")
        chosen = {**self.settings, **{k.replace("__", "."): v for k, v in settings.items()}}
        return [
            f"--config={ROOT}/configs/{name}.py:{variants}{',' if variants else ''}tiny",
            f"--workdir={workdir}",
            *(f"--config.{key}={value}" for key, value in chosen.items()),
        ]


# a save, a grid or an evaluation at nearly every step, and epochs that end in between
OFTEN = {
    "run.steps": "10", "run.log_every": "1", "run.save_every": "2", "run.sample_every": "4",
    "run.eval_every": "3", "run.quality_every": "0", "run.compile_ahead": "False",
}  # fmt: skip
PROGRAMS = {
    program.name: program
    for program in (
        Program("gan", "mlpgan_mnist", {**OFTEN, "best.metric": "val/gen"}, 1),
        # trains its own classifier first, and measures samples with it
        Program("gan_quality", "mlpgan_mnist", {**OFTEN, "run.quality_every": "3"}, 2.5),
        Program("classifier", "classifier_mnist", OFTEN, 1.5),
        Program("pix2pix", "pix2pix_photos", OFTEN, 2),
        Program("noisy_classifier", "noisy_classifier_mnist", OFTEN, 2.5),
        Program("diffusion", "diffusion_mnist", OFTEN, 3),
        # three stages with a fade, each resolution from the best state of the one before
        Program(
            "progan", "progan_mnist",
            {k: v for k, v in OFTEN.items() if k not in ("run.steps", "run.eval_every")}
            | {"data.resolution": "8", "best.metric": "val/wasserstein"},
            4,
        ),
        Program("warpgan", "warpgan_drawn", {**OFTEN, "run.steps": "6"}, 6),
    )
}  # fmt: skip
