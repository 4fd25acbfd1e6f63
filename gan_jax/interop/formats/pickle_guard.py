"""The check that every pickle must pass before it is read."""

import pickletools
from typing import BinaryIO


def check_memo(stored: bytes | BinaryIO) -> None:
    """Walks through one pickle, executing nothing; for a stream, from its position to STOP.

    Python's unpickler allocates a memo as large as the index of an entry says, and as many bytes
    as are announced: four damaged bytes could fill the memory.

    Raises:
        ValueError: such an index, or bytes that are no pickle.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stored)):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > count:
            raise ValueError(f"memo entry {argument} comes too early")
