"""Which processes compute together: what the flags, the environment and schedulers say.

`find` reads a mapping of environment variables and nothing else, so that it can be tried without a
cluster. joining.py then connects the processes.
"""

import re
import zlib
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from gan_jax.errors import UserError

# schedulers have no way to agree on a port, so it follows from the job's name; it lies above those
# that Linux gives to outgoing connections
FIRST_PORT, PORTS = 61440, 4096
# where each setting may stand, the first that is set counts; the last are jax's own
COORDINATOR = ("GAN_JAX_COORDINATOR", "JAX_COORDINATOR_ADDRESS")
COUNT = ("GAN_JAX_NUM_PROCESSES", "JAX_NUM_PROCESSES")
INDEX = ("GAN_JAX_PROCESS_ID", "JAX_PROCESS_ID")
TPU_HOSTS = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")


class Asked(NamedTuple):
    """What the command line says.

    Attributes:
      distributed: "auto", "on" or "off".
      coordinator: HOST:PORT of the first process, "" if it is not named.
      count: the number of processes, None if it is not given.
      index: the number of this process, from 0, None if it is not given.
    """

    distributed: str = "auto"
    coordinator: str = ""
    count: int | None = None
    index: int | None = None


class Member(NamedTuple):
    """This process as one of several.

    Attributes:
      coordinator: HOST:PORT at which the first process waits for the others.
      count: how many processes there are, at least 2.
      index: which of them this one is, from 0.
      devices: which of the GPUs that it sees this process takes, by number; None for all.
      found: who said so, such as "SLURM".
    """

    coordinator: str
    count: int
    index: int
    devices: tuple[int, ...] | None = None
    found: str = "flags"


class _Setting(NamedTuple):
    """A value, and where it stands: "--process_id=1" or "SLURM_PROCID=1"."""

    value: str
    place: str


class _Offer(NamedTuple):
    """What a scheduler says; None for what it does not say."""

    found: str
    coordinator: str | None = None
    count: _Setting | None = None
    index: _Setting | None = None
    devices: tuple[int, ...] | None = None


def find(asked: Asked, environment: Mapping[str, str], gpus: int = 0) -> Member | None:
    """The place of this process among several; None if it computes alone.

    What a flag says counts before the environment, and that before a scheduler.

    Args:
      environment: variables by name, such as os.environ.
      gpus: how many GPUs the machine has, as far as that is known.

    Raises UserError for settings that are incomplete, out of range or that contradict each other.
    """
    told = {
        "coordinator": _setting("coordinator", asked.coordinator, COORDINATOR, environment),
        "count": _setting("num_processes", asked.count, COUNT, environment),
        "index": _setting("process_id", asked.index, INDEX, environment),
    }
    if asked.distributed == "off":
        _refuse_flags(asked, told)
        return None
    if all(told.values()):
        return _member(_Offer("flags"), told)
    offers = (_open_mpi, _slurm, _kubernetes)
    offer = next(filter(None, (each(environment, gpus) for each in offers)), _Offer("flags"))
    if not any(told.values()) and not (offer.coordinator or offer.count):
        if offer.index and asked.distributed == "on":
            _incomplete(offer, {**told, "index": offer.index})
        return None  # an indexed job of Kubernetes may as well consist of separate runs
    if told["count"] and offer.count and _whole(told["count"]) != _whole(offer.count):
        raise UserError(f"{told['count'].place} contradicts {offer.count.place}; leave out one")
    return _member(offer, told)


def _setting(
    flag: str, value: object, names: tuple[str, ...], environment: Mapping[str, str]
) -> _Setting | None:
    if value not in (None, ""):
        return _Setting(str(value), f"--{flag}={value}")
    name = next((name for name in names if environment.get(name)), None)
    return name and _Setting(environment[name], f"{name}={environment[name]}")


def _refuse_flags(asked: Asked, told: Mapping[str, _Setting | None]) -> None:
    """Variables may be set for other commands, but a flag is meant."""
    for key in ("coordinator", "count", "index"):
        if getattr(asked, key) not in (None, ""):
            raise UserError(f"{told[key].place} contradicts --distributed=off; leave out one")


def _member(offer: _Offer, told: Mapping[str, _Setting | None]) -> Member | None:
    """What was told, completed by what a scheduler offers; None for a single process."""
    count, index = told["count"] or offer.count, told["index"] or offer.index
    coordinator = told["coordinator"]
    if count is not None:
        number = _whole(count)
        if number < 1:
            raise UserError(f"{count.place}: at least 1 process is expected")
        if index is not None and not 0 <= _whole(index) < number:
            raise UserError(
                f"{index.place} contradicts {count.place}: processes are numbered from 0 to "
                f"{number - 1}"
            )
        if number == 1:
            return None
    address = coordinator.value if coordinator else offer.coordinator
    if address is None or count is None or index is None:
        named = coordinator or offer.coordinator
        _incomplete(offer, {"coordinator": named, "count": count, "index": index})
    if coordinator and not re.fullmatch(r"([^:\s]+|\[[^\]\s]+\]):[0-9]{1,5}", address):
        raise UserError(f"{coordinator.place}: HOST:PORT is expected, such as node1:61440")
    return Member(address, number, _whole(index), offer.devices, offer.found)


def _incomplete(offer: _Offer, settings: Mapping[str, object]) -> NoReturn:
    missing = [
        f"{what} (--{flag} or {name})"
        for what, key, flag, name in (
            ("the address of the first process", "coordinator", "coordinator", COORDINATOR[0]),
            ("the number of processes", "count", "num_processes", COUNT[0]),
            ("the number of this process", "index", "process_id", INDEX[0]),
        )
        if settings[key] is None
    ]
    there = [s.place for s in settings.values() if isinstance(s, _Setting)]
    raise UserError(
        f"{', '.join(there) or offer.found} without {' and '.join(missing)}: name it, or train "
        "alone with --distributed=off"
    )


def _whole(setting: _Setting) -> int:
    """The value as a number. Raises UserError if it is none."""
    if not re.fullmatch(r"-?[0-9]+", setting.value.strip()):
        raise UserError(f"{setting.place}: a whole number is expected")
    return int(setting.value)


def _of(environment: Mapping[str, str], name: str) -> _Setting | None:
    value = environment.get(name)
    return _Setting(value, f"{name}={value}") if value else None


def _port(job: str) -> int:
    """A port for a job, the same in all of its processes."""
    return FIRST_PORT + zlib.crc32(job.encode()) % PORTS


def _open_mpi(environment: Mapping[str, str], gpus: int) -> _Offer | None:
    """Processes started by Open MPI's mpirun. Inside a SLURM job the variables of SLURM are those
    of mpirun's own helpers, so Open MPI is asked first."""
    count, local = (_of(environment, f"OMPI_COMM_WORLD_{n}") for n in ("SIZE", "LOCAL_SIZE"))
    if count is None:
        return None
    uri = environment.get("OMPI_MCA_orte_hnp_uri", "")
    # "3141.0;tcp://10.0.0.1,10.1.0.1:34911", or tcp6://[fe80::1]:34911: where mpirun runs, and with
    # it the first process; releases from 5 on do not say it
    head = re.search(r"tcp://([^,:]+)|tcp6://\[([^,\]]+)", uri)
    host = None
    if local and local.value == count.value:
        host = "127.0.0.1"
    elif head:
        host = head[1] or f"[{head[2]}]"
    port = _port(environment.get("PMIX_NAMESPACE") or uri)
    local_index = _of(environment, "OMPI_COMM_WORLD_LOCAL_RANK")
    return _Offer(
        "Open MPI",
        host and f"{host}:{port}",
        count,
        _of(environment, "OMPI_COMM_WORLD_RANK"),
        _share(environment, gpus, local and _whole(local), local_index and _whole(local_index)),
    )


def _slurm(environment: Mapping[str, str], gpus: int) -> _Offer | None:
    """Tasks that SLURM's srun started. The shell script of a job, or a shell of salloc, belongs to
    no step: what is started there without srun is one process, whatever SLURM_NTASKS says."""
    count, nodes = environment.get("SLURM_STEP_NUM_TASKS"), environment.get("SLURM_STEP_NODELIST")
    if not count or not nodes or environment.get("SLURM_PROCID") is None:
        return None
    host = re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", nodes).split(",")[0]  # gpu[03-07,12],login
    job = f"{environment.get('SLURM_JOB_ID', '')}.{environment.get('SLURM_STEP_ID', '')}"
    tasks = _tasks_per_node(environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    node, local = _of(environment, "SLURM_NODEID"), _of(environment, "SLURM_LOCALID")
    node_index = _whole(node) if node else 0
    here = tasks[node_index] if 0 <= node_index < len(tasks) else None
    return _Offer(
        "SLURM",
        f"{host}:{_port(job)}",
        _of(environment, "SLURM_STEP_NUM_TASKS"),
        _of(environment, "SLURM_PROCID"),
        _share(environment, gpus, here, local and _whole(local)),
    )


def not_yet_started(environment: Mapping[str, str]) -> bool:
    """Whether a job of SLURM asks for several tasks, and this process is not one of them."""
    tasks = environment.get("SLURM_NTASKS", "")
    others = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    return tasks.isdecimal() and int(tasks) > 1 and not any(name in environment for name in others)


def _tasks_per_node(text: str) -> list[int]:
    """SLURM's "2(x3),1" as [2, 2, 2, 1]; [] for what is not written like this."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+)(?:\(x([0-9]+)\))?", part.strip())
        if match is None:
            return []
        found += [int(match[1])] * int(match[2] or 1)
    return found


def _kubernetes(environment: Mapping[str, str], gpus: int) -> _Offer | None:
    """A pod of an indexed job. Kubernetes tells it its own number, and the job's file has to tell
    the rest, in GAN_JAX_COORDINATOR and GAN_JAX_NUM_PROCESSES."""
    index = _of(environment, "JOB_COMPLETION_INDEX")
    return index and _Offer("Kubernetes", index=index)


def _share(
    environment: Mapping[str, str], gpus: int, tasks: int | None, index: int | None
) -> tuple[int, ...] | None:
    """Which GPUs the local task number `index` of `tasks` takes, as equal shares; None for all
    that it sees.

    One task takes all. A task to which the scheduler has shown its own GPUs only takes those.
    """
    if tasks is None or index is None or tasks < 2 or "JAX_LOCAL_DEVICE_IDS" in environment:
        return None
    if "SLURM_GPUS_PER_TASK" in environment:
        return None
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    seen = gpus if visible is None else len(list(filter(None, visible.split(","))))
    allotted = environment.get("SLURM_GPUS_ON_NODE", "")
    if seen < tasks or (allotted.isdecimal() and seen < int(allotted)):
        return None
    each = seen // tasks
    return tuple(range(index * each, (index + 1) * each))


def on_several_tpu_hosts(environment: Mapping[str, str], endpoints: str) -> bool:
    """Whether this is one host of a TPU slice that has several.

    Args:
      environment: variables by name; on Google's Kubernetes engine they name the hosts.
      endpoints: what a TPU VM's metadata server says of the hosts, separated by commas.
    """
    named = next((environment[name] for name in TPU_HOSTS if environment.get(name)), endpoints)
    slices = environment.get("MEGASCALE_NUM_SLICES", "")
    return "," in named or (slices.isdecimal() and int(slices) > 1)
