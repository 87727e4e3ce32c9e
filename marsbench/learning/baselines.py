"""What simple models of order tokens come to, in nats per order: what a trained model has to beat.

Each is fitted on training orders, for every group of instruments its own because their bins differ, and scored on
validation orders. All are proper distributions over the 49,152 tokens, with a finite cost for every one of them, and
their totals are split over the fields by the chain rule in the order interval, type, price, volume.

Counts are smoothed as in MacKay and Peto (1995): probability (n + a q) / (N + a), where q is that of the next simpler
distribution. A small share of the training orders is not counted and chooses a.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from marsbench.learning.token_files import TokenFiles
from marsbench.learning.vocabulary import FIELDS, SIZES

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

CHAIN = ("interval", "type", "price", "volume")
"""Fields in the order in which each is conditioned on those before it."""
MOST_TRAINING = 20_000_000
"""So many training orders of a group are read at most, of periods spread evenly ..."""
MOST_VALIDATION = 2_000_000
"""... and so many validation orders of it are scored."""
TUNING = 20
"""Every so manieth training order is not counted but chooses the smoothing ..."""
MOST_TUNING = 100_000
"""... at most so many of them."""
STRENGTHS = 4.0 ** np.arange(-2, 13)
"""What ``a`` is chosen from, in orders."""
_COLUMNS = tuple(FIELDS.index(name) for name in CHAIN)
_SIZES = tuple(SIZES[c] for c in _COLUMNS)
_ALL = tuple(range(len(CHAIN)))
_DENSE = 1 << 23
"""Keys up to here are counted in a table, larger ones by sorting."""


@dataclass(frozen=True)
class Orders:
    """Orders and those right before them, fields in the order of ``CHAIN``."""

    now: NDArray[np.uint8]
    """``[4, n]``."""
    before: NDArray[np.uint8]
    """``[4, n]``; every field is its size, one beyond the last value, where a session starts."""

    @classmethod
    def of(cls, sequences: Iterable[NDArray[np.uint8]]) -> Orders:
        """Of sessions ``[k + 1, 4]`` as token files hold them: the first row of each is its start, not an order."""
        now, before = [np.zeros((len(CHAIN), 0), np.uint8)], [np.zeros((len(CHAIN), 0), np.uint8)]
        for rows in sequences:
            fields = np.ascontiguousarray(rows.T[list(_COLUMNS)])
            fields[:, 0] = _SIZES
            now.append(fields[:, 1:])
            before.append(fields[:, :-1])
        return cls(np.concatenate(now, axis=1), np.concatenate(before, axis=1))

    def __len__(self) -> int:
        return int(self.now.shape[1])

    def where(self, chosen: NDArray[np.bool_]) -> Orders:
        """Some of them."""
        return Orders(self.now[:, chosen], self.before[:, chosen])

    def and_then(self, other: Orders) -> Orders:
        """These and others."""
        return Orders(*(np.concatenate(two, axis=1) for two in ((self.now, other.now), (self.before, other.before))))

    def context(self, fields: Sequence[int], before: Sequence[int]) -> Ints:
        """One number ``[n]`` for the values of some fields of the orders and of those before them."""
        number = np.zeros(len(self), np.int64)
        for field in before:
            number *= _SIZES[field] + 1
            number += self.before[field]
        for field in fields:
            number *= _SIZES[field]
            number += self.now[field]
        return number


@dataclass(frozen=True)
class Training:
    """What a model is fitted on."""

    counted: Orders
    tuning: Orders

    @classmethod
    def of(cls, orders: Orders) -> Training:
        """Training orders, of which a few are set aside for tuning."""
        step = max(TUNING, -(-len(orders) // MOST_TUNING))
        aside = np.arange(len(orders)) % step == step - 1
        return cls(orders.where(~aside), orders.where(aside))


Model = Callable[[Training, Orders], Floats]
"""From training and ``n`` orders to be scored to probabilities ``[4, n]`` of each field given those before it."""


def uniform(training: Training, scored: Orders) -> Floats:
    """Every value as likely as any other."""
    del training
    return np.repeat(1 / np.array(_SIZES)[:, None], len(scored), axis=1)


def field_independent(training: Training, scored: Orders) -> Floats:
    """Frequencies of each field by itself, smoothed with the uniform distribution."""
    return np.stack([_backed_off(training, scored, field, [((), ())]) for field in _ALL])


def unigram(training: Training, scored: Orders) -> Floats:
    """Frequencies of whole tokens, smoothed with the product of the fields' own."""
    every = np.stack(np.unravel_index(np.arange(math.prod(_SIZES)), _SIZES)).astype(np.uint8)
    product = field_independent(training, Orders(every, every)).prod(axis=0)
    tuning, whole = training.tuning.context(_ALL, ()), np.arange(len(product))
    asked, simpler = np.concatenate([tuning, whole]), np.concatenate([product[tuning], product])
    joint = _smoothed(training.counted.context(_ALL, ()), asked, len(product), simpler, len(tuning))[len(tuning) :]
    table = joint.reshape(_SIZES)
    sums = [table.sum(axis=_ALL[field:])[tuple(scored.now[:field])] for field in range(len(CHAIN) + 1)]
    return np.stack([after / before for before, after in pairwise(sums)])


def bigram(training: Training, scored: Orders) -> Floats:
    """Each field given the earlier fields of the order and the whole order before it.

    Its simpler distributions know the same field of the order before instead of all of it, then the earlier fields
    alone, then nothing.
    """
    found = []
    for field in _ALL:
        earlier = _ALL[:field]
        contexts: list[Context] = [(earlier, ()), (earlier, (field,)), (earlier, _ALL)]
        found.append(_backed_off(training, scored, field, [((), ()), *contexts] if field else contexts))
    return np.stack(found)


MODELS: dict[str, Model] = {
    "uniform": uniform,
    "field-independent": field_independent,
    "unigram": unigram,
    "bigram": bigram,
}


def baseline_losses(train: TokenFiles, validation: TokenFiles) -> dict[str, dict[str, float]]:
    """Nats per order of simple models, fitted on one set of token files and scored on another.

    Returns
    -------
    dict
        Model (``MODELS``) -> ``interval``, ``type``, ``price``, ``volume``, each given those before it, and
        ``total``, their sum: means over the scored orders of all groups.

    Raises
    ------
    ValueError
        If validation has a group of which training has hardly an order.
    """
    sums = {name: np.zeros(len(CHAIN)) for name in MODELS}
    orders = 0
    for group in sorted({part.group for part in validation.parts}):
        known, scored = _read(train, group, MOST_TRAINING), _read(validation, group, MOST_VALIDATION)
        if len(known) < TUNING:
            raise ValueError(f"group {group} of the validation data has {len(known)} training orders; it needs more")
        training = Training.of(known)
        orders += len(scored)
        for name, model in MODELS.items():
            sums[name] -= np.log(model(training, scored)).sum(axis=1)
    return {name: _named(nats / orders) for name, nats in sums.items()}


def _named(nats: Floats) -> dict[str, float]:
    return {**dict(zip(CHAIN, map(float, nats), strict=True)), "total": float(nats.sum())}


def _read(files: TokenFiles, group: int, most: int) -> Orders:
    """Orders of a group; where there are more than ``most``, of every k-th period and no more than that."""
    parts = [part for part in files.parts if part.group == group]
    parts = parts[:: max(-(-sum(part.rows - 1 for part in parts) // most), 1)]
    sequences, left = [], most
    for part in parts:
        rows = min(part.rows, left + 1)
        sequences.append(np.asarray(files.tokens[part.first : part.first + rows]))
        left -= rows - 1
    return Orders.of(sequences)


Context = tuple[tuple[int, ...], tuple[int, ...]]
"""Fields of the order and of the order before it that are known."""


def _backed_off(training: Training, scored: Orders, field: int, contexts: Sequence[Context]) -> Floats:
    """Probabilities ``[n]`` of a field in a chain of contexts, the plainest first; it starts from the uniform one."""
    size, tuning = _SIZES[field], len(training.tuning)
    asked = training.tuning.and_then(scored)
    probabilities = np.full(len(asked), 1 / size)
    for context in contexts:
        seen, wanted = (orders.context(*context) * size + orders.now[field] for orders in (training.counted, asked))
        probabilities = _smoothed(seen, wanted, size, probabilities, tuning)
    return probabilities[tuning:]


def _smoothed(seen: Ints, asked: Ints, size: int, simpler: Floats, tuning: int) -> Floats:
    """Probabilities of keys ``context * size + value`` given their contexts, smoothed with simpler ones.

    The strength of the smoothing is the one under which the first ``tuning`` of them are most likely.
    """
    keys, counts = _counted(seen)
    first = np.flatnonzero(np.diff(keys // size, prepend=-1))
    own = _looked_up(keys, counts, asked)
    all_of_context = _looked_up(keys[first] // size, np.add.reduceat(counts, first), asked // size)

    def probabilities(strength: float, part: slice) -> Floats:
        return (own[part] + strength * simpler[part]) / (all_of_context[part] + strength)

    costs = [-np.log(probabilities(strength, slice(tuning))).sum() for strength in STRENGTHS]
    return probabilities(float(STRENGTHS[int(np.argmin(costs))]), slice(None))


def _counted(keys: Ints) -> tuple[Ints, Ints]:
    """Distinct keys, ascending, and their counts."""
    if int(keys.max()) < _DENSE:
        table = np.bincount(keys)
        found = np.flatnonzero(table)
        return found, table[found]
    keys = np.sort(keys)
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.diff(first, append=len(keys))


def _looked_up(keys: Ints, counts: Ints, asked: Ints) -> Ints:
    """Counts of keys among ascending ones, 0 where they are not."""
    at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[at] == asked, counts[at], 0)
