"""Scores of group ``validity`` for message sequences: what is wrong with them whatever the metrics make of them.

The limits are those of ``marsbench.validity``, beside the real sequences. What a sequence of rows does not show (what a
market refused, how long a book stood) is not judged here; where whole simulations are known they are judged too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from marsbench.scores import Score
from marsbench.stats.lob_bench import ADD, DELETE, EXECUTE, LEVELS, PARTIAL, LobSequence
from marsbench.validity import (
    DRIFT_MORE_TICKS,
    DRIFT_TIMES,
    MOST_CANCEL_GAP,
    MOST_CROSSED,
    MOST_MALFORMED,
    MOST_REJECTED,
    MOST_WALLS,
    ONE_SIDED_MORE,
    ONE_SIDED_TIMES,
    WALL_TIMES,
)

if TYPE_CHECKING:
    from marsbench.lob_sequences import LobSequences

SURE = 0.99
"""How sure it must be that the real share of sequences, which are few, lies below the limit."""

Sides = Sequence[LobSequence]
Count = Callable[[LobSequence], tuple[int, int]]


def sequence_scores(evidence: LobSequences) -> tuple[Score, ...]:
    """Lower is better throughout; the floor is the limit.

    Shares of rows, ``validity.lob_crossed``, ``.lob_locked``, ``.lob_one_sided`` (of the book after the row),
    ``.lob_time_back``, ``.lob_bad_size`` (of the message, or a negative one in the book).
    ``.lob_orphan_cancels``: share of cancels that name an order which the sequence has added and removed, or a price at
    which the book before shows nothing. ``.lob_walls``: share of sequences that end with a level more than
    ``WALL_TIMES`` as large as the largest that a real one of the instrument ends with. ``.lob_drift``: mean distance
    of the last mid from the first, in ticks. ``.lob_cancel_gap``: absolute difference of the share of cancels from the
    real one. ``.lob_frozen``, ``.lob_empty``: shares of sequences whose mid never moves, and that hold nothing; their
    limit is the upper end of the one-sided 99% Clopper-Pearson interval of the real share.
    """
    everything = [s for p in evidence.pairs for s in p.generated]
    made, real = [s for s in everything if len(s)], [p.real for p in evidence.pairs if len(p.real)]
    clusters = int(evidence.units.max(initial=-1)) + 1

    def one(
        name: str, unit: str, value: float | None, limit: float | None, n: int, why: str = "no generated rows"
    ) -> Score:
        return Score(
            f"validity.lob_{name}", value, "validity", "lower", unit=unit, floor=limit, n=n, clusters=clusters,
            reason=why if value is None else None,
        )  # fmt: skip

    scores = []
    for name, unit, count, limit_of in _RATES:
        (bad, of), (own, rows) = _total(made, count), _total(real, count)
        scores.append(one(name, unit, bad / of if of else None, limit_of(own, rows) if rows else None, of))
    walls, of = _walls(evidence)
    scores.append(one("walls", "share of sequences", walls, MOST_WALLS, of, "no book on one of the sides"))
    drift, own_drift = _drift(made, evidence.tick), _drift(real, evidence.tick)
    most = None if own_drift is None else DRIFT_TIMES * own_drift + DRIFT_MORE_TICKS
    scores.append(one("drift", "ticks", drift, most, len(made), "no two mids in a generated sequence"))
    shares = [_share(_total(side, _cancels)) for side in (made, real)]
    gap = None if shares[0] is None or shares[1] is None else abs(shares[0] - shares[1])
    scores.append(
        one("cancel_gap", "share of messages", gap, MOST_CANCEL_GAP, len(made), "no rows on one of the sides")
    )
    empty, own = len(everything) - len(made), len(evidence.pairs) - len(real)
    share = empty / len(everything) if everything else None
    limit = _sure(own, len(evidence.pairs)) if evidence.pairs else None
    scores.append(one("empty", "share of sequences", share, limit, len(everything), "no generated sequence"))
    return tuple(scores)


def _share(counted: tuple[int, int]) -> float | None:
    return counted[0] / counted[1] if counted[1] else None


def _total(sequences: Sides, count: Count) -> tuple[int, int]:
    found = [count(s) for s in sequences]
    return sum(a for a, _ in found), sum(b for _, b in found)


def _more(by: float, times: float = 1.0) -> Callable[[int, int], float]:
    return lambda own, of: times * own / of + by


def _sure(own: int, of: int) -> float:
    return float(stats.beta.ppf(SURE, own + 1, of - own)) if own < of else 1.0


def _crossed(s: LobSequence) -> tuple[int, int]:
    return int((s.book[:, 0, 0] < s.book[:, 0, 2]).sum()), len(s)


def _locked(s: LobSequence) -> tuple[int, int]:
    return int((s.book[:, 0, 0] == s.book[:, 0, 2]).sum()), len(s)


def _one_sided(s: LobSequence) -> tuple[int, int]:
    return int((~np.isfinite(s.mid)).sum()), len(s)


def _time_back(s: LobSequence) -> tuple[int, int]:
    return int((np.diff(s.time_ns) < 0).sum()), len(s)


def _bad_size(s: LobSequence) -> tuple[int, int]:
    message = (s.event >= ADD) & (s.event <= EXECUTE) & (s.size <= 0)
    return int((message | (s.book[:, :, 1::2] < 0).any(axis=(1, 2))).sum()), len(s)


def _frozen(s: LobSequence) -> tuple[int, int]:
    mid = s.mid[np.isfinite(s.mid)]
    return int(len(mid) < 2 or (mid == mid[0]).all()), 1


def _is_cancel(s: LobSequence) -> NDArray[np.bool_]:
    return np.asarray((s.event == PARTIAL) | (s.event == DELETE))


def _cancels(s: LobSequence) -> tuple[int, int]:
    return int(_is_cancel(s).sum()), len(s)


def _orphan_cancels(s: LobSequence) -> tuple[int, int]:
    cancel = _is_cancel(s)
    return int((cancel & (_gone(s) | _nothing_there(s))).sum()), int(cancel.sum())


def _gone(s: LobSequence) -> NDArray[np.bool_]:
    """Rows whose order came in this sequence and has been removed, by size, by the rows before.

    A deletion is not taken as final: our own sequences write partial cancels as deletions.
    """
    out = np.zeros(len(s), bool)
    left: dict[int, int] = {}
    for i, (event, number, size) in enumerate(zip(s.event.tolist(), s.order_id.tolist(), s.size.tolist(), strict=True)):
        if event == ADD:
            left[number] = size
        elif number in left and event in (PARTIAL, DELETE, EXECUTE):
            out[i] = left[number] <= 0
            left[number] -= size
    return out


def _nothing_there(s: LobSequence) -> NDArray[np.bool_]:
    """Rows at whose price the book before shows no order, although it shows that far."""
    out = np.zeros(len(s), bool)
    for sign, column in ((-1, 0), (1, 2)):
        at = 1 + np.flatnonzero(s.direction[1:] == sign)
        levels = s.book[at - 1, :, column]  # [k, L]
        shown = np.isfinite(levels)
        deepest = np.where(shown, -sign * levels, -np.inf).max(axis=1, initial=-np.inf)
        hidden = shown.all(axis=1) & (-sign * s.price[at] > deepest)
        out[at] = ~(levels == s.price[at][:, None]).any(axis=1) & ~hidden
    return out


def _largest(s: LobSequence) -> float:
    return float(s.book[-1, :LEVELS, 1::2].max(initial=0.0))


def _walls(evidence: LobSequences) -> tuple[float | None, int]:
    """Share of generated sequences that end with a wall, and their number."""
    names = [p.day.rsplit(" ", 1)[0] for p in evidence.pairs]
    largest: dict[str, float] = {}
    for name, pair in zip(names, evidence.pairs, strict=True):
        if len(pair.real):
            largest[name] = max(largest.get(name, 0.0), _largest(pair.real))
    ends = [
        _largest(s) > WALL_TIMES * max(largest[name], 1.0)
        for name, pair in zip(names, evidence.pairs, strict=True)
        for s in pair.generated
        if len(s) and name in largest
    ]
    return (float(np.mean(ends)) if ends else None), len(ends)


def _drift(sequences: Sides, tick: float) -> float | None:
    ends = [mid[[0, -1]] for s in sequences if len(mid := s.mid[np.isfinite(s.mid)]) > 1]
    return float(np.mean([abs(last - first) for first, last in ends])) / tick if ends else None


_RATES: tuple[tuple[str, str, Count, Callable[[int, int], float]], ...] = (
    ("crossed", "share of rows", _crossed, _more(MOST_CROSSED)),
    ("locked", "share of rows", _locked, _more(MOST_CROSSED)),
    ("one_sided", "share of rows", _one_sided, _more(ONE_SIDED_MORE, ONE_SIDED_TIMES)),
    ("time_back", "share of rows", _time_back, _more(MOST_MALFORMED)),
    ("bad_size", "share of rows", _bad_size, _more(MOST_MALFORMED)),
    ("orphan_cancels", "share of cancels", _orphan_cancels, _more(MOST_REJECTED)),
    ("frozen", "share of sequences", _frozen, _sure),
)
