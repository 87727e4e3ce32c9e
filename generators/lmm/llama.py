"""The decoder of LLaMA 2: RMSNorm, rotary positions, SwiGLU, causal attention; parameter names as Hugging Face's.

In rollouts, keys and values of the last ``window`` orders of each row stay in a ring: the oldest is overwritten by
the newest. Rotary positions are relative, so that positions may go on beyond the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from .recipe import Shape


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) times a weight."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rotation(positions: Tensor, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines ``[..., width]`` of positions ``[...]``."""
    frequencies = theta ** (-torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width)
    angles = positions[..., None].float() * frequencies
    return torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the two halves of the last dimension by their angles."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        inner, shared = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
        self.q_proj = nn.Linear(shape.width, inner, bias=False)
        self.k_proj = nn.Linear(shape.width, shared, bias=False)
        self.v_proj = nn.Linear(shape.width, shared, bias=False)
        self.o_proj = nn.Linear(inner, shape.width, bias=False)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``[B, heads, T, head_width]``."""
        q, k, v = (
            part(x).unflatten(-1, (-1, self.shape.head_width)).transpose(-3, -2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        return q, k, v

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of whole sequences ``[B, T, width]``: the output, and rotated keys and values for a cache."""
        q, k, v = self._heads(x)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        out = functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=self.shape.heads != self.shape.kv_heads,
            dropout_p=self.shape.dropout if self.training else 0.0,
        )  # fmt: skip
        return self.o_proj(out.transpose(-3, -2).flatten(-2)), k, v

    def step(self, x: Tensor, cos: Tensor, sin: Tensor, ring: Ring, layer: int) -> Tensor:
        """One more order for each of k rows: ``[k, width]``, attending to what the ring holds of them."""
        s = self.shape
        q = rotate(self.q_proj(x).view(-1, s.heads, s.head_width), cos, sin)
        k = rotate(self.k_proj(x).view(-1, s.kv_heads, s.head_width), cos, sin)
        v = self.v_proj(x).view(-1, s.kv_heads, s.head_width)
        keys, values = ring.put(layer, k, v)  # [k, kv_heads, window, head_width]
        q = q.view(-1, s.kv_heads, s.heads // s.kv_heads, s.head_width)
        scores = torch.matmul(q, keys.transpose(-1, -2)) * s.head_width**-0.5
        if ring.hidden is not None:
            scores = scores.masked_fill(ring.hidden, float("-inf"))
        out = torch.matmul(torch.softmax(scores, -1), values)
        added: Tensor = self.o_proj(out.reshape(len(x), -1))
        return added


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down_proj = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """Attention and feed-forward, each on a normalised input and added to it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = FeedForward(shape)
        self.input_layernorm = RMSNorm(shape.width, shape.eps)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.eps)


class Llama(nn.Module):
    """A stack of layers on input embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.eps)

    @property
    def stack(self) -> list[Layer]:
        """The layers in order."""
        return cast(list[Layer], list(self.layers))

    def forward(self, x: Tensor, *, ring: Ring | None = None) -> Tensor:
        """Hidden states ``[B, T, width]`` of sequences of input embeddings ``[B, T, width]``.

        With a ring, whose rows are these B sequences, it is filled with their last orders.
        """
        cos, sin = rotation(torch.arange(x.shape[1], device=x.device), self.shape.head_width, self.shape.theta)
        for i, layer in enumerate(self.stack):
            added, k, v = layer.self_attn(layer.input_layernorm(x), cos, sin)
            x = x + added
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            if ring is not None:
                ring.fill(i, k, v)
        if ring is not None:
            ring.seen += x.shape[1]
        out: Tensor = self.norm(x)
        return out

    def step(self, x: Tensor, ring: Ring, rows: NDArray[np.int64]) -> Tensor:
        """Hidden states ``[k, width]`` of one more order for each of some rows of a ring."""
        order, positions = ring.turn(rows)
        cos, sin = rotation(positions, self.shape.head_width, self.shape.theta)
        x = x[order]
        for i, layer in enumerate(self.stack):
            x = x + layer.self_attn.step(layer.input_layernorm(x), cos[:, None], sin[:, None], ring, i)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        out = torch.empty_like(x)
        out[order] = self.norm(x)
        return out


class Ring:
    """Keys and values of the last ``window`` orders of each row, ``[layers, rows, kv_heads, window, head_width]``.

    The rows that take part in a turn are moved to the front, so that no keys are copied to attend to them: rows that
    are done, and are not asked again, are moved once.
    """

    def __init__(self, shape: Shape, rows: int, window: int, *, like: Tensor) -> None:
        size = (shape.layers, rows, shape.kv_heads, window, shape.head_width)
        self._hold(like.new_zeros(size), like.new_zeros(size), torch.zeros(rows, dtype=torch.long, device=like.device))

    def _hold(self, keys: Tensor, values: Tensor, seen: Tensor) -> None:
        self.keys, self.values, self.seen = keys, values, seen
        """``seen``: orders that the row at each place has seen."""
        self.window = keys.shape[3]
        self.place = np.arange(keys.shape[1])
        """Place of each row."""
        self.hidden: Tensor | None = None
        """Of this turn: what holds nothing yet, ``[k, 1, 1, window]``; None where all is taken."""
        self._front = torch.arange(keys.shape[1], device=keys.device)
        self._slot = self._front

    @classmethod
    def _of(cls, keys: Tensor, values: Tensor, seen: Tensor) -> Ring:
        ring = object.__new__(cls)
        ring._hold(keys, values, seen)
        return ring

    def fill(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Take over the last orders of whole sequences, keys and values ``[rows, kv_heads, T, head_width]``."""
        length = keys.shape[-2]
        last = torch.arange(max(length - self.window, 0), length, device=keys.device)
        self.keys[layer][:, :, last % self.window] = keys[:, :, last]
        self.values[layer][:, :, last % self.window] = values[:, :, last]

    def spread(self, copies: int) -> Ring:
        """A ring in which each row stands ``copies`` times, one after the other. Not after a turn."""
        return self._of(
            self.keys.repeat_interleave(copies, dim=1),
            self.values.repeat_interleave(copies, dim=1),
            self.seen.repeat_interleave(copies),
        )

    @classmethod
    def joined(cls, rings: Sequence[Ring]) -> Ring:
        """One ring of the rows of several. Not after a turn."""
        return cls._of(
            torch.cat([r.keys for r in rings], dim=1),
            torch.cat([r.values for r in rings], dim=1),
            torch.cat([r.seen for r in rings]),
        )

    def turn(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Make ready for one more order of each of some rows.

        Returns
        -------
        order
            ``[k]``, in which order they stand at the front: entry i is the position within ``rows``.
        positions
            ``[k]``, how many orders each has seen before, in that order.
        """
        k = len(rows)
        self._to_front(rows)
        order = torch.as_tensor(np.argsort(self.place[rows]), device=self.keys.device)
        positions = self.seen[:k].clone()
        self.seen[:k] += 1
        self._slot = positions % self.window
        full = bool((positions >= self.window - 1).all())
        places = torch.arange(self.window, device=self.keys.device)
        self.hidden = None if full else (places > positions[:, None])[:, None, None]
        return order, positions

    def _to_front(self, rows: NDArray[np.int64]) -> None:
        k = len(rows)
        outside = rows[self.place[rows] >= k]
        if len(outside) == 0:
            return
        asked = np.zeros(len(self.place), bool)
        asked[rows] = True
        waiting = np.flatnonzero(~asked & (self.place < k))
        here, there = (torch.as_tensor(self.place[r], device=self.keys.device) for r in (waiting, outside))
        for held, dim in ((self.keys, 1), (self.values, 1), (self.seen, 0)):
            moved = held.index_select(dim, there)
            held.index_copy_(dim, there, held.index_select(dim, here))
            held.index_copy_(dim, here, moved)
        self.place[waiting], self.place[outside] = self.place[outside], self.place[waiting]

    def put(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values ``[k, kv_heads, head_width]`` of the turn; returns all that its rows hold."""
        k, v = self.keys[layer, : len(keys)], self.values[layer, : len(keys)]
        front = self._front[: len(keys)]
        k[front, :, self._slot] = keys
        v[front, :, self._slot] = values
        return k, v
