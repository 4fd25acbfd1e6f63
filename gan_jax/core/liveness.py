"""How much memory a traced program takes, counted from its equations without a compiler.

The equations are walked in their order, and the peak of what lies in memory at one time is the
result. Which arrays lie in memory at all follows from what XLA's compilers fuse: a product of
matrices, a convolution, a sum over an axis and the like write their results; what is computed
element by element is part of the kernels that read it, and is written only where several kernels
need it and it would take more than one large array to compute it again. What is wanted again in a
backward pass is therefore kept if it was written, and otherwise kept as what it is computed from.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from jax.extend.core import Jaxpr, Literal

# other views of the same array
VIEWS = {
    "bitcast_convert_type", "copy", "expand_dims", "optimization_barrier", "random_unwrap",
    "random_wrap", "reshape", "shard_alike", "sharding_constraint", "squeeze", "stop_gradient",
    "transpose",
}  # fmt: skip
PRODUCTS = {"conv_general_dilated", "dot_general"}
# written to memory, with all that they read
WRITTEN = PRODUCTS | {
    "concatenate", "cond", "cumlogsumexp", "cummax", "cumprod", "cumsum", "custom_call",
    "dynamic_update_slice", "fft", "ffi_call", "gather", "random_bits", "reduce_window",
    "reduce_window_max", "reduce_window_sum", "scan", "scatter", "scatter-add",
    "select_and_gather_add", "select_and_scatter_add", "sort", "top_k", "while",
}  # fmt: skip
# written to memory; what they read may be computed on the way
REDUCTIONS = {
    "argmax", "argmin", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod",
    "reduce_sum",
}  # fmt: skip
SMALL = 4  # an array this many times smaller than another costs next to nothing beside it
NEAR = 64  # equations: what is read after more of them is not part of the same kernel
MOST_OPERANDS = 4  # large arrays that a kernel reads
CALLED = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # where an equation has the program that it calls


class Peak(NamedTuple):
    """Bytes at the moment when a program takes the most memory.

    Attributes:
      arguments: what the program is given; what it returns takes their place.
      weights: arrays that are shaped like one of the donated arguments: gradients, and copies of
        weights.
      examples: the rest, whose size depends on the number of examples.
    """

    arguments: int
    weights: int
    examples: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.arguments + self.weights + self.examples


def peak(program: Jaxpr, donated: Iterable[int] = (), fuses_products: bool = False) -> Peak:
    """The peak of a program.

    Args:
      program: without functions that it calls, all of whose effects are its results.
      donated: the numbers of the arguments whose memory the results may take.
      fuses_products: whether a convolution or product of matrices computes its operands from one
        other array as it reads them. The compiler for TPUs does so; libraries for GPUs read arrays.
    """
    flat = _Flat(program, fuses_products)
    return _walked(flat, [flat.arguments[i] for i in donated])


class _Equation(NamedTuple):
    """An equation by the numbers of its arrays; `inside` is what a loop's body takes in bytes."""

    name: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    inside: int


class _Flat:
    """A program without calls, views and what nobody reads.

    Attributes:
      sizes: the bytes of each array, by its number.
      kinds: the shape and type of each array.
      arguments, results: numbers of arrays.
      equations: in their order.
    """

    def __init__(self, program: Jaxpr, fuses_products: bool):
        self.sizes: list[int] = []
        self.kinds: list[tuple] = []
        self.fuses_products = fuses_products
        self._same: list[int] = []
        self._all: list[_Equation] = []
        self.arguments = [self._new(v.aval) for v in program.invars]
        known = dict(zip(program.invars, self.arguments, strict=True))
        known |= {v: self._new(v.aval) for v in program.constvars}
        self.given = set(known.values())
        self._add(program, known)
        found = [_number(known, v) for v in program.outvars]
        self.results = {number for number in found if number is not None}
        self.equations = self._needed()

    def _new(self, aval: Any) -> int:
        shape = getattr(aval, "shape", ())
        kind = getattr(aval, "dtype", None)
        self.sizes.append(math.prod(shape) * getattr(kind, "itemsize", 0))
        self.kinds.append((tuple(shape), str(kind)))
        return len(self.sizes) - 1

    def _add(self, program: Jaxpr, known: dict) -> None:
        """Appends the equations of a program, in which `known` are the arrays so far."""
        for equation in program.eqns:
            reads = [_number(known, v) for v in equation.invars]
            called = _called(equation)
            if called is not None:
                inner = dict(zip(called.invars, reads, strict=True))
                inner |= {v: self._new(v.aval) for v in called.constvars}
                self._add(called, inner)
                for outer, v in zip(equation.outvars, called.outvars, strict=True):
                    literal = isinstance(v, Literal)
                    known[outer] = self._new(v.aval) if literal else inner[v]
                continue
            read = tuple(number for number in reads if number is not None)
            name = equation.primitive.name
            if len(read) == len(equation.outvars) and self._is_view(name, equation):
                known |= dict(zip(equation.outvars, read, strict=True))
                continue
            known |= {v: self._new(v.aval) for v in equation.outvars}
            writes = tuple(known[v] for v in equation.outvars)
            self._all.append(_Equation(name, read, writes, self._inside(equation)))

    def _is_view(self, name: str, equation: Any) -> bool:
        """Whether an equation gives other views of what it reads."""
        unchanged = name == "convert_element_type" and (
            equation.invars[0].aval.dtype == equation.outvars[0].aval.dtype
        )
        return name in VIEWS or unchanged

    def _inside(self, equation: Any) -> int:
        """What the body of a loop, or the larger branch, takes beside its arguments and results."""
        name, params = equation.primitive.name, equation.params
        if name == "scan":
            body = params["jaxpr"].jaxpr
            # constants and then the carry look inside as they do outside, rows lose an axis; in the
            # results the carry comes first
            rows = sum(map(_as_outside, body.invars, equation.invars))
            kept = rows - sum(map(_as_outside, body.outvars, equation.outvars))
            slices = sum(
                math.prod(v.aval.shape) * v.aval.dtype.itemsize for v in body.invars[rows:]
            )
            return slices + self._temporaries(body, range(kept, rows))
        if name == "cond":
            bodies = [branch.jaxpr for branch in params["branches"]]
            return max(self._temporaries(body, range(len(body.invars))) for body in bodies)
        if name == "while":
            body = params["body_jaxpr"].jaxpr
            return self._temporaries(body, range(len(body.invars)))
        return 0

    def _temporaries(self, body: Jaxpr, donated: range) -> int:
        found = peak(body, donated, self.fuses_products)
        return found.weights + found.examples

    def _needed(self) -> list[_Equation]:
        """The equations that the results depend on."""
        wanted, kept = set(self.results), []
        for equation in reversed(self._all):
            if any(number in wanted for number in equation.writes):
                wanted.update(equation.reads)
                kept.append(equation)
        return kept[::-1]


def _number(known: dict, variable: Any) -> int | None:
    """The number of an array; None for a constant in the equation itself."""
    return None if isinstance(variable, Literal) else known[variable]


def _called(equation: Any) -> Jaxpr | None:
    """The program that an equation stands for, unless it is a loop or a choice."""
    if equation.primitive.name in WRITTEN:
        return None
    for name in CALLED:
        found = equation.params.get(name)
        found = getattr(found, "jaxpr", found)
        if found is not None and len(found.invars) == len(equation.invars):
            return found
    return None


class _Kernel(NamedTuple):
    """An equation that writes arrays, with all that is computed on the way.

    `reads` are arrays in memory, and `place` is where in the order it is run.
    """

    equation: _Equation
    reads: frozenset[int]
    writes: tuple[int, ...]
    place: float


def _kernels(flat: _Flat) -> list[_Kernel]:
    """The kernels of a program, in the order in which they are run."""
    readers = defaultdict(list)
    for place, equation in enumerate(flat.equations):
        for number in set(equation.reads):
            readers[number].append(_Reader(equation.name, place))
    roots = {number: frozenset([number]) for number in flat.given}
    found, first_read = [], {}
    for place, equation in enumerate(flat.equations):
        reads = frozenset().union(*(roots.get(n, frozenset()) for n in equation.reads))
        writes = []
        for number in equation.writes:
            written = _is_written(flat, equation, number, place, reads, readers[number])
            narrow = equation.reads[0] if written and _widens(flat, equation) else number
            if narrow != number and narrow not in reads:  # an array of fewer bytes says the same
                roots[narrow] = roots[number] = frozenset([narrow])
                writes.append(narrow)
            else:
                roots[number] = frozenset([number]) if written else reads
                writes += [number] if written else []
        if writes:
            found.append(_Kernel(equation, reads, tuple(writes), place))
            for number in reads:
                first_read.setdefault(number, place)
    return sorted((_later(flat, k, first_read) for k in found), key=lambda kernel: kernel.place)


class _Reader(NamedTuple):
    """An equation that reads an array: its name, and its place in the order."""

    name: str
    place: int


def _widens(flat: _Flat, equation: _Equation) -> bool:
    """Whether an equation gives the same numbers in a wider type, and they are no result."""
    if equation.name != "convert_element_type" or equation.writes[0] in flat.results:
        return False
    return flat.sizes[equation.reads[0]] < flat.sizes[equation.writes[0]]


def _later(flat: _Flat, kernel: _Kernel, first_read: dict[int, int]) -> _Kernel:
    """The same kernel, run only when its results are read if all that it reads is there anyway."""
    read = [first_read[number] for number in kernel.writes if number in first_read]
    if kernel.reads <= flat.given and len(read) == len(kernel.writes):
        return kernel._replace(place=min(read) - 0.5)
    return kernel


def _is_written(
    flat: _Flat,
    equation: _Equation,
    number: int,
    place: int,
    roots: frozenset[int],
    readers: list[_Reader],
) -> bool:
    """Whether a result of an equation is written to memory; `place` is that of the equation, and
    `roots` are the arrays in memory that the result is computed from."""
    if equation.name in WRITTEN or equation.name in REDUCTIONS or number in flat.results:
        return True
    size = flat.sizes[number]
    large = [root for root in roots if flat.sizes[root] * SMALL >= size]
    if not large:
        return False
    one = len(large) == 1
    whole = WRITTEN - PRODUCTS if flat.fuses_products and one else WRITTEN
    if any(reader.name in whole and reader.name != "concatenate" for reader in readers):
        return True
    if one:  # computed again where it is read, unless it is the smaller of the two
        (root,) = large
        return flat.sizes[root] > size and len(readers) > 1 and root not in flat.given
    if len(readers) > 1 or len(large) > MOST_OPERANDS:
        return True
    return any(reader.place > place + NEAR for reader in readers)


def _walked(flat: _Flat, donated: list[int]) -> Peak:
    """The peak of a program whose results may take the memory of the arguments `donated`."""
    kernels = _kernels(flat)
    ends = {}
    for place, kernel in enumerate(kernels):
        ends |= dict.fromkeys(kernel.reads, place)
    shapes = {flat.kinds[number][0] for number in donated}
    free = Counter(flat.kinds[number] for number in donated)
    live: dict[int, int] = {}
    held, most, then = 0, -1, (0, 0)
    for place, kernel in enumerate(kernels):
        dying = [n for n in kernel.reads if ends[n] == place and n in live]
        if kernel.equation.name not in WRITTEN or kernel.equation.name == "scan":
            held -= _reuse(live, dying, sum(flat.sizes[number] for number in kernel.writes))
        for number in kernel.writes:
            taken = number in flat.results and free[flat.kinds[number]] > 0
            free[flat.kinds[number]] -= taken
            live[number] = 0 if taken else flat.sizes[number]
            held += live[number]
        now = held + kernel.equation.inside
        if now > most:
            weights = sum(size for n, size in live.items() if flat.kinds[n][0] in shapes)
            most, then = now, (weights, now - weights)
        for number in (*dying, *kernel.writes):
            if number not in flat.results and ends.get(number, place) <= place:
                held -= live.pop(number, 0)
    return Peak(sum(flat.sizes[number] for number in flat.arguments), *then)


def _reuse(live: dict[int, int], dying: list[int], wanted: int) -> int:
    """Frees those of the arrays `dying` whose memory results of `wanted` bytes can take at once,
    and returns how many bytes that were."""
    freed = 0
    for number in dying:
        if live[number] <= wanted - freed:
            freed += live.pop(number)
    return freed


def _as_outside(inner: Any, outer: Any) -> bool:
    """Whether an array of a loop's body has as many axes as the one of the loop itself."""
    return inner.aval.ndim == outer.aval.ndim
