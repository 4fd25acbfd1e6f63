"""The folder for caches, and what happens where there is none."""

import os

import numpy as np
import pytest

from gan_jax import caches
from gan_jax.buckets import addresses
from gan_jax.data import header_cache
from gan_jax.errors import UserError
from gan_jax.interop import cache, inception
from gan_jax.ops import onednn


def test_which_folder(monkeypatch, tmp_path):
    """Ours before the desktop's, that before the home folder; an empty variable is none."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "ours"))
    assert caches.folder() == tmp_path / "ours"
    monkeypatch.setenv("GAN_JAX_CACHE", "~/ours")
    assert caches.folder() == tmp_path / "home" / "ours"
    for unset in (lambda name: monkeypatch.setenv(name, ""), monkeypatch.delenv):
        unset("GAN_JAX_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert caches.folder() == tmp_path / "xdg" / "gan_jax"
        unset("XDG_CACHE_HOME")
        assert caches.folder() == tmp_path / "home" / ".cache" / "gan_jax"
    assert os.listdir(tmp_path) == []  # it is only named


class Many:
    """A source of so many images that their headers are worth keeping."""

    fingerprint = "a"

    def __len__(self) -> int:
        return header_cache.LEAST


def test_without_a_home_folder_nothing_is_kept_and_all_else_works(monkeypatch, tmp_path):
    """As in a container that does not know its user: nothing is written to a folder named ~."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    for name in ("GAN_JAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FileNotFoundError, match="GAN_JAX_CACHE names a folder for caches"):
        caches.folder()
    kept = onednn._Kept("library")
    kept.keep(b"")
    assert kept.opened() is None
    header_cache.keep(Many(), np.ones((header_cache.LEAST, 3), np.int32))
    assert not header_cache.load(Many()).any()
    assert cache.place("weights.npz") is None
    with pytest.raises(UserError, match=r"config\.quality\.inception is missing"):
        inception.load("", "config.quality.inception")
    assert not [*tmp_path.iterdir()]
    # a copy of a bucket has to be somewhere
    with pytest.raises(UserError, match=r"^s3://b/x: there is no home folder; GAN_JAX_CACHE names"):
        _ = addresses.parse("s3://b/x").local
