"""One more order of each of a few rows through the decoder, compiled without torch.

The last rows of a batch are drawn one order at a time. For so few, much of a step of torch's is the calls of its many
small operations; here it is the reading of the weights. Equal up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from marsbench.learning.compiled_layers import exponential, rms_norm, sigmoid

if TYPE_CHECKING:
    from .llama import Llama, Ring

MOST = 64
"""Up to so many rows it is the faster one."""


def takes(x: Tensor) -> bool:
    """Whether these rows ``[k, width]`` are better computed here."""
    return len(x) <= MOST and x.dtype == torch.float32 and x.device.type == "cpu"


def step(decoder: Llama, x: Tensor, ring: Ring, positions: Tensor) -> Tensor:
    """Hidden states ``[k, width]`` of one more order for each of the k rows at the front of a ring.

    Parameters
    ----------
    x
        Input embeddings ``[k, width]``, float32, on the CPU.
    positions
        ``[k]``, how many orders each has seen before.
    """
    shape, seen, out = decoder.shape, positions.numpy(), x.numpy().copy()
    cos, sin = _rotation(seen, shape.head_width, shape.theta)
    sizes = shape.heads, shape.kv_heads, shape.head_width, shape.eps
    for keys, values, own in zip(ring.keys, ring.values, decoder.for_steps(), strict=True):
        weights = (part.numpy() for part in own)
        _layer(out, seen, cos, sin, keys.numpy(), values.numpy(), *weights, *sizes)
    rms_norm(out, decoder.norm.weight.detach().numpy(), shape.eps)
    return torch.from_numpy(out)


def _rotation(positions: Any, width: int, theta: float) -> tuple[Any, Any]:
    """Cosines and sines ``[k, width / 2]``."""
    frequencies = np.float32(theta) ** (-np.arange(0, width, 2, dtype=np.float32) / np.float32(width))
    angles = positions[:, None].astype(np.float32) * frequencies
    return np.cos(angles), np.sin(angles)


@njit(cache=True, fastmath=True)
def _linear(x, weight):  # type: ignore[no-untyped-def]
    """Every weight is read once, whatever the number of rows."""
    out = np.empty((x.shape[0], weight.shape[0]), np.float32)
    for i in range(weight.shape[0]):
        for r in range(x.shape[0]):
            total = np.float32(0)
            for j in range(weight.shape[1]):
                total += weight[i, j] * x[r, j]
            out[r, i] = total
    return out


@njit(cache=True, fastmath=True)
def _rotate(part, cos, sin):  # type: ignore[no-untyped-def]
    """In place, ``[head_width]``."""
    half = len(cos)
    for c in range(half):
        a, b = part[c], part[half + c]
        part[c] = a * cos[c] - b * sin[c]
        part[half + c] = b * cos[c] + a * sin[c]


@njit(cache=True, fastmath=True)
def _attend(queries, keys, values, count, out):  # type: ignore[no-untyped-def]
    """Of heads that share keys ``[head_width, window]`` and values ``[window, head_width]``, over ``count`` orders.

    Queries and out are ``[heads, head_width]``. Keys and values are read once, whatever the number of heads.
    """
    heads, width = queries.shape
    shares = np.zeros((heads, count), np.float32)
    for c in range(width):
        for h in range(heads):
            for j in range(count):
                shares[h, j] += queries[h, c] * keys[c, j]
    for own in shares:
        own -= own.max()
        exponential(own)
        own /= own.sum()
    out[:] = 0
    for j in range(count):
        for h in range(heads):
            for c in range(width):
                out[h, c] += shares[h, j] * values[j, c]


@njit(cache=True, fastmath=True)
def _layer(  # type: ignore[no-untyped-def]
    x, positions, cos, sin, keys, values, before, qkv, o_proj, between, gate_up, down, heads, kv_heads, width, eps
):
    """In place on ``x``, keys and values."""
    rows, window = x.shape[0], keys.shape[3]
    scale = np.float32(width) ** np.float32(-0.5)
    normed = x.copy()
    rms_norm(normed, before, eps)
    parts = _linear(normed, qkv)
    attended = np.empty((rows, kv_heads, heads // kv_heads, width), np.float32)
    for r in range(rows):
        slot, count = positions[r] % window, min(positions[r] + 1, window)
        for h in range(heads + kv_heads):
            _rotate(parts[r, h * width : (h + 1) * width], cos[r], sin[r])
        for h in range(kv_heads):
            keys[r, h, :, slot] = parts[r, (heads + h) * width : (heads + h + 1) * width]
            values[r, h, slot] = parts[r, (heads + kv_heads + h) * width : (heads + kv_heads + h + 1) * width]
        queries = (parts[r, : heads * width] * scale).reshape(kv_heads, heads // kv_heads, width)
        for g in range(kv_heads):
            _attend(queries[g], keys[r, g], values[r, g], count, attended[r, g])
    x += _linear(attended.reshape(rows, heads * width), o_proj)
    normed[:] = x
    rms_norm(normed, between, eps)
    both = _linear(normed, gate_up)
    hidden = both.shape[1] // 2
    inner = sigmoid(both[:, :hidden])
    for r in range(rows):
        for j in range(hidden):
            inner[r, j] *= both[r, j] * both[r, hidden + j]
    x += _linear(inner, down)
