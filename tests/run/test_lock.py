"""Two processes do not train in one folder, and the second is told who the first is."""

import os
import socket

import pytest

from gan_jax.errors import ArgumentError
from gan_jax.run import claims
from tests.helpers.one_line import refused_argument


@pytest.fixture
def claimed(tmp_path):
    """A folder that is locked; locks of one process exclude each other as those of two do."""
    folder = claims.claim(tmp_path / "run")
    yield folder
    claims.release(folder)


def test_the_refusal_names_host_process_and_time(claimed):
    who = rf"process {os.getpid()} on {socket.gethostname()} since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    message = rf"^={claimed}: {who}\S* trains there; wait for it, or name another folder$"
    refused_argument("workdir", message, claims.claim, claimed)
    refused_argument("workdir", message, claims.claim, claimed)  # and what it says is still there


def test_it_survives_the_removal_of_its_file(claimed):
    (claimed / ".lock").unlink()
    who = rf"process {os.getpid()} on {socket.gethostname()} since \d{{4}}-\d\d-\d\d \d\d:\d\d"
    refused_argument("workdir", rf"{who}\S* trains there", claims.claim, claimed)


def test_who_holds_it_is_named_where_the_system_says_it(claimed, monkeypatch):
    (claimed / ".lock").unlink()
    monkeypatch.setattr(claims, "_holder", lambda handle: "")
    refused_argument("workdir", "another process trains there", claims.claim, claimed)


def test_what_is_released_can_be_claimed(claimed):
    first = claims._locks[claimed]
    claims.release(claimed)
    again = claims.claim(claimed)
    assert claims._locks[again] is not first
    with pytest.raises(ArgumentError):
        claims.claim(claimed)


def test_nothing_is_written_through_a_planted_link(tmp_path):
    (tmp_path / "precious").write_text("data")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").symlink_to(tmp_path / "precious")
    match = r"cannot be written \(\.lock: it is a link\)"
    refused_argument("workdir", match, claims.claim, folder)
    assert (tmp_path / "precious").read_text() == "data"


def test_a_shorter_line_leaves_nothing_of_a_longer_one(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").write_text("x" * 500)
    claims.claim(folder)
    try:
        assert (folder / ".lock").read_text().startswith(f"process {os.getpid()} on ")
        assert "x" * 10 not in (folder / ".lock").read_text()
    finally:
        claims.release(folder)
