"""Where a file system has no locks, a lease says who trains in a folder."""

import errno
import json
import os
import time

import pytest

from gan_jax.core.state_writer import Gone
from gan_jax.run import claims, lease
from tests.helpers.one_line import refused_argument
from tests.helpers.waiting import wait_for


@pytest.fixture(autouse=True)
def no_locks(monkeypatch):
    def flock(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(claims.fcntl, "flock", flock)


@pytest.fixture
def folder(tmp_path):
    """A claimed folder."""
    made = claims.claim(tmp_path / "run")
    yield made
    claims.release(made)


def left(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def of_another(folder, age: float, **values) -> None:
    """Puts the lease of another process in a folder, renewed `age` seconds ago."""
    folder.mkdir(exist_ok=True)
    about = {"who": "process 7 on elsewhere", "token": "t", "host": "elsewhere", "pid": 7}
    (folder / ".lease").write_text(json.dumps(about | values))
    then = time.time() - age
    os.utime(folder / ".lease", (then, then))


def test_a_second_process_is_told_who_the_first_is(folder, lines):
    refused_argument(
        "workdir", rf"process {os.getpid()} on .* since .* trains there", claims.claim, folder
    )
    assert claims.in_use(folder)
    assert lines == []


def test_it_ends_with_the_claim(folder):
    claims.release(folder)
    assert left(folder) == [".lock"]
    assert not claims.in_use(folder)


def test_one_that_is_renewed_is_respected(tmp_path):
    of_another(tmp_path / "run", age=lease.STALE / 2)
    refused_argument("workdir", "process 7 on elsewhere trains", claims.claim, tmp_path / "run")
    assert left(tmp_path / "run") == [".lease", ".lock"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"who": 3}'])
def test_one_that_is_damaged_goes_when_it_is_old(tmp_path, text, lines):
    of_another(tmp_path / "run", age=9 * lease.STALE)
    then = os.stat(tmp_path / "run" / ".lease").st_mtime
    (tmp_path / "run" / ".lease").write_text(text)
    refused_argument("workdir", "trains there", claims.claim, tmp_path / "run")
    os.utime(tmp_path / "run" / ".lease", (then, then))
    claims.release(claims.claim(tmp_path / "run"))


@pytest.mark.parametrize("dead", [True, False])
def test_a_stale_one_is_taken_over_with_a_word(tmp_path, monkeypatch, lines, dead):
    """One that was not renewed; one of a process of this machine that is not there any more."""
    of_another(tmp_path / "run", age=0 if dead else 2 * lease.STALE)
    if dead:
        monkeypatch.setattr(lease.socket, "gethostname", lambda: "elsewhere")
        monkeypatch.setattr(lease.os, "kill", raising(ProcessLookupError))
    folder = claims.claim(tmp_path / "run")
    claims.check_held(folder)
    claims.release(folder)
    assert len(lines) == 1
    assert lines[0].endswith(", taken over from process 7 on elsewhere, which has ended")
    assert left(folder) == [".lock"]


def raising(error):
    def call(*args):
        raise error

    return call


def test_the_owner_renews_it_and_notices_when_it_is_lost(tmp_path, monkeypatch, lines):
    monkeypatch.setattr(lease, "BEAT", 0.05)
    folder = claims.claim(tmp_path / "run")
    os.utime(folder / ".lease", (1, 1))
    wait_for(lambda: os.stat(folder / ".lease").st_mtime > 1)
    claims.check_held(folder)
    of_another(folder, age=0)
    wait_for(lambda: claims._claims[folder].lease.lost)
    with pytest.raises(Gone, match="another process trains there by now"):
        claims.check_held(folder)
    claims.release(folder)
    assert json.loads((folder / ".lease").read_text())["pid"] == 7


def test_a_folder_that_cannot_hold_one(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "Lease", raising(OSError(errno.EROFS, "Read-only file system")))
    refused_argument("workdir", "Read-only file system", claims.claim, tmp_path / "run")
