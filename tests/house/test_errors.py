"""Mistakes of a user: which argument they name."""

import pytest

from gan_jax.errors import NOT_SAVED, ArgumentError, UserError, argument, one_of
from gan_jax.modes import parsing


def test_a_check_of_an_argument_names_it():
    with (
        pytest.raises(ArgumentError, match=r"^sort='x': accepted are a, b$") as caught,
        argument("sort"),
    ):
        one_of("sort", "x", ("a", "b"))
    assert caught.value.name == "sort"


def test_other_mistakes_pass_through():
    with pytest.raises(UserError, match=r"^config\.x: wrong$") as caught, argument("sort"):
        raise UserError("config.x: wrong")
    assert not isinstance(caught.value, ArgumentError)
    with pytest.raises(ArgumentError) as caught, argument("sort"):
        raise ArgumentError("seeds", ": wrong")
    assert caught.value.name == "seeds"


def test_a_parameter_of_another_name_is_told_by_its_flag():
    for mode, name, flag in (
        ("translate", "source", "input"),
        ("caricature", "source", "input"),
        ("import", "source", "from"),
        ("sample", "formats", "format"),
    ):
        command = parsing.parse(["launch.py", f"--mode={mode}"])
        assert (
            parsing.message(ArgumentError(name, " is missing"), command) == f"--{flag} is missing"
        )
        assert set(command.mode.PARAMETERS.values()) <= set(command.flags)


def test_an_error_that_gets_a_name_keeps_its_status_and_whose_it_is():
    failed = UserError("the bucket does not answer")
    failed.status, failed.shared = NOT_SAVED, True
    with (
        pytest.raises(ArgumentError, match=r"^out: the bucket does not answer$") as caught,
        argument(otherwise="out"),
    ):
        raise failed
    assert (caught.value.status, caught.value.shared) == (NOT_SAVED, True)
