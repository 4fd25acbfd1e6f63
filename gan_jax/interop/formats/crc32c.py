"""CRC-32C (Castagnoli), the checksum of TensorFlow's files."""

import google_crc32c

_MASK = 0xA282EAD8


def checksum(data: bytes | memoryview) -> int:
    """The CRC-32C of the bytes."""
    return google_crc32c.value(bytes(data))


def masked(crc: int) -> int:
    """The checksum as files store it: rotated, with a constant added, because the CRC of data that
    contains its own CRC is weak."""
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF
