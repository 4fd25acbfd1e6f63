"""Trains image generators, and works with what was trained.

    python launch.py --config=configs/dcgan_mnist.py --workdir=runs/a --config.optim.gen.lr=1e-4
    python launch.py --mode=sample --workdir=runs/a --seeds=0-63
    python launch.py --mode=sample --help

Running the same command again resumes. Without --workdir each run gets a folder of its own in
runs/. Exit status: 0 done, 1 something to fix, 2 a flag that is not understood, 75 stopped by a
signal, with what training had reached saved, 74 a state that could not be saved, or something that
could not be copied to a bucket.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict

from gan_jax import heaps
from gan_jax.core import bond
from gan_jax.errors import NOT_SAVED, OUTSIDE, STOPPED, ArgumentError, UserError, is_full_memory
from gan_jax.modes import bucket_flags, devices, help, parsing, run_folders
from gan_jax.modes.streams import make_lasting


def enter() -> None:
    """Runs the command line of this process, and ends the process."""
    # XLA and TensorStore log to stderr what a person running a training does not need
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    make_lasting()
    heaps.keep_few()
    try:
        app.run(main, flags_parser=parse)
    except SystemExit as end:
        if end.code == STOPPED and bond.current is None:
            # threads of a run that was stopped may still work, and Python's teardown then crashes
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(STOPPED)
        raise  # other processes of a cluster wait for the teardown of this one


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
        _over()
    except UserError as error:
        fail(parsing.message(error, command), error.status, error.shared)
    except KeyboardInterrupt:
        bond.tell(OUTSIDE, STOPPED)
        print(OUTSIDE, flush=True)
        bond.leave(STOPPED)  # without the teardown of a compiler that was interrupted
    except Exception as error:  # where nobody could say what to lower
        if not is_full_memory(error):
            raise
        where = "this machine" if isinstance(error, MemoryError) else "the device"
        fail(f"out of memory on {where}; give it less at a time, or end other programs", 1)
    sys.exit(status)


def _over() -> None:
    """Lets no signal change the status of a command that has done its work.

    While Python is torn down a signal ends in a traceback, or in the status of a killed process,
    which a scheduler takes for a failure. Several processes wait for each other there, and have to
    be stoppable.
    """
    if bond.current is None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


def run(command: parsing.Command) -> int:
    """Does what the command asks; returns the exit status."""
    if not getattr(command.mode, "COMPUTES", True):
        return command.mode.main(None, "")
    devices.prepare(command.general)
    config = command.general.config.value
    if config is not None:
        from gan_jax.config import prepare

        prepare(config)
    if _needs_folder(command):
        return in_new_folder(command, config)
    with bucket_flags.on_disk(command) as workdir:
        if bond.current is not None and getattr(command.mode, "ALONE", False):
            from gan_jax.core import cluster

            return cluster.decided("the exit status", lambda: command.mode.main(config, workdir))
        return command.mode.main(config, workdir)


def _needs_folder(command: parsing.Command) -> bool:
    """Whether the command begins a run without saying where."""
    begins = getattr(command.mode, "starts_run", lambda: False)
    unnamed = not command.general.workdir.value
    return unnamed and command.general.config.value is not None and begins()


def in_new_folder(command: parsing.Command, config: ConfigDict) -> int:
    """Runs a training without --workdir in a new folder; returns the exit status.

    The folder is removed again if the run does not begin. Several processes are refused: whoever
    starts them again has to find the same folder. Raises ArgumentError that names `workdir`.
    """
    if bond.current is not None:
        error = ArgumentError(
            "workdir", " is missing: name a folder that all processes share, or gs://… or s3://…"
        )
        error.shared = True
        raise error
    try:
        folder = run_folders.new(command.label)
    except OSError as error:
        raise ArgumentError(
            "workdir",
            f" is missing, and no folder can be made in {Path.cwd() / run_folders.RUNS} "
            f"({error.strerror or error}); name one",
        ) from None
    print(
        f"{folder}: a new run; to go on with it later, add --workdir={folder} to the same command",
        flush=True,
    )
    status = None
    try:
        status = command.mode.main(config, str(folder))
    finally:
        if not (folder / "config.json").exists():
            run_folders.remove_unused(folder)
        elif status != 0:
            print(f"to go on with this run, add --workdir={folder} to the same command", flush=True)
    return status


def fail(message: str, status: int, shared: bool = False) -> NoReturn:
    """One line on stderr, and out; `shared` says that every process of a cluster has this error."""
    line = " ".join(message.split())
    if not shared:
        bond.tell(line, status)
    print(f"error: {line}", file=sys.stderr, flush=True)
    if status == NOT_SAVED or bond.current is not None:
        # a thread may wait for a disk that never answers, or the teardown for other processes
        bond.leave(status)
    sys.exit(status)
