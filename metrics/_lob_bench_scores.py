"""The 21 unconditional and 3 conditional scores of LOB-Bench, their summary, and the divergence by horizon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.scores import Group, Score
from marsbench.stats.lob_bench import CONDITIONS, QUANTITIES, LobQuantity, LobSequence
from marsbench.stats.lob_bench_distances import Cells, Distances, Sample, conditional_distances, distances, frozen_cells
from marsbench.stats.splits import Comparison, split_half

from ._lob_bench_units import Grouped, lob_score
from ._scoring import number, split_score

Floats = NDArray[np.float64]

SUMMARIES = ("mean", "median", "iqm")
MOST_BLOCKS = 10


@dataclass(frozen=True)
class Measured:
    """One of the 24 with what came of it."""

    key: str
    title: str
    conditional: bool
    found: Distances
    n_real: int
    n_made: int
    missing: str
    frozen: Cells
    """Counts in bins of the real sample, for halves."""


def measure_all(data: Grouped) -> list[Measured]:
    """All 24 distances."""
    out = []
    for q in QUANTITIES:
        real, made = data.real(q.values), data.made(q.values)
        found = distances(real, made, data.count, discrete=q.discrete)
        frozen = frozen_cells(real, made, data.count, discrete=q.discrete)
        out.append(_measured(q.key, q.title, real, made, found, frozen, data, q.needs_levels))
    for c in CONDITIONS:
        real, made = data.real(c.values, c.given), data.made(c.values, c.given)
        found = conditional_distances(real, made, data.count, discrete=c.discrete, bins=c.bins)
        frozen = frozen_cells(real, made, data.count, discrete=c.discrete, bins=c.bins)
        out.append(_measured(c.key, c.title, real, made, found, frozen, data, 0))
    return out


def _measured(
    key: str, title: str, real: Sample, made: Sample, found: Distances, frozen: Cells, data: Grouped, needs_levels: int
) -> Measured:
    levels = min((s.book.shape[1] for p in data.pairs for s in (p.real, *p.generated) if len(s)), default=0)
    missing = ""
    if levels < needs_levels:
        missing = f"books have {levels} levels, it needs {needs_levels}"
        nothing = np.full(data.count, np.nan)
        found = Distances(np.nan, np.nan, nothing, nothing, found.cells)
    elif not len(real):
        missing = "no real sequence has one"
    elif not len(made):
        missing = "no generated sequence has one"
        found = Distances(1.0, np.nan, np.ones(data.count), found.w1_without, found.cells)
    return Measured(key, title, needs_levels == 0, found, len(real), len(made), missing, frozen)


def distance_scores(measured: Sequence[Measured], data: Grouped, splits: int, seed: int) -> list[Score]:
    """``.l1`` and ``.w1`` as published, ``.l1.halves`` beside its ceiling."""
    scores = []
    for one in measured:
        group: Group = "conditional" if one.conditional else "distributions"
        n = min(one.n_real, one.n_made)
        key, found = f"lobbench.{one.key}", one.found
        options: dict[str, Any] = {"group": group, "n": n, "missing": one.missing}
        w1 = found.w1
        if found.matched == 0:  # the original gives 0, its best value, where nothing could be compared
            w1, options["missing"] = np.nan, one.missing or "no bin of the condition holds observations of both sides"
        scores += [
            lob_score(f"{key}.l1", found.l1, found.l1_without, data, high=1.0, **options),
            lob_score(f"{key}.w1", w1, found.w1_without, data, unit="pooled standard deviations", **options),
            _halves(f"{key}.l1.halves", one, group, data, splits, seed),
        ]
    return scores


def _halves(key: str, one: Measured, group: Group, data: Grouped, splits: int, seed: int) -> Score:
    """L1 at equal n in bins of the real data, between the ceiling (replay against itself) and the frozen floor."""
    units = data.units
    rng = np.random.default_rng(seed)  # the same halves for every score: replicates are paired
    found = None
    if data.count >= MIN_HALVES:
        found = split_half(_half_comparison(one.frozen), units.stratum, splits, rng, what=units.what)
    missing = one.missing or "a half of the real or generated sequences has none"
    return split_score(
        found, key, group=group, direction="lower", floor=data.floors.get(key), shuffled=False,
        n=min(one.n_real, one.n_made) // 2, units=units, missing=missing,
    )  # fmt: skip


MIN_HALVES = 2


def _half_comparison(cells: Cells) -> Comparison:
    made = cells.copies or (cells.made,)

    def compare(a: Floats, b: Floats, k: int) -> tuple[Floats, Floats, Floats]:
        target = b @ cells.real
        return cells.l1(a @ made[k % len(made)], target), cells.l1(a @ cells.real, target), np.full(len(a), np.nan)

    return compare


def left_out(measured: Sequence[Measured]) -> dict[str, list[str]]:
    """Why quantities take no part in the summary -> their keys: no book that deep, or no real sequence that has one."""
    out: dict[str, list[str]] = {}
    for one in measured:
        if not one.conditional and one.missing.startswith(("no real", "books")):
            out.setdefault(one.missing, []).append(one.key)
    return out


def left_out_words(measured: Sequence[Measured]) -> str:
    """One sentence about them; empty where all 21 count."""
    absent = left_out(measured)
    if not absent:
        return ""
    count, of = (sum(map(len, absent.values())), sum(not one.conditional for one in measured))
    parts = "; ".join(f"{', '.join(keys)} ({why})" for why, keys in absent.items())
    return f"over {of - count} of {of} quantities, without {parts}"


def summary_scores(measured: Sequence[Measured], data: Grouped) -> list[Score]:
    """Mean, median and interquartile mean of the 21 unconditional scores; the reason says which are left out."""
    scores = []
    absent = {key for keys in left_out(measured).values() for key in keys}
    used = [one for one in measured if not one.conditional and one.key not in absent]
    for metric in ("l1", "w1"):
        values = np.array([getattr(one.found, metric) for one in used])
        without = np.array([getattr(one.found, f"{metric}_without") for one in used]).reshape(len(used), data.count)
        lacking = [one.key for one, v in zip(used, values, strict=True) if not np.isfinite(v)]
        missing = f"no generated sequence has {', '.join(lacking)}" if lacking else "no quantity has a value"
        for name in SUMMARIES:
            value = summarise(values[None], name)[0] if len(used) and not lacking else np.nan
            spread = summarise(without.T, name) if len(used) else np.full(data.count, np.nan)
            score = lob_score(
                f"lobbench.summary.{metric}.{name}", value, spread, data, group="distributions", n=len(used),
                high=1.0 if metric == "l1" else np.inf, missing=missing,
            )  # fmt: skip
            scores.append(
                replace(score, reason="; ".join(filter(None, (score.reason, left_out_words(measured)))) or None)
            )
    return scores


def summarise(values: Floats, name: str) -> Floats:
    """``[B]``: a summary of ``[B, S]`` scores. The interquartile mean is that of the values between the quartiles."""
    if name == "mean":
        return np.asarray(values.mean(axis=1))
    if name == "median":
        return np.asarray(np.median(values, axis=1))
    low, high = np.percentile(values, [25, 75], axis=1, keepdims=True)
    inside = (values >= low) & (values <= high)
    total = np.where(inside, values, 0).sum(axis=1)
    return np.asarray(np.divide(total, inside.sum(axis=1), out=np.full(len(values), np.nan), where=inside.any(axis=1)))


def _block(values: Any, first: int, last: int, s: LobSequence) -> Floats:
    found: Floats = values(s.part(first, last))
    return found


def divergence(data: Grouped, length: int) -> tuple[list[Score], dict[str, list[Any]]]:
    """L1 of blocks of so many generated messages against all real data, averaged over the quantities.

    The table holds each quantity and block, and the same of real blocks of one half against the other half.
    """
    longest = max((len(s) for p in data.pairs for s in p.generated), default=0)
    table: dict[str, list[Any]] = {"quantity": [], "messages": [], "l1": [], "real_l1": []}
    scores, means = [], []
    for k in range(min(longest // length, MOST_BLOCKS)):
        rows = [_block_distance(q, data, k * length, (k + 1) * length) for q in QUANTITIES]
        for q, (found, own) in zip(QUANTITIES, rows, strict=True):
            row = {"quantity": q.key, "messages": (k + 1) * length, "l1": number(found.l1), "real_l1": number(own)}
            for name, value in row.items():
                table[name].append(value)
        known = [found for found, _ in rows if np.isfinite(found.l1)]
        mean = float(np.mean([f.l1 for f in known])) if known else np.nan
        without = np.mean([f.l1_without for f in known], axis=0) if known else np.full(data.count, np.nan)
        same = frozenset(q.key for q, (f, _) in zip(QUANTITIES, rows, strict=True) if np.isfinite(f.l1))
        means.append((mean, without, same))
        scores.append(
            lob_score(f"lobbench.divergence.h{(k + 1) * length}", mean, without, data, group="distributions", high=1.0,
                      n=len(known), missing="no quantity has values in these messages")
        )  # fmt: skip
    return [*scores, _growth(means, data, length)], table


def _growth(means: list[tuple[float, Floats, frozenset[str]]], data: Grouped, length: int) -> Score:
    """L1 of the last block less that of the first."""
    key = "lobbench.divergence.growth"
    if len(means) < 2 or means[0][2] != means[-1][2]:
        why = f"generated sequences need two blocks of {length} messages with the same quantities"
        return Score(key, None, "distributions", "lower", clusters=data.clusters, reason=why)
    (a, without_a, same), (b, without_b, _) = means[0], means[-1]
    return lob_score(key, b - a, without_b - without_a, data, group="distributions", low=-1.0, high=1.0, n=len(same))


def _block_distance(q: LobQuantity, data: Grouped, first: int, last: int) -> tuple[Distances, float]:
    values = partial(_block, q.values, first, last)
    real, made, own = data.real(q.values), data.made(values), data.real(values)
    found = distances(real, made, data.count, discrete=q.discrete, w1=False)
    halves = [
        distances(_only(real, half), _only(own, 1 - half), data.count, discrete=q.discrete, w1=False).l1
        for half in (0, 1)
    ]
    return found, float(np.mean(halves))


def _only(sample: Sample, half: int) -> Sample:
    at = sample.group % 2 == half
    return Sample(sample.values[at], sample.group[at])
