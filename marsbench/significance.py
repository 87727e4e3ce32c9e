"""Which differences between generators are more than chance, and the ranks that follow from it.

Every pair of generators is tested on the overall (paired by unit of inference, Student t over
delete-one jackknife replicates), and the p values are adjusted by Holm over all pairs. A generator's rank
is the range that this leaves open, so that two whose difference is not significant share ranks.

Sources: Mogstad, Romano, Shaikh and Wilhelm, "Inference for Ranks with Applications to Mobility across
Neighbourhoods and Academic Achievement across Countries", Review of Economic Studies 91 (2024).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from marsbench.jackknife import Replicated, UnpairedError, combine, difference, estimate
from marsbench.ranking import GROUPS, interquartile_mean
from marsbench.scores import Score
from marsbench.stats.verdicts import holm

ALPHA = 0.05


def group_estimates(
    scores: Mapping[str, Score], keys: Mapping[str, str], *, given_scale: bool
) -> dict[str, Replicated]:
    """Group -> interquartile mean of its normalised scores, with joint replicates.

    ``given_scale`` for differences, see ``marsbench.jackknife.estimate``.

    Raises
    ------
    UnpairedError
        If a score that ranks has no replicates.
    """
    out = {}
    for group in GROUPS:
        wanted = [key for key, g in keys.items() if g == group]
        if wanted:
            parts = [estimate(scores[key], normalised=True, given_scale=given_scale) for key in wanted]
            out[group] = combine(interquartile_mean, parts)
    return out


def overall_estimate(groups: Mapping[str, Replicated]) -> Replicated:
    """The plain mean over groups, with joint replicates."""
    return combine(lambda values: sum(values) / len(values), list(groups.values()))


@dataclass(frozen=True)
class Ranks:
    """Ranks by label, and who is significantly better than whom."""

    rank: Mapping[str, tuple[int, int]]
    """Best and worst rank of a generator: behind those that are significantly better, before those that are worse."""
    better_than: Mapping[str, tuple[str, ...]]
    p_adjusted: Mapping[tuple[str, str], float]
    """(better, worse) -> p, adjusted by Holm over all pairs."""


def rank_ranges(ordered: Sequence[str], estimates: Mapping[str, Replicated]) -> Ranks:
    """Ranks of generators that are ordered best first; a pair that cannot be tested counts as no different.

    Holm's correction keeps the chance that any pair is told apart wrongly below ``ALPHA``, and with it
    the chance that the range of any generator misses its true rank.
    """
    pairs, values = [], []
    for better, worse in combinations(ordered, 2):
        p = _p(estimates.get(better), estimates.get(worse))
        if p is not None:
            pairs.append((better, worse))
            values.append(p)
    adjusted = dict(zip(pairs, holm(values), strict=True))
    beaten = {a: tuple(b for b in ordered if adjusted.get((a, b), 1.0) < ALPHA) for a in ordered}
    ahead = Counter(label for worse in beaten.values() for label in worse)
    rank = {label: (1 + ahead[label], len(ordered) - len(beaten[label])) for label in ordered}
    return Ranks(rank, beaten, adjusted)


def _p(a: Replicated | None, b: Replicated | None) -> float | None:
    if a is None or b is None:
        return None
    try:
        return difference(a, b).p
    except UnpairedError:
        return None
