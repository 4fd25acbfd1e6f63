"""The devices on which a command computes."""

import glob
import logging
import os
import urllib.request

from gan_jax.errors import UserError
from gan_jax.modes import cluster, compiled, joining, streams
from gan_jax.modes.flags import General

ENDPOINTS = (
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"
    "worker-network-endpoints"
)
logger = logging.getLogger(__name__)


def prepare(general: General) -> None:
    """Loads jax and makes it compute where the flags say.

    Joins the other processes if there are any, chooses the kind of device, and makes sure that
    there is one, in this order: jax joins nothing once it was asked for a device. Raises UserError
    if there is no such cluster or device.
    """
    asked = cluster.Asked(
        general.distributed.value,
        general.coordinator.value,
        general.num_processes.value,
        general.process_id.value,
    )
    gpus = len(glob.glob("/dev/nvidia[0-9]*"))
    member = cluster.find(asked, os.environ, gpus)
    # XLA reads this when the first device is opened, so it works even if jax is imported already
    if not general.preallocate.value:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax

    platform = general.platform.value
    if platform:
        jax.config.update("jax_platforms", platform)
    joined = _join(jax, asked, member, platform, general.join_seconds.value)
    compiled.keep(jax, general.compilation_cache.value, joined)
    if joined:
        from gan_jax.core import cluster as bound

        bound.join()
    _check(jax, platform)
    if joined:
        if jax.process_index():
            streams.mute()
        found = member.found if member else "TPU"
        logger.info(f"{jax.process_count()} processes, found by {found}")


def _join(
    jax, asked: cluster.Asked, member: cluster.Member | None, platform: str, seconds: int
) -> bool:
    """Joins the other processes; returns whether there are any."""
    if member is not None:
        # without it processes on CPUs would not reach each other; other devices do not read it
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        joining.join(jax, member, seconds)
        return True
    if asked.distributed == "off":
        return False
    if platform in ("", "tpu") and cluster.on_several_tpu_hosts(os.environ, _tpu_endpoints()):
        joining.join(jax, None, seconds)
        return True
    if asked.distributed == "auto" and cluster.not_yet_started(os.environ):
        logger.info(
            "note: this job of SLURM has several tasks, but srun has not started this process, so "
            "it computes alone"
        )
    if asked.distributed == "on" and not _alone(asked):
        raise UserError(
            "--distributed: no cluster found here; start the processes by srun or mpirun, or give "
            "each of them --coordinator, --num_processes and --process_id"
        )
    return False


def _alone(asked: cluster.Asked) -> bool:
    """Whether something says that this is the only process, such as a scheduler."""
    single = (*cluster.COUNT, "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    told = any(os.environ.get(name, "").strip() == "1" for name in single)
    return told or asked.count == 1 or _on_tpu()


def _on_tpu() -> bool:
    """Whether jax has found a TPU's chips in this machine."""
    return "TPU_ML_PLATFORM" in os.environ and "TPU_SKIP_MDS_QUERY" not in os.environ


def _tpu_endpoints() -> str:
    """What the metadata server of a TPU VM says of the slice's hosts; "" where there is none."""
    if not _on_tpu():
        return ""
    request = urllib.request.Request(ENDPOINTS, headers={"Metadata-Flavor": "Google"})
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=5) as answer:
            return answer.read(100_000).decode()
    except (OSError, ValueError):
        return ""


def _check(jax, platform: str) -> None:
    """Raises UserError if the platform that was asked for is not there."""
    if not jax.config.jax_platforms:
        return
    named = f"--platform={platform}"
    if not platform:
        named = f"JAX_PLATFORMS={jax.config.jax_platforms} in the environment"
    try:
        jax.devices()
    except (RuntimeError, AssertionError):
        raise UserError(
            f"{named}: jax finds no such device here; install gan_jax[cuda] or gan_jax[tpu], or "
            "choose cpu"
        ) from None
