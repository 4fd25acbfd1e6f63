"""The devices on which a command computes."""

import os

from gan_jax.errors import UserError
from gan_jax.modes.flags import General


def prepare(general: General) -> None:
    """Loads jax and makes it compute where the flags say; see `open_devices`."""
    # XLA reads this when the first device is opened, so it works even if jax is imported already
    if not general.preallocate.value:
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    import jax

    open_devices(
        jax,
        general.platform.value,
        general.distributed.value,
        general.compilation_cache.value,
    )


def open_devices(jax, platform: str, distributed: bool, compilation_cache: str) -> None:
    """Joins the cluster, chooses the kind of device, and makes sure that there is one.

    Raises UserError if there is no such cluster or device.
    """
    if platform:
        jax.config.update("jax_platforms", platform)
    if distributed:  # before any device is asked for
        try:
            jax.distributed.initialize(**_numbers())  # addresses come from the environment
        except (ValueError, RuntimeError) as error:
            raise UserError(f"--distributed: no cluster found here ({error})") from None
        from gan_jax.core import cluster

        cluster.join()
    if compilation_cache:
        jax.config.update("jax_compilation_cache_dir", compilation_cache)
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


def _numbers() -> dict[str, int]:
    """How many processes there are and which this one is, if the environment says; jax itself reads
    only the address there."""
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    return {key: int(os.environ[name]) for key, name in names.items() if os.environ.get(name)}
