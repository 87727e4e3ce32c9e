"""Parts of models over order tokens as rollouts on a CPU go through them: without torch, equal up to rounding.

They share the memory of the weights of the modules that they are made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from marsbench.learning.compiled_layers import lstm, rms_norm, two_layers
from marsbench.learning.order_heads import CANCEL, FactorisedHead, TouchState
from marsbench.learning.vocabulary import SIZES, START
from marsbench.simulation.contracts import Rows

if TYPE_CHECKING:
    from marsbench.learning.recurrent import OrderReader

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Weights = tuple[Floats, ...]


def can_step(module: nn.Module) -> bool:
    """Whether there are steps without torch for a module with these weights."""
    states = [part for part in module.modules() if isinstance(part, TouchState)]
    fit = all(p.device.type == "cpu" and p.dtype == torch.float32 for p in module.parameters())
    return fit and bool(states)


def weights_of(*modules: nn.Module) -> Weights:
    """All parameters, in the order of their making."""
    return tuple(p.detach().numpy() for module in modules for p in module.parameters())


def state_weights(state: Any) -> Weights:
    """Of a ``TouchState``; columns that it does not see weigh nothing."""
    inner, *rest = weights_of(state)
    return (inner * state.seen.numpy(), *rest)


class LookSteps:
    """What is decided from: what is known of the orders so far, beside the state of the market, normalised."""

    def __init__(self, state: Any, norm: nn.RMSNorm) -> None:
        self.eps = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
        self.weights = (*weights_of(norm), *state_weights(state))

    def __call__(self, hidden: Floats, features: Floats) -> Floats:
        """``[k, d]`` of ``[k, d]`` and ``[k, F]``."""
        out: Floats = _look(hidden, features, self.eps, *self.weights)
        return out


class FactorisedSteps:
    """``FactorisedHead`` of the layout ``touch``; an ``OrderHead``."""

    def __init__(self, head: FactorisedHead) -> None:
        self.look = LookSteps(head.state, head.norm)
        self.interval = weights_of(head.interval)
        self.kind = weights_of(head.given_interval, head.kind)
        self.price = weights_of(head.given_type, head.price)
        self.volume = weights_of(head.given_price, head.volume)

    def context(self, hidden: Tensor, features: Tensor) -> Tensor:
        """``[k, d]``."""
        return torch.from_numpy(self.look(hidden.numpy(), features.float().numpy()))

    def interval_logits(self, context: Tensor) -> Tensor:
        """``[k, 16]``."""
        return torch.from_numpy(two_layers(context.numpy(), *self.interval))

    def type_logits(self, context: Tensor, interval: Tensor) -> tuple[Tensor, Tensor]:
        """``[k, 3]``, and the context given the interval."""
        logits, known = given(context.numpy(), interval.numpy(), *self.kind)
        return torch.from_numpy(logits), torch.from_numpy(known)

    def price_logits(self, context: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """``[k, 32]``, and the context given the type."""
        logits, known = given(context.numpy(), types.numpy(), *self.price)
        return torch.from_numpy(half(logits, types.numpy())), torch.from_numpy(known)

    def volume_logits(self, context: Tensor, types: Tensor, price: Tensor) -> Tensor:
        """``[k, 32]``."""
        kinds = types.numpy()
        logits, _ = given(context.numpy(), price_rows(price.numpy(), kinds), *self.volume)
        return torch.from_numpy(half(logits, kinds))


class ReaderSteps:
    """``OrderReader``, an order at a time."""

    def __init__(self, reader: OrderReader) -> None:
        order, layers = reader.order, range(reader.lstm.num_layers)
        tables = weights_of(order.kind, order.price, order.volume, order.interval)
        none = np.zeros((reader.order.kind.num_embeddings, reader.lstm.input_size), np.float32)
        self.tables = (*tables, none if order.group is None else order.group.weight.detach().numpy())
        self.state = state_weights(reader.state)
        self.layers = [self._layer(reader.lstm, number) for number in layers]

    @staticmethod
    def _layer(lstm: nn.LSTM, number: int) -> Weights:
        names = (f"{name}_l{number}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        given, kept, *biases = (getattr(lstm, name).detach().numpy() for name in names)
        return given, kept, biases[0] + biases[1]

    def __call__(self, rows: Rows, tokens: Ints, features: NDArray[Any], group: Ints, h: Tensor, c: Tensor) -> None:
        """One more order of each of some rows; h and c ``[layers, R, width]`` are moved on."""
        x = _embedded(tokens, features.astype(np.float32), group, *self.tables, *self.state)
        for own_h, own_c, weights in zip(h.numpy(), c.numpy(), self.layers, strict=True):
            x = lstm(x, rows, own_h, own_c, *weights)


@njit(cache=True)
def _look(hidden, features, eps, norm, inner, inner_bias, outer, outer_bias):  # type: ignore[no-untyped-def]
    out = two_layers(features, inner, inner_bias, outer, outer_bias)
    out += hidden
    rms_norm(out, norm, eps)
    return out


@njit(cache=True)
def given(context, slots, table, inner, inner_bias, outer, outer_bias):  # type: ignore[no-untyped-def]
    """Logits ``[k, n]``, and what they are of: the context ``[k, d]`` given a slot of each row."""
    known = context.copy()
    for i in range(len(slots)):
        known[i] += table[slots[i]]
    return two_layers(known, inner, inner_bias, outer, outer_bias), known


@njit(cache=True)
def half(logits, types):  # type: ignore[no-untyped-def]
    """Of logits ``[k, 2 n]`` the half of new orders or of cancels, by type, ``[k, n]``."""
    n = logits.shape[1] // 2
    out = np.empty((len(types), n), np.float32)
    for i in range(len(types)):
        first = n if types[i] == CANCEL else 0
        out[i] = logits[i, first : first + n]
    return out


@njit(cache=True)
def price_rows(slots, types):  # type: ignore[no-untyped-def]
    """Rows of a table of price slots, those of cancels after those of new orders."""
    out = slots.copy()
    for i in range(len(types)):
        if types[i] == CANCEL:
            out[i] += SIZES[1]
    return out


@njit(cache=True)
def _embedded(  # type: ignore[no-untyped-def]
    tokens, features, group, kind, price, volume, interval, groups, inner, inner_bias, outer, outer_bias
):
    out = two_layers(features, inner, inner_bias, outer, outer_bias)
    for i in range(len(tokens)):
        of_type, own = tokens[i, 0], out[i]
        own += kind[of_type]
        own += groups[group[i]]
        if of_type != START:
            later = SIZES[1] if of_type == CANCEL else 0
            own += price[tokens[i, 1] + later]
            own += volume[tokens[i, 2] + later]
            own += interval[tokens[i, 3]]
    return out
