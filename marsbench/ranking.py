"""How scores become a ranking: incomparable results are refused, missing ones never flatter.

Within a group of scores the interquartile mean of the normalised, informative ones; over the
groups the plain mean (a generator that lacks a group has no overall). A group of one or two
informative scores does not weigh as much as a group of many: it takes no part beside a larger one.
Every score comes from one task. A group holds those of all tasks that rank, each counting once; of
the stylized facts, those of whole sessions alone where there are any.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from marsbench.files import digest
from marsbench.results import Result
from marsbench.scores import OF_MIDS, Score

GROUPS = ("facts", "distributions", "conditional", "response", "prediction", "impact")
"""Groups that make up the overall, in the order of the columns."""


SMALLEST_GROUP = 3
"""A group with fewer informative scores takes no part where another has as many or more: one score alone, with its
own wide interval, would make up half of the overall (and did: it put shuffled order flow above a bootstrap)."""


SESSIONS_JUDGE = ("facts.", "session_facts.")
"""Families of the same scores from short windows and from whole sessions. A fact that sessions judge does not rank
from windows too: it would count twice, and windows of 25 minutes carry it badly."""


class IncomparableError(ValueError):
    """Results that must not stand in one ranking; the message says which and why."""


class MissingError(ValueError):
    """A generator lacks results or scores that others have; the message says which."""


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half: the lowest and the highest quarter are left out, fractions weighted.

    >>> interquartile_mean([-9.0, 0.4, 0.6, 1.0])
    0.5

    Raises
    ------
    ValueError
        If there are no values.
    """
    if not values:
        raise ValueError("the interquartile mean of nothing does not exist")
    ordered = np.sort(np.asarray(values, float))
    n = len(ordered)
    edges = np.arange(n + 1)
    weight = np.clip(np.minimum(edges[1:], 0.75 * n) - np.maximum(edges[:-1], 0.25 * n), 0.0, None)
    return float(weight @ ordered / weight.sum())


def conditions(result: Result) -> dict[str, Any]:
    """What results must have in common to be compared on one task."""
    return {
        "marsbench task version": result.task["version"],
        "task parameters": result.task["parameters"],
        "metrics": [(m["label"], m["version"], m["parameters"], m.get("outside_code")) for m in result.task["metrics"]],
        "data hash": result.dataset["content_hash"],
        "number of starts": result.task["starts"],
        "limit": result.limit,
        "floors": result.floors.get("hash"),
        "ceilings": result.floors.get("ceilings", {}).get("hash"),
    }


def check_comparable(results: Iterable[Result]) -> None:
    """Refuse results that differ in task, metrics, data, limit or floors, or mix versions of a generator.

    Raises
    ------
    IncomparableError
        Naming what differs, and the files on either side.
    """
    tasks: dict[tuple[str, str], list[Result]] = {}
    generators: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        tasks.setdefault((result.dataset["name"], result.task["label"]), []).append(result)
        if result.status == "done":
            generators.setdefault((result.dataset["name"], result.generator["label"]), []).append(result)
    for (dataset, task), group in tasks.items():
        scored = [r for r in group if r.status == "done"]
        _same([(conditions(r), r) for r in scored], f"results of {task} on {dataset}")
    for (dataset, label), group in generators.items():
        keys = ("name", "version", "parameters")
        _same([({k: r.generator[k] for k in keys}, r) for r in group], f"results of generator {label} on {dataset}")


def _same(pairs: Sequence[tuple[dict[str, Any], Result]], what: str) -> None:
    for field in pairs[0][0] if pairs else ():
        sides: dict[str, list[tuple[Any, Result]]] = {}
        for values, result in pairs:
            sides.setdefault(digest(values[field]), []).append((values[field], result))
        if len(sides) > 1:
            text = "; ".join(
                f"{_brief(side[0][0])}: {', '.join(str(r.path or r.unit) for _, r in side[:4])}"
                + (f" and {len(side) - 4} more" if len(side) > 4 else "")
                for side in sides.values()
            )
            raise IncomparableError(
                f"{what} cannot be ranked together, they differ in {field}: {text}. "
                "`marsbench run` brings outdated ones up to date; or remove them"
            )


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({digest(value)[:8]})"


def average(scores: Sequence[Score]) -> Score:
    """One score over seeds: means of values and of the ends of intervals, which is labelled so.

    The error of a mean is at most the mean of the errors, so such an interval is not too short. With
    one seed, that seed's score unchanged.

    A score is informative where more than half of the seeds find it so, and its normalised value is
    the mean of these. Where floor and ceiling are the same, a seed finds them different in the right
    direction 2.5% of the time, and more than half of the seeds 5% at most, however they depend on each
    other (Rueger 1978). Were all of them asked, every further seed would take scores out.
    """
    first = scores[0]
    if len(scores) == 1:
        return first
    missing = [s for s in scores if s.value is None]
    if missing:
        return missing[0]

    def mean(name: str, over: Sequence[Score] = scores) -> float | None:
        values = [getattr(s, name) for s in over]
        return None if any(v is None for v in values) else float(np.mean(values))

    found = [s for s in scores if s.informative]
    informative = None if any(s.informative is None for s in scores) else 2 * len(found) > len(scores)
    units = first.replicate_units if len({s.replicate_units for s in scores}) == 1 else None
    return Score(
        key=first.key,
        value=mean("value"),
        group=first.group,
        direction=first.direction,
        unit=first.unit,
        ci_low=mean("ci_low"),
        ci_high=mean("ci_high"),
        ci_method=f"{first.ci_method}; ends averaged over {len(scores)} seeds" if first.ci_method else None,
        floor=mean("floor"),
        ceiling=mean("ceiling"),
        normalised=mean("normalised", found) if informative else None,
        informative=informative,
        n=min(s.n for s in scores),
        clusters=min(s.clusters for s in scores),
        reason=next(s.reason for s in scores if informative is None or s.informative is informative),
        replicates=_over_seeds([s.replicates for s in scores]) if units else (),
        normalised_replicates=_over_seeds([s.normalised_replicates for s in found]) if units and informative else (),
        replicate_units=units,
    )


def _over_seeds(many: Sequence[tuple[float | None, ...]]) -> tuple[float | None, ...]:
    """Means over seeds, unit by unit; None where one seed has none, nothing where the numbers of units differ."""
    if len({len(one) for one in many}) > 1:
        return ()
    return tuple(None if None in column else float(np.mean(column)) for column in zip(*many, strict=True))


def counts(score: Score) -> bool:
    """Whether a score takes part in the ranking."""
    return score.group in GROUPS and bool(score.informative) and not score.key.startswith(OF_MIDS)


def ranking_keys(by_generator: Mapping[str, Mapping[str, Score]]) -> dict[str, str]:
    """Key -> group of the scores that rank.

    Whether a score is informative depends on its floor and ceiling alone, which all share; a
    generator without a normalised value for one of them lacks it. Facts of windows that sessions
    judge (``judged_by_sessions``) do not rank, nor groups that are too small beside another
    (``small_groups``).
    """
    elsewhere = judged_by_sessions(by_generator)
    keys = {key: group for key, group in informative_keys(by_generator).items() if key not in elsewhere}
    small = small_groups(keys)
    return {key: group for key, group in keys.items() if group not in small}


def judged_by_sessions(by_generator: Mapping[str, Mapping[str, Score]]) -> dict[str, str]:
    """Scores of windows -> the score of whole sessions that judges the same, informative or not."""
    short, whole = SESSIONS_JUDGE
    there = {key for scores in by_generator.values() for key, s in scores.items() if s.applicable}
    pairs = {key: whole + key.removeprefix(short) for key in sorted(there) if key.startswith(short)}
    return {key: other for key, other in pairs.items() if other in there}


def small_groups(keys: Mapping[str, str]) -> dict[str, int]:
    """Groups with fewer than ``SMALLEST_GROUP`` informative scores beside a group that has as many: group -> count.

    >>> small_groups({"a": "facts", "b": "distributions", "c": "distributions", "d": "distributions"})
    {'facts': 1}
    """
    sizes = Counter(keys.values())
    if max(sizes.values(), default=0) < SMALLEST_GROUP:
        return {}
    return {group: count for group, count in sizes.items() if count < SMALLEST_GROUP}


def informative_keys(by_generator: Mapping[str, Mapping[str, Score]]) -> dict[str, str]:
    """Key -> group of the scores that are informative for any generator."""
    return {key: s.group for scores in by_generator.values() for key, s in scores.items() if counts(s)}


def group_means(scores: Mapping[str, Score], keys: Mapping[str, str]) -> dict[str, float | None]:
    """Group -> interquartile mean of the normalised scores; None where one of them is missing."""
    out: dict[str, float | None] = {}
    for group in GROUPS:
        wanted = [key for key, g in keys.items() if g == group]
        if not wanted:
            continue
        values = [scores[key].normalised if key in scores else None for key in wanted]
        present = [v for v in values if v is not None]
        out[group] = interquartile_mean(present) if len(present) == len(wanted) else None
    return out


def overall(groups: Mapping[str, float | None]) -> float | None:
    """Plain mean over groups; None where one is missing."""
    values = [v for v in groups.values() if v is not None]
    return float(np.mean(values)) if values and len(values) == len(groups) else None


def invalid(scores: Mapping[str, Score]) -> list[str]:
    """Scores of group ``validity`` that are on the wrong side of their floor, as sentences.

    For this group the floor is the threshold: a rate that is better low must not exceed it, one
    that is better high must not fall below it.
    """
    wrong = []
    for score in scores.values():
        if score.group != "validity" or score.value is None or score.floor is None or score.direction == "none":
            continue
        bad = score.value > score.floor if score.direction == "lower" else score.value < score.floor
        if bad:
            side = "above" if score.direction == "lower" else "below"
            wrong.append(f"{score.key} is {score.value:.3g}, {side} the limit {score.floor:.3g}")
    return wrong


@dataclass(frozen=True)
class Verdict:
    """Whether simulations pass the gate."""

    passed: bool
    limits: int
    """Limits that they were held to."""
    reasons: tuple[str, ...] = ()
    """Why not."""

    @classmethod
    def of(cls, scores: Mapping[str, Score], *more: str) -> Self | None:
        """From their scores of group ``validity``, and other reasons to fail; None where there are neither."""
        judged = [s for s in scores.values() if s.group == "validity" and None not in (s.value, s.floor)]
        reasons = (*more, *invalid(scores))
        return cls(not reasons, len(judged), reasons) if judged or more else None

    def to_dict(self) -> dict[str, Any]:
        return {"verdict": "PASS" if self.passed else "FAIL", "limits": self.limits, "reasons": list(self.reasons)}

    def __str__(self) -> str:
        if self.passed:
            return f"validity: PASS ({self.limits} limits)"
        return "\n".join([f"validity: FAIL ({self.limits} limits)", *(f"  {reason}" for reason in self.reasons)])
