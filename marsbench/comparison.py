"""``marsbench compare A B``: paired differences between two generators, from their result files alone.

Three families of tests, each adjusted by Holm within itself: the overall (one test), the groups that
make it up, and every score that both have. A difference is A minus B; it is paired by unit of
inference, and its p is that of Student's t over delete-one jackknife replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from marsbench.jackknife import Replicated, UnpairedError, difference, estimate
from marsbench.leaderboard import Missing, Row, build
from marsbench.ranking import MissingError
from marsbench.results import Result
from marsbench.scores import Score
from marsbench.significance import ALPHA, group_estimates, overall_estimate
from marsbench.stats.verdicts import holm

Level = Literal["overall", "group", "score"]

ONE_DAY = "within-day inference only: all units lie on single instrument-days, so no significance is claimed"


@dataclass(frozen=True)
class Difference:
    """One line of a comparison; A minus B."""

    level: Level
    what: str
    """``overall``, a group, or the key of a score."""
    unit: str
    direction: str
    """``higher`` or ``lower`` is better."""
    a: float | None
    b: float | None
    difference: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    """By Holm over the tests of this level."""
    units: int = 0
    """Units of inference behind the interval."""
    reason: str | None = None
    """Why there is no test."""

    @property
    def significant(self) -> bool:
        return self.p_adjusted is not None and self.p_adjusted < ALPHA

    @property
    def better(self) -> str | None:
        """``a`` or ``b`` where the difference is significant."""
        if not self.significant or self.difference is None or self.direction == "none":
            return None
        return "a" if (self.difference > 0) == (self.direction == "higher") else "b"


@dataclass(frozen=True)
class Comparison:
    """Two generators on one data set."""

    a: str
    b: str
    dataset: str
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def of(self, level: Level) -> tuple[Difference, ...]:
        return tuple(d for d in self.differences if d.level == level)

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        values["differences"] = [
            {**asdict(d), "significant": d.significant, "better": d.better} for d in self.differences
        ]
        return {**values, "alpha": ALPHA}


def compare(results: Sequence[Result], a: str, b: str, *, missing: Missing = "error") -> Comparison:
    """Compare two generators by label.

    Parameters
    ----------
    results
        Results of one data set; those of other generators say which scores rank.
    missing
        ``error`` refuses where one of the two lacks a ranking score or a result that it could have;
        ``drop`` compares what both have, and lists the rest with the reason.

    Raises
    ------
    ValueError
        If a label has no results, or the two are one.
    MissingError, IncomparableError
        If something is missing, or the results cannot be compared.
    """
    if a == b:
        raise ValueError(f"{a!r} cannot be compared with itself; name two generators")
    labels = sorted({r.generator["label"] for r in results})
    for label in (a, b):
        if label not in labels:
            raise ValueError(f"no results of generator {label!r}; there are {', '.join(labels) or 'none'}")
    board = build([r for r in results if r.generator["label"] in (a, b)], controls=True, missing="drop")
    rows = {row.label: row for row in board.rows}
    left, right = rows[a], rows[b]
    if missing == "error":
        _refuse(left, right, board.dataset["name"])
    keys = {k: g for k, g in board.keys.items() if all(_normalised(row, k) for row in (left, right))}
    found = [*_aggregates(left, right, keys), *_scores(left, right)]
    found = [replace(d, p=None, reason=ONE_DAY) if board.single_day else d for d in found]
    notes = [f"{row.label} is unranked: {row.unranked}" for row in (left, right) if row.unranked]
    notes += [ONE_DAY] * board.single_day
    dropped = sorted(set(board.keys) - set(keys))
    notes += [f"left out, because one of the two lacks it: {', '.join(dropped)}"] if dropped else []
    return Comparison(a, b, board.dataset["name"], board.tasks, board.seeds, _adjusted(found), tuple(notes))


def _refuse(left: Row, right: Row, dataset: str) -> None:
    lacking = [f"{r.label}: {r.unranked}" for r in (left, right) if (r.unranked or "").startswith("missing")]
    if lacking:
        raise MissingError(
            f"cannot compare on {dataset}, something is missing. {'; '.join(lacking)}. `marsbench run` makes what is "
            "missing, --missing drop compares what both have, -d names another data set"
        )


def _normalised(row: Row, key: str) -> bool:
    return key in row.scores and row.scores[key].normalised is not None


def _aggregates(left: Row, right: Row, keys: Mapping[str, str]) -> list[Difference]:
    """Overall and groups."""
    if not keys:
        nothing = "no informative score that both have"
        return [Difference("overall", "overall", "normalised", "higher", None, None, reason=nothing)]
    try:
        groups = [group_estimates(row.scores, keys, given_scale=True) for row in (left, right)]
        overall = [overall_estimate(g) for g in groups]
    except UnpairedError as error:
        values = [left.overall, right.overall]
        return [Difference("overall", "overall", "normalised", "higher", values[0], values[1], reason=str(error))]
    rows = [_difference("overall", "overall", "normalised", "higher", overall[0], overall[1])]
    rows += [_difference("group", g, "normalised", "higher", groups[0][g], groups[1][g]) for g in groups[0]]
    return rows


def _scores(left: Row, right: Row) -> list[Difference]:
    """Every score that either has, raw; a p is none: the difference of two says nothing."""
    out = []
    for key in dict.fromkeys([*left.scores, *right.scores]):
        sides = [row.scores.get(key) for row in (left, right)]
        shared = next(s for s in sides if s is not None)
        if shared.unit == "p":
            continue
        words = [f"{row.label}: {row.word(key)}" for row in (left, right) if _value(row.scores.get(key)) is None]
        base = Difference(
            "score", key, shared.unit, shared.direction, _value(sides[0]), _value(sides[1]), reason="; ".join(words)
        )
        if not words:
            try:
                a, b = (estimate(s, normalised=False) for s in sides if s is not None)
                base = _difference("score", key, shared.unit, shared.direction, a, b)
            except UnpairedError as error:
                gap = None if base.a is None or base.b is None else base.a - base.b
                base = replace(base, difference=gap, reason=str(error))
        out.append(base)
    return out


def _value(score: Score | None) -> float | None:
    return None if score is None else score.value


def _difference(level: Level, what: str, unit: str, direction: str, a: Replicated, b: Replicated) -> Difference:
    made = Difference(level, what, unit, direction, a.value, b.value, a.value - b.value)
    try:
        found = difference(a, b)
    except UnpairedError as error:
        return replace(made, reason=str(error))
    interval = found.interval or (None, None)
    why = None if found.p is not None else "too few units, or no spread between them, to judge the difference by"
    return replace(made, ci_low=interval[0], ci_high=interval[1], p=found.p, units=found.units, reason=why)


def _adjusted(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """With p adjusted by Holm within each level."""
    out = list(found)
    for level in ("overall", "group", "score"):
        at = [i for i, d in enumerate(found) if d.level == level and d.p is not None]
        p = [found[i].p or 0.0 for i in at]
        for i, adjusted in zip(at, holm(p), strict=True):
            out[i] = replace(out[i], p_adjusted=adjusted)
    return tuple(out)


def to_text(found: Comparison) -> str:
    """An aligned table: overall, groups, then every score."""
    head = ["", found.a, found.b, "difference", "95% interval", "p", "p adjusted", "better"]
    names = {"a": found.a, "b": found.b, None: "-"}
    lines = [head]
    for d in found.differences:
        interval = "-" if d.ci_low is None else f"[{_g(d.ci_low)}, {_g(d.ci_high)}]"
        tested = [_g(d.p), _g(d.p_adjusted), names[d.better]] if d.p is not None else ["-", "-", "-"]
        lines.append([d.what, _g(d.a), _g(d.b), _g(d.difference), interval, *tested])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    table = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    table.insert(1, "  ".join("-" * w for w in widths))
    title = f"{found.a} against {found.b} · {found.dataset} · {', '.join(found.tasks)}"
    rule = (
        f"Differences are {found.a} minus {found.b}, paired by unit of inference; t over jackknife replicates; p "
        "adjusted by Holm over the groups and over the scores. Overall and groups are normalised by the floors and "
        "ceilings that both share, scores are raw."
    )
    reasons: dict[str, list[str]] = {}
    for d in found.differences:
        if d.reason and d.reason != ONE_DAY:
            reasons.setdefault(d.reason.replace(d.what, "it"), []).append(d.what)
    why = [f"{_some(whats)}: no test: {reason}" for reason, whats in reasons.items()]
    return "\n".join([title, *table, rule, *why, *found.notes])


def _some(whats: Sequence[str]) -> str:
    return ", ".join(whats[:3]) + (f" and {len(whats) - 3} more" if len(whats) > 3 else "")


def _g(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
