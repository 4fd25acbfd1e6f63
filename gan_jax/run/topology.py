"""Devices by name, whether they are here or not: --topology=v4-32, 8xH100, 4xA100-40GB.

TPUs are named as Google Cloud names slices: the number counts TensorCores for v2, v3, v4 and v5p,
which have two to a chip, and chips for v5e and v6e. GPUs are named as <number>x<model>, where the
memory may be added. Memory per device is that of the makers' data sheets.
"""

import re
from typing import NamedTuple

from gan_jax.errors import ArgumentError, near_miss

GIB = 2**30


class _Tpu(NamedTuple):
    """A generation of TPUs."""

    gib: int  # of memory, per device
    cores: int  # that the name of a slice counts, per device
    sides: int  # of the torus of chips


# before v4 each core of a chip is a device of its own
_TPUS = {
    "v2": _Tpu(8, 1, 0),
    "v3": _Tpu(16, 1, 0),
    "v4": _Tpu(32, 2, 3),
    "v5p": _Tpu(95, 2, 3),
    "v5e": _Tpu(16, 1, 2),
    "v6e": _Tpu(32, 1, 2),
}
# GiB per card
_GPUS = {
    "V100": 16, "T4": 16, "P100": 16, "L4": 24, "A10": 24, "A10G": 24, "L40": 48, "L40S": 48,
    "A30": 24, "A40": 48, "A100": 40, "H100": 80, "H200": 141, "B200": 180, "GH200": 96,
    "RTX3090": 24, "RTX4090": 24, "RTX5090": 32, "RTXA6000": 48,
}  # fmt: skip
_LARGEST = 8192  # devices


class Topology(NamedTuple):
    """Devices of one kind.

    Attributes:
      name: as it was written.
      kind: "gpu" or "tpu".
      devices: how many there are.
      memory: bytes of each.
      compiles: what libtpu calls these devices, such as "v4:2x2x4"; "" where no compiler is needed
        or known.
    """

    name: str
    kind: str
    devices: int
    memory: int
    compiles: str = ""

    @property
    def shown(self) -> str:
        """All of it for a person: "16 TPU devices of 32 GiB each"."""
        one = f"{self.devices} {self.kind.upper()} device"
        each = "s, each" if self.devices > 1 else ""
        return f"{one}{each} with {self.memory / GIB:.0f} GiB of memory"


def parse(text: str) -> Topology:
    """The devices that a name stands for. Raises ArgumentError for a name that stands for none."""
    if found := re.fullmatch(r"(v\d+[a-z]?|v5litepod)-(\d+)", text.strip(), re.IGNORECASE):
        generation = found[1].lower().replace("v5litepod", "v5e")
        if generation in _TPUS and 0 < int(found[2]) <= _LARGEST:
            return _slice(text, generation, int(found[2]))
    card = re.fullmatch(r"(?:(\d{1,4})x)?([a-z]+\d+[a-z]?)(?:-(\d{1,4})GI?B)?", text, re.IGNORECASE)
    if card:
        count, name = int(card[1] or 1), card[2].upper()
        gib = int(card[3] or _GPUS.get(name, 0))
        if count and gib:
            return Topology(text, "gpu", count, gib * GIB)
        if count:
            raise ArgumentError(
                "topology",
                f"={text}: how much memory a {card[2]} has is not known here; add it, as in "
                f"{text}-24GB{near_miss(name, _GPUS)}",
            )
    raise ArgumentError(
        "topology",
        f"={text}: accepted are slices of TPUs, such as v4-32 or v5e-16 ({', '.join(_TPUS)}), and "
        "GPUs, such as 8xH100 or 4xA100-40GB",
    )


def _slice(text: str, generation: str, number: int) -> Topology:
    """A slice of TPUs, of which `number` is the last part of the name."""
    tpu = _TPUS[generation]
    devices = number // tpu.cores
    shape = _torus(devices, tpu.sides) if tpu.sides else ()
    if devices * tpu.cores != number or (tpu.sides and not shape):
        raise ArgumentError(
            "topology", f"={text}: there is no such slice; the number is a power of two, up to 4096"
        )
    named = f"{generation}:{'x'.join(map(str, shape))}" if shape else ""
    return Topology(text, "tpu", devices, tpu.gib * GIB, named)


def _torus(chips: int, sides: int) -> tuple[int, ...]:
    """The shape of a slice, its sides as equal as they can be, the last the longest: 16 chips are
    2x2x4 or 4x4. () unless the number is a power of two."""
    if chips < 1 or chips & (chips - 1):
        return ()
    halvings = chips.bit_length() - 1
    shape = [1] * sides
    if sides == 3 and halvings < 3:  # a host of four chips is 2x2x1
        return (*(2 if place < halvings else 1 for place in range(2)), 1)
    for place in range(halvings):
        shape[sides - 1 - place % sides] *= 2
    return tuple(shape)
