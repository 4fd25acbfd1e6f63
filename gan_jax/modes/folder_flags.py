"""The flags of modes that run one task on every image of a folder, and the call of that task."""

import os

from gan_jax.modes import flags

RENAMED = {"seeds": "first_seed"}
PARAMETERS = {"source": "input"}


class FolderFlags:
    """The flags of a mode for folders, and the call of its task."""

    def __init__(self, own: flags.FlagValues):
        """Defines them."""
        self.input = flags.images(own, "The images: a folder, a .zip, or an .npz.")
        self.out = flags.out(own, "Folder for the files; empty: one in the run's folder.")
        self.state = flags.state(own)
        self.weights = flags.weights(own)
        self.layout = flags.string(
            own,
            "layout",
            "auto",
            "What an image holds: single, side_by_side (input and target), or auto, by its shape.",
        )
        self.first_seed = flags.integer(
            own, "first_seed", 0, "Seed of the first image; the others have the next ones."
        )
        self.classes = flags.classes(own)
        self.sampling = flags.Sampling(own)

    def run(self, task: str, folder: str, config, workdir: str) -> None:
        """Runs the task; without --out the files go to `folder` in the run's folder."""
        from gan_jax import config as configs
        from gan_jax.modes.actions import folder_task
        from gan_jax.modes.actions.model_choice import ModelChoice

        adjust = self.sampling.adjust(self.weights.value)
        folder_task.run(
            task,
            self.input.value,
            self.out.value or os.path.join(workdir, folder),
            ModelChoice(workdir, self.state.value, config, adjust),
            folder_task.Options(
                self.weights.value,
                self.layout.value,
                self.first_seed.value,
                configs.words(self.classes.value),
            ),
        )
