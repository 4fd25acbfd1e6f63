"""Processes that are bound end together and stop at the same question; here each is an object."""

import threading
import time
from types import SimpleNamespace

import pytest

from gan_jax.core import bond
from gan_jax.core.bond import Bond
from gan_jax.core.state_writer import SaveFailed
from gan_jax.core.train_step import NonFinite
from gan_jax.errors import STOPPED, UserError
from tests.helpers.waiting import PATIENCE, wait_for

SIZE = 3


@pytest.fixture
def three(monkeypatch):
    """Three bonds, and the statuses with which their processes have ended, by rank."""
    monkeypatch.setattr(bond, "DOUBT", 0.3)
    ended: dict[int, int] = {}

    def end(rank: int):
        def leave(status: int) -> None:
            ended.setdefault(rank, status)
            for peer in list(bonds[rank]._peers.values()):  # as the kernel does
                peer._connection.close()

        return leave

    bonds = [Bond(rank, SIZE, end(rank)) for rank in range(SIZE)]
    port, word = bonds[0].listen()
    for one in bonds[1:]:
        one.connect("127.0.0.1", port, word, bonds[0].host)
    bonds[0].wait_for_all()
    yield SimpleNamespace(bonds=bonds, ended=ended)
    for one in bonds:
        one.part()
        for peer in list(one._peers.values()):
            peer.finish()


def lines(capsys) -> list[str]:
    return sorted(capsys.readouterr().err.splitlines())


@pytest.mark.parametrize("rank", [0, 2])
def test_a_process_that_fails_ends_all_with_its_line_and_status(three, capsys, rank):
    three.bonds[rank].tell("no image\ncan be read", 74)
    three.bonds[rank].leave(74)
    wait_for(lambda: three.ended == {0: 74, 1: 74, 2: 74})
    line = f"error: process {rank} on {three.bonds[0].host}: no image can be read"
    assert lines(capsys) == [line] * 2  # the process itself prints its own


@pytest.mark.parametrize("rank", [0, 2])
def test_a_process_that_is_killed_ends_all_with_the_status_for_once_more(three, capsys, rank):
    for peer in list(three.bonds[rank]._peers.values()):
        peer.leaves = True  # what the dead one would hear is not looked at here
        peer._connection.shutdown(2)
    others = {0, 1, 2} - {rank}
    wait_for(lambda: others <= three.ended.keys())
    assert {three.ended[other] for other in others} == {STOPPED}
    line = f"error: process {rank} on {three.bonds[0].host}: it ended without a word: it was killed"
    assert [text.startswith(line) for text in lines(capsys)] == [True] * 2


def test_processes_that_end_as_they_should_are_not_missed(three, capsys):
    for rank in (1, 2, 0):
        three.bonds[rank].part()
        for peer in list(three.bonds[rank]._peers.values()):
            peer.finish()
    wait_for(lambda: not any(one._peers for one in three.bonds))
    assert (three.ended, lines(capsys)) == ({}, [])


def test_an_error_that_follows_from_another_is_not_told(three, capsys):
    """Collectives fail in all processes when one is killed: the killed one is the cause."""
    told = threading.Thread(target=three.bonds[1].tell, args=("gloo: closed", 1, False))
    told.start()
    three.bonds[2].tell("the cause", 3)
    three.bonds[2].leave(3)
    wait_for(lambda: three.ended == {0: 3, 1: 3, 2: 3})
    told.join(PATIENCE)
    assert {text.rpartition(": ")[2] for text in lines(capsys)} == {"the cause"}


def test_an_error_without_another_cause_is_told(three, capsys):
    three.bonds[1].tell("TypeError: None", 1, sure=False)
    three.bonds[1].leave(1)
    wait_for(lambda: three.ended == {0: 1, 1: 1, 2: 1})
    assert {text.rpartition(": ")[2] for text in lines(capsys)} == {"None"}


@pytest.mark.parametrize("asked", [0, 1])
def test_all_stop_at_the_same_question_and_go_on_saying_so(three, asked):
    """Each asks in a loop of its own, as fast as it can; nobody is ahead by more than a step."""
    stops, turn = {}, threading.Barrier(SIZE)

    def loop(one: Bond) -> None:
        for step in range(10**6):
            if one.now():
                stops[one.rank] = step, one.now()
                return
            turn.wait(PATIENCE)  # the collective of a step

    threads = [threading.Thread(target=loop, args=(one,)) for one in three.bonds]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    three.bonds[asked].ask()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(set(stops.values())) == 1, stops
    assert stops[0][1]
    assert all(one.stopping for one in three.bonds)
    three.bonds[2].ask()  # a second signal changes nothing
    assert three.bonds[2].now()


def test_a_stranger_is_not_let_in(capsys):
    one, stranger = Bond(0, 2), Bond(1, 2, lambda status: None)
    port, _ = one.listen()
    stranger.connect("127.0.0.1", port, "another word", "")
    wait_for(lambda: not stranger._peers)
    assert one._peers == {}


def test_a_process_that_cannot_connect_says_to_what(monkeypatch):
    monkeypatch.setattr(bond, "MEETING", 0.2)
    alone = Bond(0, 2)
    port, _ = alone.listen()
    with pytest.raises(UserError, match=r"processes \[1\] have joined the cluster, but have not"):
        alone.wait_for_all()
    with pytest.raises(UserError, match=r"process 1 on .* cannot connect to port 1 of 127.0.0.1"):
        Bond(1, 2).connect("127.0.0.1", 1, "", "")
    assert port


@pytest.fixture
def told(monkeypatch) -> list:
    """What the other processes are told, of this process as one of several."""
    found: list = []
    one = SimpleNamespace(tell=lambda *words, **more: found.append((*words, *more.values())))
    monkeypatch.setattr(bond, "current", one)
    return found


def test_what_is_told_of_an_error(told):
    bond.tell_error(UserError("no such file"))
    bond.tell_error(SaveFailed("the disk is full"))
    bond.tell_error(ValueError("a\nb"))
    bond.tell_error(NonFinite("step 3", "lower the rate"))  # all processes have this one
    assert told == [
        ("no such file", 1, True),
        ("the disk is full", 74, True),
        ("ValueError: a b", 1, False),
    ]
