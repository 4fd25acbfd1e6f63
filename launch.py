"""The one door for a shell.

    python launch.py --config=configs/dcgan_mnist.py --workdir=runs/a --config.optim.gen.lr=1e-4
    python launch.py --mode=sample --workdir=runs/a --seeds=0-63
    python launch.py --mode=sample --help

Running the same command again resumes. Exit status: 0 done, 1 something to fix, 2 a flag that is
not understood, 75 stopped by a signal with the state saved.
"""

import os
import signal
import sys
from typing import NoReturn

# XLA and TensorStore log to stderr what a person running a training does not need
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import app, flags, logging

from gan_jax.errors import UserError
from gan_jax.modes import devices, help, parsing
from gan_jax.modes.streams import make_lasting


def parse(argv: list[str]) -> parsing.Command:
    """The command, ready to run; ends the process after --help and for what is not understood."""
    flags.FLAGS.mark_as_parsed()  # absl's own; a command has flags of its own
    try:
        if parsing.wants_help(argv):
            print(help.text(argv, __doc__), flush=True)
            sys.exit(0)
        return parsing.parse(argv)
    except parsing.UsageError as error:
        fail(str(error), 2)


def main(command: parsing.Command) -> NoReturn:
    """Runs a command and ends the process with its status."""
    logging.set_verbosity(logging.ERROR)
    # before and after the training loop, which has a handler of its own
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        status = run(command)
    except UserError as error:
        fail(parsing.message(error, command), 1)
    except KeyboardInterrupt:
        print("stopped outside training: nothing is lost, run the same command again", flush=True)
        os._exit(75)  # without the teardown of a compiler that was interrupted
    sys.exit(status)


def run(command: parsing.Command) -> int:
    """Does what the command asks; returns the exit status."""
    devices.prepare(command.general)
    config = command.general.config.value
    if config is not None:
        from gan_jax.config import prepare

        prepare(config)
    return command.mode.main(config, command.general.workdir.value)


def fail(message: str, status: int) -> NoReturn:
    """One line on stderr, and out."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(status)


if __name__ == "__main__":
    make_lasting()
    app.run(main, flags_parser=parse)
