"""The flags that several modes share, and the general ones that every mode has.

A mode makes a `FlagValues` of its own and defines in it exactly the flags that it reads. The
functions here define one flag each and return its holder, whose `.value` can be read once launch.py
has parsed the command line.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from absl import flags
from absl.flags import FlagHolder, FlagValues
from ml_collections import config_flags

from gan_jax.errors import UserError, near_miss


class ChoiceParser(flags.ArgumentParser[str]):
    """One of several words, which `accepted` lists."""

    def __init__(self, accepted: Iterable[str]):
        """`accepted` may include "", for none of them."""
        self.accepted = tuple(accepted)

    def parse(self, argument: str) -> str:
        """The word. Raises ValueError for one that is not accepted, with the nearest that is."""
        if argument not in self.accepted:
            words = ", ".join(filter(None, self.accepted))
            raise ValueError(f"accepted are {words}{near_miss(argument, self.accepted)}")
        return argument

    def flag_type(self) -> str:
        """The type's name in absl's own listings."""
        return "choice"


class PlaceParser(flags.ArgumentParser[str]):
    """The name of a file or folder; ~ at its start is the home folder."""

    def parse(self, argument: str) -> str:
        """The name with ~ replaced."""
        return os.path.expanduser(argument)

    def flag_type(self) -> str:
        """The type's name in absl's own listings."""
        return "place"


def place(own: FlagValues, name: str, default: str, help: str) -> FlagHolder[str]:
    """Defines a flag that names a file or folder."""
    serializer = flags.ArgumentSerializer()
    return flags.DEFINE(PlaceParser(), name, default, help, own, serializer)


def choice(
    own: FlagValues, name: str, default: str, accepted: Iterable[str], help: str
) -> FlagHolder[str]:
    """Defines a flag that takes one of the words `accepted`."""
    serializer = flags.ArgumentSerializer()
    return flags.DEFINE(ChoiceParser(accepted), name, default, help, own, serializer)


def string(own: FlagValues, name: str, default: str | None, help: str) -> FlagHolder[str]:
    """Defines a flag of any text."""
    return flags.DEFINE_string(name, default, help, flag_values=own)


def integer(own: FlagValues, name: str, default: int | None, help: str) -> FlagHolder[int]:
    """Defines a flag of a whole number."""
    return flags.DEFINE_integer(name, default, help, flag_values=own)


def number(own: FlagValues, name: str, default: float | None, help: str) -> FlagHolder[float]:
    """Defines a flag of any number."""
    return flags.DEFINE_float(name, default, help, flag_values=own)


def switch(own: FlagValues, name: str, default: bool, help: str) -> FlagHolder[bool]:
    """Defines a flag that is on or off: --name or --noname."""
    return flags.DEFINE_bool(name, default, help, flag_values=own)


# of a switch
SAID = {"true": "on", "t": "on", "1": "on", "false": "off", "f": "off", "0": "off"}


class SwitchParser(ChoiceParser):
    """One of several words of which two are what a flag that is on or off says."""

    def parse(self, argument: str) -> str:
        """The word; --name alone is "on", and --noname is "off"."""
        return super().parse(SAID.get(argument.lower(), argument))


def switch_or(
    own: FlagValues, name: str, default: str, accepted: Iterable[str], help: str
) -> FlagHolder[str]:
    """Defines a flag that takes one of the words `accepted`, among them "on" and "off"; --name
    alone means "on" and --noname "off"."""
    serializer = flags.ArgumentSerializer()
    flag = flags.Flag(SwitchParser(accepted), serializer, name, default, help, boolean=True)
    return flags.DEFINE_flag(flag, own)


def takes_no_value(flag: flags.Flag) -> bool:
    """Whether a flag is written as --name or --noname and nothing else."""
    return flag.boolean and not isinstance(flag.parser, SwitchParser)


def in_order(own: FlagValues) -> list[flags.Flag]:
    """The flags in the order of their definition."""
    # a FlagValues lists its names alphabetically, but the flags of a module as they were defined
    return [flag for found in own.flags_by_module_dict().values() for flag in found]


class General(NamedTuple):
    """The flags of every mode."""

    config: FlagHolder
    workdir: FlagHolder[str]
    mode: FlagHolder[str]
    platform: FlagHolder[str]
    preallocate: FlagHolder[bool]
    distributed: FlagHolder[str]
    coordinator: FlagHolder[str]
    num_processes: FlagHolder[int | None]
    process_id: FlagHolder[int | None]
    join_seconds: FlagHolder[int]
    compilation_cache: FlagHolder[str]


def general(own: FlagValues, argv: list[str] | None = None) -> General:
    """Defines the general flags. `argv` is the whole command line, which may hold --config.x=y."""
    return General(
        config_flags.DEFINE_config_file(
            "config",
            None,
            "The experiment, by its name or file, and its variants: dcgan_mnist:labels,tiny or "
            "mine.py:tiny. --mode=list shows those there are; keys are set by "
            "--config.section.key=value.",
            lock_config=True,
            flag_values=own,
            sys_argv=argv,
        ),
        place(
            own,
            "workdir",
            "",
            "Folder of the run, or its address, gs://… or s3://…: states, metrics, samples; empty: "
            "training makes one in runs/.",
        ),
        string(own, "mode", "train", "What to do."),
        choice(
            own,
            "platform",
            "",
            ("", "cpu", "cuda", "tpu"),
            "Where to compute: cpu, cuda or tpu; empty: the best there is.",
        ),
        switch(
            own, "preallocate", True, "GPU: take most of the memory at once, not as it is needed."
        ),
        *_cluster(own),
        place(
            own,
            "compilation_cache",
            "auto",
            "Folder where compiled programs are kept between commands; auto: in the user's cache "
            "folder; off: nowhere.",
        ),
    )


def _cluster(own: FlagValues) -> tuple[FlagHolder, ...]:
    """The flags about processes that compute together, in the order of `General`."""
    return (
        switch_or(
            own,
            "distributed",
            "auto",
            ("auto", "on", "off"),
            "Compute together with other processes: auto: if SLURM, Open MPI, a TPU slice or the "
            "flags below say that there are any; on: there must be; off: alone.",
        ),
        string(
            own,
            "coordinator",
            "",
            "HOST:PORT at which the first of the processes waits for the others.",
        ),
        integer(own, "num_processes", None, "How many processes compute together."),
        integer(own, "process_id", None, "Which of them this one is, from 0."),
        integer(own, "join_seconds", 300, "How long to wait for the other processes."),
    )


def out(own: FlagValues, help: str) -> FlagHolder[str]:
    """--out: where the mode's files go."""
    return place(own, "out", "", help)


def images(own: FlagValues, help: str) -> FlagHolder[str]:
    """--input: the images that the mode reads."""
    return place(own, "input", "", help)


def state(own: FlagValues) -> FlagHolder[str]:
    """--state: which of a run's states is used."""
    return string(own, "state", "newest", "State of the run: newest, best, or a step.")


def weights(own: FlagValues) -> FlagHolder[str]:
    """--weights: averaged weights or the raw ones."""
    return string(
        own,
        "weights",
        "",
        "ema, raw, or a further average such as ema_0.999; empty: ema where there is one.",
    )


def seeds(own: FlagValues, default: str) -> FlagHolder[str]:
    """--seeds: which images are sampled."""
    return string(
        own,
        "seeds",
        default,
        "Which images to make, one for each seed, such as 0-63 or 1,5,8-11. A seed gives the same "
        "image whatever other seeds there are.",
    )


def classes(own: FlagValues) -> FlagHolder[str]:
    """--classes: what the images show."""
    return string(
        own,
        "classes",
        "",
        "Classes by name or number, such as cat,dog or 3-5, cycled over the images; empty: each "
        "seed has its own class, or the input says it.",
    )


def count(own: FlagValues, help: str) -> FlagHolder[int]:
    """--count: the largest number of images."""
    return integer(own, "count", 0, help)


def deep_bits(own: FlagValues) -> FlagHolder[int]:
    """--deep_bits: how deep grey files are."""
    return integer(
        own, "deep_bits", 16, "How many bits grey images of 16 bits a pixel use, 9 to 16."
    )


def data(own: FlagValues) -> FlagHolder[str]:
    """--data: where the data of a run are now."""
    return string(
        own,
        "data",
        "",
        "Where the run's data are now: a folder or file for config.data.path, or keys such as "
        "path=DIR,validation_path=DIR2.",
    )


def data_places(text: str, workdir: str) -> Mapping[str, str]:
    """The places that --data names, by keys of config.data.

    Raises UserError for keys and places that do not exist, and if no run is named.
    """
    from gan_jax import config as configs

    places = configs.places(text)
    if text and not workdir:
        raise UserError("--data says where the data of a run are: name the run by --workdir too")
    return places


def need_workdir(workdir: str, mode: str) -> None:
    """Raises UserError if no run is named."""
    if not workdir:
        raise UserError(f"--workdir is missing: --mode={mode} needs the folder of a run")


class Sampling:
    """The flags for sampling from a diffusion model, which other models do not have."""

    def __init__(self, own: FlagValues):
        """Defines them."""
        self.sampler = string(
            own,
            "sampler",
            None,
            "Diffusion: ancestral, ddim, dpm++ or heun; empty: as config.sampling says.",
        )
        self.steps = string(
            own,
            "steps",
            None,
            'Diffusion: a number of steps, or of a chain also "ddim25" or "90,60,60,20,20".',
        )
        self.eta = number(own, "eta", None, "Diffusion: noise of ddim's steps, 0 to 1.")
        self.guidance = number(
            own, "guidance", None, "Diffusion: scale of guidance by the class alone; 1: none."
        )
        self.sampling = string(
            own,
            "sampling",
            "",
            "Diffusion: more keys of config.sampling, such as clip=dynamic,churn=40.",
        )
        self.classifier = place(
            own,
            "classifier",
            "",
            "Diffusion: a noisy classifier that guides the model, its run or its .pt file.",
        )
        self.classifier_scale = number(
            own, "classifier_scale", None, "Diffusion: scale of guidance by that classifier."
        )

    def adjust(self, weights: str = "") -> Callable:
        """A function from a model to the same model, sampled as the flags say.

        `weights` names the weights for which sampling shows its progress; "" means "ema".
        """
        from gan_jax.run import sampler_settings

        changes = {
            "sampler": self.sampler.value,
            "steps": self.steps.value,
            "eta": self.eta.value,
            "guidance": self.guidance.value,
            "progress": weights or "ema",
            **sampler_settings.parse(self.sampling.value),
        }

        def adjusted(model):
            return sampler_settings.adjusted(
                model, changes, self.classifier.value, self.classifier_scale.value
            )

        return adjusted
