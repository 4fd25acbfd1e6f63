"""How many bytes an array takes on a TPU, which stores numbers in tiles of 8 rows by 128 lanes.

The compiler chooses which two axes lie along the rows and the lanes; a side that does not fill its
tiles is padded. The rule is that of the layouts that libtpu 0.0.42 gives the arguments of a program
(https://openxla.org/xla/tiled_layout tells how tiles are written down).
"""

import math
from itertools import permutations

LANES, ROWS = 128, 8  # numbers of 32 bits in a tile
LONGEST = ROWS * LANES  # the tile of an array with one axis
WORD = 4  # bytes; smaller numbers share one


def stored(kind: str, shape: tuple[int, ...], itemsize: int) -> int:
    """The bytes of an array on a device of a kind: "tpu", or "gpu" and others, which store numbers
    one after the other.

    Args:
      kind: of devices, as `backend.kind` names it.
      shape: of the array.
      itemsize: bytes of one number.
    """
    return tiled(shape, itemsize) if kind == "tpu" else math.prod(shape) * itemsize


def tiled(shape: tuple[int, ...], itemsize: int) -> int:
    """The bytes of an array in the layout that needs the least padding.

    Args:
      shape: without regard to the order of its axes.
      itemsize: bytes of one number.
    """
    if not itemsize or 0 in shape:
        return 0
    sharing = max(1, WORD // itemsize)  # numbers that lie in one word, from rows below each other
    if len(shape) < 2:
        length = math.prod(shape)
        tile = min(LONGEST, max(LANES * sharing, _power(length)))
        return _filled(length, tile) * itemsize
    numbers = math.prod(shape)
    return itemsize * min(
        numbers
        // (row * lane)
        * _filled(row, max(sharing, min(ROWS, _power(row))))
        * _filled(lane, LANES)
        for row, lane in set(permutations(shape, 2))
    )


def _power(length: int) -> int:
    """The smallest power of two that is not below `length`."""
    return 1 << (length - 1).bit_length()


def _filled(length: int, tile: int) -> int:
    """The smallest multiple of `tile` that is not below `length`."""
    return -(-length // tile) * tile
