"""The memory of a traced program, against sizes that are known in closed form."""

import jax
import jax.numpy as jnp
import pytest

from gan_jax.core import liveness
from gan_jax.core.mesh import split_as

N = 64
ARRAY = N * N * 4  # bytes of one [N, N] in float32
SQUARE = jax.ShapeDtypeStruct((N, N), jnp.float32)


def peak(function, *shapes, donated=(), fuses_products=False) -> liveness.Peak:
    program = jax.make_jaxpr(function)(*shapes)
    return liveness.peak(program.jaxpr, donated, fuses_products)


def temporaries(function, *shapes, **how) -> float:
    """In arrays [N, N]."""
    found = peak(function, *shapes, **how)
    return (found.weights + found.examples) / ARRAY


def test_a_product_takes_its_result():
    found = peak(lambda a, b: a @ b, SQUARE, SQUARE)
    assert found == (2 * ARRAY, 0, ARRAY)
    assert found.total == 3 * ARRAY


def test_a_donated_argument_gives_its_place():
    def program(a, b):
        return a + b, jnp.sum(b)

    assert temporaries(program, SQUARE, SQUARE) == pytest.approx(1, abs=1e-3)
    assert temporaries(program, SQUARE, SQUARE, donated=[0]) == pytest.approx(0, abs=1e-3)


def test_what_is_computed_by_element_is_part_of_its_reader():
    """Ten functions of a product, between it and a sum, are never written; one before another
    product is, unless products compute what they read."""

    def chain(x):
        for _ in range(10):
            x = jnp.tanh(x) * 2
        return x

    assert temporaries(lambda a: jnp.sum(chain(a @ a)), SQUARE) == pytest.approx(1, abs=1e-3)
    assert temporaries(lambda a: chain(a @ a) @ a, SQUARE) == 2
    assert temporaries(lambda a: jnp.sum(chain(a) @ a), SQUARE) == pytest.approx(2, abs=1e-3)
    fused = temporaries(lambda a: jnp.sum(chain(a) @ a), SQUARE, fuses_products=True)
    assert fused == pytest.approx(1, abs=1e-3)


def test_what_nobody_reads_takes_nothing():
    def program(a):
        unread = jnp.concatenate([a @ a] * 50)
        return jnp.sum(a), unread[:0]

    assert temporaries(lambda a: program(a)[0], SQUARE) < 0.01


def test_views_are_no_copies():
    assert temporaries(lambda a: (a @ a).reshape(2, -1).T.reshape(N, N) @ a, SQUARE) == 2


def layers(count: int, remat: bool):
    """The gradient of `count` blocks of two products each."""

    def block(x, w):
        return jnp.tanh(jnp.tanh(x @ w) @ w)

    one = jax.checkpoint(block) if remat else block

    def loss(w, x):
        for _ in range(count):
            x = one(x, w)
        return jnp.sum(x)

    return jax.grad(loss)


@pytest.mark.parametrize("fuses", [False, True])
def test_a_backward_pass_keeps_what_it_reads(fuses):
    """Two arrays for each block, or one for each where blocks are computed twice."""
    plain = [temporaries(layers(n, False), SQUARE, SQUARE, fuses_products=fuses) for n in (4, 8)]
    twice = [temporaries(layers(n, True), SQUARE, SQUARE, fuses_products=fuses) for n in (4, 8)]
    assert plain[1] - plain[0] == 4 * 2
    assert twice[1] - twice[0] == 4
    assert twice[1] < plain[1]


def test_a_loop_takes_its_body_once():
    def step(total, x):
        return total + (x @ x) @ x, None

    def loop(count: int) -> float:
        rows = jax.ShapeDtypeStruct((count, N, N), jnp.float32)
        start = jnp.zeros((N, N))
        return temporaries(lambda xs: jax.lax.scan(step, start, xs)[0], rows)

    assert loop(3) == loop(30)
    assert 3 <= loop(3) <= 4  # the sum, the row, and one or two products


def test_a_choice_takes_its_larger_branch():
    def program(a, flag):
        return jax.lax.cond(flag, lambda x: x, lambda x: (x @ x) @ x, a)

    flag = jax.ShapeDtypeStruct((), jnp.bool_)
    assert temporaries(program, SQUARE, flag) == pytest.approx(2, abs=0.01)


def test_half_precision_is_kept_in_half_precision():
    """A sum in float32 of what was written in bfloat16 does not keep it in float32."""
    half = jax.ShapeDtypeStruct((N, N), jnp.bfloat16)

    def program(a):
        x = a @ a
        wide = x.astype(jnp.float32)
        return (wide - jnp.mean(wide)).astype(jnp.bfloat16) @ x

    assert temporaries(program, half) == pytest.approx(1.5, abs=0.01)


def test_gradients_are_told_from_activations():
    def step(w, x):
        return w - jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w)))(w)

    rows = jax.ShapeDtypeStruct((8 * N, N), jnp.float32)
    found = peak(step, SQUARE, rows, donated=[0])
    assert found.arguments == 9 * ARRAY
    assert found.examples >= 8 * ARRAY
    assert found.weights <= ARRAY


def test_an_array_that_is_tied_to_the_batch_is_not_counted_twice():
    def step(tie):
        def made(x, key):
            drawn = jax.random.normal(key, x.shape)
            drawn = split_as(x, drawn) if tie else drawn
            return jnp.sum(jnp.square(x + drawn) * jnp.sum(drawn))

        return peak(made, jnp.zeros((32, 8, 8, 3)), jax.random.key(0)).examples

    assert step(True) == step(False)
