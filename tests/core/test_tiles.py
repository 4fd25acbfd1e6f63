"""Bytes of arrays on a TPU, against the layouts that libtpu 0.0.42 chose for them."""

import pytest

from gan_jax.core import tiles

# shape, and bytes in float32, bfloat16 and uint8
MEASURED = [
    ((), 512, 512, 512),
    ((129,), 1024, 512, 512),
    ((300,), 2048, 1024, 512),
    ((1025,), 8192, 4096, 2048),
    ((1, 1), 512, 512, 512),
    ((5, 130), 8192, 4096, 2048),
    ((512, 1), 2048, 2048, 2048),
    ((12, 200, 5), 81920, 40960, 20480),
    ((5, 7, 9, 11), 184320, 92160, 46080),
    ((32, 28, 28, 1), 401408, 229376, 114688),
    ((2, 2, 2, 2, 2), 8192, 4096, 4096),
]
NARROW = [  # float32 and bfloat16
    ((3, 3, 16, 16), 73728, 36864),
    ((3, 3, 16, 1), 4608, 3072),
    ((4, 4, 3, 64), 24576, 12288),
    ((7, 7, 256, 64), 3211264, 1605632),
    ((4, 28, 28, 16), 917504, 458752),
    ((32, 32, 32, 3), 1572864, 786432),
    ((4, 256, 256, 3), 3145728, 1572864),
]


@pytest.mark.parametrize("case", [*MEASURED, *NARROW], ids=str)
def test_a_tpu_pads_an_array_to_tiles(case):
    shape, *expected = case
    found = [tiles.tiled(shape, size) for size in (4, 2, 1)[: len(expected)]]
    assert found == expected


def test_other_devices_store_arrays_without_gaps():
    assert tiles.stored("gpu", (3, 3, 16, 16), 4) == 9216
    assert tiles.stored("tpu", (3, 3, 16, 16), 4) == 73728
    assert tiles.stored("tpu", (0, 4), 4) == tiles.stored("gpu", (0, 4), 4) == 0
