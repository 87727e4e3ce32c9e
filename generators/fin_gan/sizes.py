"""The sizes of FIN-GAN's networks, and which series its makers can make. Needs no torch."""

from __future__ import annotations

from typing import Literal, get_args

Architecture = Literal["mlp", "cnn", "mlp-cnn"]

NOISE = 100
"""Independent normal numbers behind one series."""
FIRST = 128
"""Units of the first layer; of the convolutional makers the places, times channels, at which the series begins."""
HIDDEN = 2048
CHANNELS = 64
KERNELS = (35, 25, 15, 15, 15, 15)
"""Of the convolutions, each after a doubling of the length."""
BESIDE = (7, 4)
"""Kernels of the two convolutions whose results are added to the last one's."""
STRETCH = 2 ** len(KERNELS)


def check(architecture: str, length: int) -> None:
    """Make sure that an architecture can make series of a length.

    Raises
    ------
    ValueError
        Naming what is allowed.
    """
    if architecture not in get_args(Architecture):
        raise ValueError(f"fin-gan: architecture={architecture!r}; choose one of {', '.join(get_args(Architecture))}")
    if length < 8:
        raise ValueError(f"fin-gan: length must be at least 8 minutes, got {length}")
    allowed = [STRETCH * 2**k for k in range(FIRST.bit_length())]
    if architecture != "mlp" and length not in allowed:
        raise ValueError(
            f"fin-gan: length={length}; architecture {architecture!r} makes series of {', '.join(map(str, allowed))} "
            "minutes, 'mlp' of any length"
        )
