"""The decoder of LLaMA 2: RMSNorm, rotary positions, SwiGLU, causal attention; parameter names as Hugging Face's.

In rollouts, keys and values of the last ``window`` orders of each row stay in a ring: the oldest is overwritten by
the newest. Rotary positions are relative, so that positions may go on beyond the window. Most of a step's time goes
into reading the ring, so that keys lie there as their product with queries reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from . import few_rows
from .compiling import Compiled
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

    def for_steps(self) -> StepWeights:
        """The weights with those joined that are applied to the same input."""
        attention, mlp = self.self_attn, self.mlp
        return StepWeights(
            before=self.input_layernorm.weight.detach(),
            qkv=joined(attention.q_proj, attention.k_proj, attention.v_proj),
            out=attention.o_proj.weight.detach(),
            between=self.post_attention_layernorm.weight.detach(),
            gate_up=joined(mlp.gate_proj, mlp.up_proj),
            down=mlp.down_proj.weight.detach(),
        )

    def as_in(self, weights: StepWeights) -> bool:
        """Whether joined weights are still this layer's own (after a move to another device they are not)."""
        firsts = (self.self_attn.q_proj, weights.qkv), (self.mlp.gate_proj, weights.gate_up)
        return all(part.weight.data_ptr() == whole.data_ptr() for part, whole in firsts)


class StepWeights(NamedTuple):
    """Those of a layer as ``_advance`` takes them."""

    before: Tensor
    qkv: Tensor
    out: Tensor
    between: Tensor
    gate_up: Tensor
    down: Tensor


def joined(*parts: nn.Linear) -> Tensor:
    """The weights of several projections as one matrix.

    The projections' own become parts of it, so that nothing is stored twice, and what changes in them changes in it.
    """
    weights = [part.weight for part in parts]
    storage = weights[0].untyped_storage().data_ptr()
    follows = (
        b.untyped_storage().data_ptr() == storage and a.data_ptr() + a.nbytes == b.data_ptr()
        for a, b in pairwise(weights)
    )
    if not all(follows):
        with torch.inference_mode(False):
            whole = torch.cat([w.detach() for w in weights])
        for weight, part in zip(weights, torch.split(whole, [len(w) for w in weights]), strict=True):
            weight.data = part
    first, rows = weights[0].detach(), sum(len(w) for w in weights)
    return torch.as_strided(first, (rows, first.shape[1]), first.stride(), first.storage_offset())


def _advance(
    x: Tensor, cos: Tensor, sin: Tensor, slot: Tensor, keys: Tensor, values: Tensor, hidden: Tensor | None,
    weights: StepWeights, shape: Shape,
) -> Tensor:  # fmt: skip
    """One layer for one more order of each of k rows, ``[k, width]``, which joins their keys and values at ``slot``."""
    s, rows = shape, len(x)
    h = functional.rms_norm(x, (s.width,), weights.before, s.eps)
    h = functional.linear(h, weights.qkv).view(rows, s.heads + 2 * s.kv_heads, s.head_width)
    turned = rotate(h[:, : s.heads + s.kv_heads], cos, sin)
    front = torch.arange(rows, device=x.device)
    keys[front, :, :, slot] = turned[:, s.heads :]
    values[front, :, slot] = h[:, s.heads + s.kv_heads :]
    q = (turned[:, : s.heads] * s.head_width**-0.5).view(rows, s.kv_heads, s.heads // s.kv_heads, s.head_width)
    scores = torch.matmul(q, keys)  # [k, kv_heads, heads per kv_head, window]
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    out = torch.matmul(torch.softmax(scores, -1), values)
    x = x + functional.linear(out.view(rows, -1), weights.out)
    h = functional.rms_norm(x, (s.width,), weights.between, s.eps)
    gate, up = functional.linear(h, weights.gate_up).chunk(2, -1)
    return x + functional.linear(functional.silu(gate) * up, weights.down)


def _advance_all(
    x: Tensor, cos: Tensor, sin: Tensor, slot: Tensor, keys: list[Tensor], values: list[Tensor],
    hidden: Tensor | None, weights: list[StepWeights], norm: Tensor, shape: Shape,
) -> Tensor:  # fmt: skip
    """All layers, and the last norm."""
    for k, v, own in zip(keys, values, weights, strict=True):
        x = _advance(x, cos, sin, slot, k, v, hidden, own, shape)
    return functional.rms_norm(x, (shape.width,), norm, shape.eps)


_compiled = Compiled(_advance_all, rows=6)


class Llama(nn.Module):
    """A stack of layers on input embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.compile_steps = False
        """Whether rollouts go through ``torch.compile``: the same up to rounding."""
        self._weights: list[StepWeights] = []
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
        if few_rows.takes(x):
            found = few_rows.step(self, x[order], ring, positions)
        else:
            found = self._step(x[order], ring, positions)
        out = torch.empty_like(found)
        out[order] = found
        return out

    def _step(self, x: Tensor, ring: Ring, positions: Tensor) -> Tensor:
        """The rows at the front of the ring, in torch."""
        cos, sin = (c[:, None] for c in rotation(positions, self.shape.head_width, self.shape.theta))
        keys, values = ([held[: len(x)] for held in both] for both in (ring.keys, ring.values))
        advance = _compiled if self.compile_steps and ring.hidden is None else _advance_all
        norm = self.norm.weight.detach()
        found: Tensor = advance(x, cos, sin, ring.slot, keys, values, ring.hidden, self.for_steps(), norm, self.shape)
        return found

    def for_steps(self) -> list[StepWeights]:
        """The weights of each layer as steps take them."""
        layers = self.stack
        if not self._weights or not all(layer.as_in(w) for layer, w in zip(layers, self._weights, strict=True)):
            self._weights = [layer.for_steps() for layer in layers]
        return self._weights


class Ring:
    """Keys ``[rows, kv_heads, head_width, window]`` and values ``[rows, kv_heads, window, head_width]`` of each layer.

    They are those of the last ``window`` orders of each row. The rows that take part in a turn are moved to the front,
    so that no keys are copied to attend to them: rows that are done, and are not asked again, are moved once.
    """

    def __init__(self, shape: Shape, rows: int, window: int, *, like: Tensor) -> None:
        each = range(shape.layers)
        keys = [like.new_zeros(rows, shape.kv_heads, shape.head_width, window) for _ in each]
        values = [like.new_zeros(rows, shape.kv_heads, window, shape.head_width) for _ in each]
        self._hold(keys, values, np.zeros(rows, np.int64))

    def _hold(self, keys: list[Tensor], values: list[Tensor], seen: NDArray[np.int64]) -> None:
        self.keys, self.values, self.seen = keys, values, seen
        """``seen``: orders that the row at each place has seen."""
        self.window = values[0].shape[2]
        self.device = values[0].device
        self.place = np.arange(len(seen))
        """Place of each row."""
        self.hidden: Tensor | None = None
        """Of this turn: what holds nothing yet, ``[k, 1, 1, window]``; None where all is taken."""
        self.slot = torch.zeros(0, dtype=torch.long, device=self.device)
        """Of this turn: where each order goes, ``[k]``."""

    @classmethod
    def _of(cls, keys: list[Tensor], values: list[Tensor], seen: NDArray[np.int64]) -> Ring:
        ring = object.__new__(cls)
        ring._hold(keys, values, seen)
        return ring

    def fill(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Take over the last orders of whole sequences, keys and values ``[rows, kv_heads, T, head_width]``."""
        length = keys.shape[-2]
        last = torch.arange(max(length - self.window, 0), length, device=self.device)
        self.keys[layer][..., last % self.window] = keys[:, :, last].transpose(-1, -2)
        self.values[layer][:, :, last % self.window] = values[:, :, last]

    def spread(self, copies: int) -> Ring:
        """A ring in which each row stands ``copies`` times, one after the other. Not after a turn."""
        keys, values = ([t.repeat_interleave(copies, dim=0) for t in held] for held in (self.keys, self.values))
        return self._of(keys, values, self.seen.repeat(copies))

    @classmethod
    def joined(cls, rings: Sequence[Ring]) -> Ring:
        """One ring of the rows of several. Not after a turn."""
        keys = [torch.cat(own) for own in zip(*(r.keys for r in rings), strict=True)]
        values = [torch.cat(own) for own in zip(*(r.values for r in rings), strict=True)]
        return cls._of(keys, values, np.concatenate([r.seen for r in rings]))

    def turn(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Make ready for one more order of each of some rows.

        Returns
        -------
        order
            ``[k]``, in which order they stand at the front: entry i is the position within ``rows``.
        positions
            ``[k]``, how many orders each has seen before, in that order.
        """
        self._to_front(rows)
        seen = self.seen[: len(rows)].copy()
        self.seen[: len(rows)] += 1
        order = torch.as_tensor(np.argsort(self.place[rows]), device=self.device)
        positions = torch.as_tensor(seen, device=self.device)
        self.slot = positions % self.window
        places = torch.arange(self.window, device=self.device)
        self.hidden = (places > positions[:, None])[:, None, None] if seen.min() < self.window - 1 else None
        return order, positions

    def _to_front(self, rows: NDArray[np.int64]) -> None:
        k = len(rows)
        outside = rows[self.place[rows] >= k]
        if len(outside) == 0:
            return
        asked = np.zeros(len(self.place), bool)
        asked[rows] = True
        waiting = np.flatnonzero(~asked & (self.place < k))
        here, there = self.place[waiting], self.place[outside]
        self.seen[here], self.seen[there] = self.seen[there], self.seen[here]
        self.place[waiting], self.place[outside] = there, here
        a, b = (torch.as_tensor(places, device=self.device) for places in (here, there))
        for held in (*self.keys, *self.values):
            moved = held.index_select(0, b)
            held.index_copy_(0, b, held.index_select(0, a))
            held.index_copy_(0, a, moved)
