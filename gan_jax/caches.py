"""Where what can be made again is kept: compiled programs, copies of buckets, headers, weights."""

import errno
import os
from pathlib import Path


def folder() -> Path:
    """$GAN_JAX_CACHE, or gan_jax in the user's folder for caches. It need not exist.

    As the XDG standard says, an XDG_CACHE_HOME that is a relative path is none. Raises
    FileNotFoundError where there is no home folder, as in a container that does not know its user.
    """
    if own := os.environ.get("GAN_JAX_CACHE"):
        return Path(os.path.expanduser(own))
    caches = os.environ.get("XDG_CACHE_HOME", "")
    parent = Path(caches if os.path.isabs(caches) else os.path.expanduser("~/.cache"))
    if not parent.is_absolute():
        raise FileNotFoundError(
            errno.ENOENT, "there is no home folder; GAN_JAX_CACHE names a folder for caches"
        )
    return parent / "gan_jax"
