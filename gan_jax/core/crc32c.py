"""The checksum of TFRecords (CRC-32C, RFC 3720), of long data at the speed of numpy."""

import numpy as np
from tensorboardX.crc32c import CRC_TABLE, crc32c

_TABLE = np.array(CRC_TABLE, np.uint32)
_SHORT = 2**14  # bytes, below which the loop over bytes is as fast
_BITS = np.arange(32, dtype=np.uint32)


def masked(data: bytes) -> int:
    """The checksum in the form in which a TFRecord stores it."""
    value = crc32c(data) if len(data) < _SHORT else _of_long(data)
    return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _of_long(data: bytes) -> int:
    """The checksum of data that are cut into parts, of which all are taken in step.

    The register is linear in data and start. So the register after two parts is that after the
    second one, begun with 0, plus that after the first one moved on by zeros.
    """
    parts = 1 << (len(data).bit_length() // 2)
    length = len(data) // parts
    rows = np.frombuffer(data, np.uint8, parts * length).reshape(parts, length)
    register = np.zeros(parts, np.uint32)
    register[0] = 0xFFFFFFFF
    for column in np.ascontiguousarray(rows.T):
        register = _next(register, column)
    moved = np.uint32(1) << _BITS  # what zeros as long as a part make of each bit
    for _ in range(length):
        moved = _next(moved, np.uint8(0))
    while len(register) > 1:
        register = _applied(moved, register[0::2]) ^ register[1::2]
        moved = _applied(moved, moved)
    value = int(register[0])
    for byte in data[parts * length :]:
        value = CRC_TABLE[(value ^ byte) & 255] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def _next(register: np.ndarray, byte: np.ndarray) -> np.ndarray:
    """Registers uint32 [N] after a byte each."""
    return _TABLE[(register ^ byte) & 255] ^ (register >> 8)


def _applied(moved: np.ndarray, register: np.ndarray) -> np.ndarray:
    """A linear map, given by the images of the 32 bits, of registers uint32 [N]."""
    bits = (register[:, None] >> _BITS) & 1
    return np.bitwise_xor.reduce(bits * moved, axis=1)
