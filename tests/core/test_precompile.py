"""Programs that are compiled before they are needed."""

import threading

import jax
import jax.numpy as jnp
import pytest

from gan_jax.core.precompile import Precompile, Program
from gan_jax.core.system import Stage

SMALL, LARGE = Stage(4, 2, 0, 3), Stage(8, 2, 3, 3)


@pytest.fixture
def program():
    """x * side, with the number of compilations per thread."""
    return Program(jax.jit(lambda x, stage: x * stage.resolution, static_argnums=1), arrays=1)


def shape() -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((2,), jnp.float32)


def test_a_prepared_program_is_the_one_that_runs(program):
    program.prepare(shape(), LARGE)
    program.function = None  # nothing is left to compile with
    assert program(jnp.ones(2), LARGE).tolist() == [8, 8]
    # stages that differ in their place only share it
    assert program(jnp.ones(2), Stage(8, 2, 9, 1)).tolist() == [8, 8]


def test_without_preparation_it_compiles_and_is_not_prepared_again(program):
    assert program(jnp.ones(2), SMALL).tolist() == [4, 4]
    program.prepare(shape(), SMALL)
    assert program(jnp.ones(2), SMALL).tolist() == [4, 4]
    assert program.function._cache_size() == 1


def test_programs_of_stages_gone_by_are_dropped(program):
    for stage in (SMALL, LARGE):
        program.prepare(shape(), stage)
    program.forget(lambda stage: stage == LARGE)
    function, program.function = program.function, None
    assert program(jnp.ones(2), LARGE).tolist() == [8, 8]
    program.function = function
    assert program(jnp.ones(2), SMALL).tolist() == [4, 4]


def test_preparing_runs_in_a_thread_of_its_own_and_a_failure_stays_there():
    names = []

    def prepare(stage: Stage) -> None:
        names.append((stage.resolution, threading.current_thread() is threading.main_thread()))
        if stage == LARGE:
            raise MemoryError("no room")

    precompile = Precompile(prepare)
    for stage in (SMALL, LARGE):
        precompile.begin(stage)
    precompile.wait()
    assert names == [(4, False), (8, False)]
    assert isinstance(precompile.failure, MemoryError)
