"""The roofline: a step takes as long as its arithmetic or its bytes, whichever is longer."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["H100", "H200", "Device", "decode_intensity", "roofline"]


@dataclass(frozen=True)
class Device:
    """What a processor can do in a second, and how much it holds.

    ``flops`` operations a second, ``bandwidth`` bytes a second from its memory, ``memory`` bytes.
    """

    name: str
    flops: float
    bandwidth: float
    memory: float

    def __post_init__(self) -> None:
        if not all(x > 0 for x in (self.flops, self.bandwidth, self.memory)):
            raise ValueError(f"a device has positive rates and memory, got {self}")

    @property
    def ridge(self) -> float:
        """Operations a byte at which arithmetic and bytes take equally long.

        Equation: modern-llms/inference.md#eq-ridge
        """
        return self.flops / self.bandwidth


# Dense bfloat16 rates, from the makers' data sheets of the SXM modules.
H100 = Device("H100", 989e12, 3.35e12, 80e9)
H200 = Device("H200", 989e12, 4.8e12, 141e9)


def roofline(flops: float, moved: float, device: Device) -> float:
    """Return the seconds that a piece of work takes at least: the longer of two times.

    ``flops`` operations, ``moved`` bytes read or written.
    Equation: modern-llms/inference.md#eq-roofline. Source: Williams et al. 2009,
    doi:10.1145/1498765.1498785.

    Raises:
        ValueError: a negative amount of work.
    """
    if not (flops >= 0 and moved >= 0):
        raise ValueError(f"work is not negative, got {flops} operations and {moved} bytes")
    return max(flops / device.flops, moved / device.bandwidth)


def decode_intensity(
    parameters: float, batch: int, bytes_a_weight: float, cache_bytes: float = 0
) -> float:
    """Return the operations for each byte moved when ``batch`` texts get one token each.

    A weight is read once for all texts and used for one product and one sum in each.
    ``cache_bytes`` are the keys and values of one text, which no other text shares; the arithmetic
    on them is left out. Equation: modern-llms/inference.md#eq-decode-intensity
    """
    if not (parameters > 0 and batch >= 1 and bytes_a_weight > 0 and cache_bytes >= 0):
        raise ValueError(
            f"needs parameters, a batch and bytes above 0, got {parameters}, {batch}, "
            f"{bytes_a_weight} and {cache_bytes}"
        )
    return 2 * parameters * batch / (parameters * bytes_a_weight + batch * cache_bytes)
