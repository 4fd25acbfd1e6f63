"""A run's folder: who owns it, which config it holds, which states can be read from it."""

import datetime
import errno
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import config as configs
from gan_jax.core import checkpoint, schedules
from gan_jax.core.system import Facts
from gan_jax.errors import UserError
from gan_jax.files import check_folder, write_json
from gan_jax.interop import guided_diffusion, pix2pix, progan_file, pytorch_gan, warpgan
from gan_jax.interop.formats import npz_file, tf_checkpoint

try:
    import fcntl
except ImportError:  # not on Windows: two runs in one folder are then not noticed
    fcntl = None

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "ml-collections",
)
_locks: dict[Path, Any] = {}
BUSY = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # of flock: another process has the lock


def claim(workdir: str | Path, lock: bool = True, say=print) -> Path:
    """Makes the folder and locks it for this process (one of a run's processes is enough).

    On a file system without locks (some of Lustre, NFS and FUSE) a line says that nobody guards it.
    Raises UserError when it cannot be written, or another process trains in it.
    """
    if not str(workdir):
        raise UserError("--workdir is empty: name the folder this run lives in, such as runs/a")
    if "://" in str(workdir):
        raise UserError(
            f"--workdir={workdir} is a bucket, not a folder: mount it, or let jobs/tpu_vm.sh copy "
            "the run to it"
        )
    folder = Path(workdir)
    try:
        str(workdir).encode()
    except UnicodeEncodeError:
        raise UserError(
            f"--workdir={str(workdir).encode(errors='replace').decode()}: this locale cannot spell "
            "the folder's name, in which states would be saved; set LC_ALL=C.UTF-8, or name another"
        ) from None
    check_folder(folder, "--workdir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"--workdir={workdir} cannot be written ({reason}); name another folder"
        ) from None
    if fcntl and lock:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in BUSY:
                file.close()
                raise UserError(
                    f"--workdir={workdir}: another process trains there; wait for it, or name "
                    "another folder"
                ) from None
            say(
                f"{folder}: its file system has no locks ({error.strerror}), so a second run that "
                "is started there would not be noticed"
            )
    _locks[folder] = file
    return folder


def release(folder: Path) -> None:
    """Gives the folder free for other processes."""
    if folder in _locks:
        _locks.pop(folder).close()


def check(folder: Path, config: ConfigDict, say) -> bool:
    """Whether the folder already holds this run; keys that a resumption may change (run.*, and
    where the data are) may differ and are reported.

    Raises UserError listing the keys when it holds another config, or when the number of steps
    changed and a learning rate depends on it.
    """
    if not (folder / "config.json").exists():
        return False
    # keys that came after the run began have their defaults
    stored = configs.typed(read_config(folder)["config"])
    configs.prepare(stored)
    old = configs.plain(stored)
    if old["system"] == config.system:
        configs.resolve(config, 0, old)
    new = configs.plain(config)
    changed = configs.differences(old, new)
    foreign = {k: v for k, v in changed.items() if not configs.may_change(k)}
    if foreign:
        raise UserError(
            f"--workdir={folder} holds a run with another config: {_listed(foreign)}; name another "
            "--workdir, or use the run's own values"
        )
    if "run.steps" in changed:
        for name, section in config.optim.items():
            if schedules.depends_on_total(section.schedule):
                raise UserError(
                    f"config.run.steps changed from {old['run']['steps']} to "
                    f"{config.run.steps}, but "
                    f"config.optim.{name}.schedule.name={section.schedule.name} depends on the "
                    f"total; set config.optim.{name}.schedule.length at the start, or use "
                    "another --workdir"
                )
    if changed:
        say(f"changed since this run began: {_listed(changed)}")
    return True


def check_facts(
    folder: Path, facts: Facts, remedy: str = "restore it, or use another --workdir"
) -> None:
    """Raises UserError when the data is not what the run began with: images would change sides
    between training and validation, and epochs their length. An imported run has seen none yet.

    `remedy` ends the message."""
    stored = read_config(folder).get("data", facts._asdict())
    old = Facts.read(stored)._asdict()
    sizes = ("train_size", "validation_size")
    classes = ("class_names", "empty_classes")  # earlier revisions did not write these down
    unknown = [name for name in classes if name not in stored]
    if not old["train_size"]:
        unknown += [name for name in (*sizes, "num_classes", *classes) if not old[name]]
    changed = [
        f"{k} was {old.get(k)}, is {v}"
        for k, v in facts._asdict().items()
        if old[k] != v and k not in unknown
    ]
    if changed:
        raise UserError(
            f"--workdir={folder}: the data has changed since the run began "
            f"({'; '.join(changed)}); {remedy}"
        )


def _listed(changed: dict[str, tuple[Any, Any]]) -> str:
    shown = [f"config.{k} is {old!r} there, {new!r} here" for k, (old, new) in changed.items()]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return "; ".join(shown[:8]) + more


def write_config(folder: Path, config: ConfigDict, devices: int, facts: Facts) -> None:
    """config.json: the resolved config with versions, git revision, devices, facts of the data."""
    write_json(
        folder / "config.json",
        {
            "config": configs.plain(config),
            "versions": {"python": platform.python_version(), **_versions()},
            "git": git_revision(),
            "data": facts._asdict(),
            "devices": {"platform": jax.default_backend(), "count": devices},
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def git_revision() -> str:
    """The commit of the code, with "-dirty" where it was changed since; "" outside a checkout."""
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json holds. UserError when there is none or it is damaged."""
    path = Path(folder) / "config.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{folder}: no config.json, so this is not the folder of a run") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
        raise UserError(f"{path} is damaged: it holds no config")
    return found


def read_summary(folder: Path) -> dict[str, Any]:
    """What summary.json holds, {} where there is none that can be read."""
    try:
        found = json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def state_path(folder: Path, which: str = "newest") -> Path:
    """The folder of a saved state: "newest", "best", or a step as text."""
    if which == "best":
        best = checkpoint.best_states_in(folder / "best")
        if not best:
            raise UserError(f"{folder}: no best state yet")
        return best[max(best)].resolve()
    states = checkpoint.states_in(folder / "checkpoints")
    if not states:
        raise UserError(f"{folder}: no checkpoint yet; train first")
    if which == "newest":
        return states[max(states)].resolve()
    if which.isdecimal() and int(which) in states:
        return states[int(which)].resolve()
    raise UserError(
        f"{folder}: no state {which!r}; there are newest, best and the steps {sorted(states)}"
    )


def arrays(source: str, net: str, key: str) -> dict[str, np.ndarray]:
    """Weights of one net by name ("params/…", "stats/…") from a run, a checkpoint or a file.

    A run gives its best state, else its newest, and averaged weights where it has them. A .pth or
    .pt file holds the weights of a network of PyTorch-GAN, pix2pix or guided-diffusion in PyTorch's
    names; a .npz file arrays by these names; a .pkl file networks of the original ProGAN. A
    checkpoint of TensorFlow (its prefix, or a folder with a file "checkpoint") is of WarpGAN.
    """
    if prefix := tf_checkpoint.find(source):
        return warpgan.net(prefix, net)
    path = Path(source)
    if not path.exists():
        raise UserError(f"{key}={source!r}: no such run or file")
    if path.suffix in (".pth", ".pt"):
        tensors = guided_diffusion.state_dict(path)
        families = (n for n in (guided_diffusion, pix2pix) if n.identify(tensors))
        params, stats = next(families, pytorch_gan).to_trees(tensors)
        return checkpoint.named({"params": params, "stats": stats})
    if path.suffix == ".npz":
        return checkpoint.named(npz_file.read_npz(path))
    if path.suffix == ".pkl":
        return progan_file.net(path, net)
    if (path / "config.json").exists():
        has_best = checkpoint.best_states_in(path / "best")
        path = state_path(path, "best" if has_best else "newest")
    if not (path / "state").is_dir():
        raise UserError(
            f"{key}={source!r}: neither a run, a checkpoint (of a run or of TensorFlow), a .pth, "
            ".npz nor .pkl file"
        )
    saved = checkpoint.read_arrays(path.resolve())
    nets = {k.split("/")[2] for k in saved if k.startswith("state/nets/")}
    # the only net of a run, such as a classifier, may begin one of another name
    prefix = f"state/nets/{nets.pop() if len(nets) == 1 else net}/"
    own = {k.removeprefix(prefix): v for k, v in saved.items() if k.startswith(prefix)}
    own = {k.replace("opt/inner/", "opt/", 1): v for k, v in own.items()}  # of a loss scale
    if not own:
        raise UserError(
            f"{key}={source!r}: that run has no net {net!r}, but {', '.join(sorted(nets))}"
        )
    chosen = {k: v for k, v in own.items() if k.startswith(("params/", "stats/"))}
    for kind in ("params", "stats"):
        averaged = f"opt/ema/{kind}/0/"
        chosen |= {
            k.replace(averaged, f"{kind}/"): v for k, v in own.items() if k.startswith(averaged)
        }
    return chosen
