"""The leaderboard: a pure function of result files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from marsbench import declared
from marsbench import results as store
from marsbench.jackknife import Replicated, UnpairedError
from marsbench.ranking import (
    GROUPS,
    MissingError,
    average,
    check_comparable,
    group_means,
    informative_keys,
    invalid,
    judged_by_sessions,
    overall,
    ranking_keys,
    small_groups,
)
from marsbench.results import Result, ResultError
from marsbench.scores import NOT_APPLICABLE, OF_MIDS, Score
from marsbench.significance import group_estimates, overall_estimate, rank_ranges

Missing = Literal["error", "drop"]

NO_INTERVAL = (
    "The overall and the group means carry no interval and no significance: their scores come from the same simulated "
    "windows and depend on each other, and result files hold no replicates for a joint interval, or too few units. All "
    "ranked generators share all ranks; `marsbench score` writes replicates."
)
JOINT = (
    "Intervals of the overall and of groups are joint over all scores: Student t over delete-one jackknife replicates "
    "of the units of inference."
)
SHARED = (
    "Every pair of ranked generators is tested on the overall, paired by unit, p adjusted by Holm over all pairs. "
    "A rank is the range that this leaves open: behind those that are significantly better at 5%, before those that "
    "are worse. Whose ranges overlap share ranks; all ranges hold at once with 95% confidence."
)
CONTROLS = (
    "Known-bad controls are listed by their overall, without a rank and without a test: whether they are listed "
    "changes no rank."
)
WITHIN_DAY = (
    "Within-day inference only. All windows lie on single instrument-days, so intervals describe that day, and no "
    "significance between generators is claimed: all ranked ones share all ranks, in the order of their overall. "
    "Calibrating on the first part of a day and scoring on the later part confounds the model with the time of day."
)


@dataclass(frozen=True)
class Row:
    """One generator on the board."""

    label: str
    rank: tuple[int, int] | None
    """Best and worst rank that the tests of every pair leave open."""
    overall: float | None
    groups: Mapping[str, float | str]
    """Group -> mean of normalised scores, or the word that stands in its place."""
    scores: Mapping[str, Score]
    """Every score, raw values included, averaged over seeds."""
    results: tuple[Result, ...]
    unranked: str | None = None
    """Why there is no rank."""
    interval: tuple[float, float] | None = None
    """Of the overall."""
    group_intervals: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    better_than: tuple[str, ...] = ()
    """Ranked generators that it is significantly better than on the overall."""
    gains: Mapping[str, declared.Gain] = field(default_factory=dict)
    """Score -> interval of (value - floor), paired, where the floor has an error of its own."""
    control: bool = False
    """Whether it is a known-bad control that stands beside the ranked ones without a rank."""

    @property
    def head(self) -> Result:
        """A result that stands for the generator: one with scores if there is any."""
        return next((r for r in self.results if r.status == "done"), self.results[0])

    @property
    def placed(self) -> bool:
        """Whether it stands where its overall puts it: ranked, or a control that could be."""
        return self.rank is not None or (self.control and not self.unranked and self.overall is not None)

    @property
    def orders_per_s(self) -> float | None:
        rates = [r.cost["orders_per_s"] for r in self.results if r.status == "done" and r.cost.get("orders_per_s")]
        return sum(rates) / len(rates) if rates else None

    @property
    def below_floor(self) -> tuple[int, int]:
        """Scores whose whole interval is worse than their floor, and scores that have floor and interval.

        Counted over all of them: a score that cannot rank, because floor and ceiling cannot be told
        apart, still shows a generator that is worse than either. Where the floor has an error of its
        own (``gains``), the interval is that of the paired difference.
        """
        return self._count(list(self.scores.values()), lambda low, high: high < 0)

    def above_floor(self, group: str) -> tuple[int, int]:
        """Scores of a group whose whole interval is better than their floor, and scores that have floor and interval.

        What stands for a group without enough normalised scores to have a mean.
        """
        return self._count([s for s in self.scores.values() if s.group == group], lambda low, high: low > 0)

    def _count(self, scores: Sequence[Score], holds: Callable[[float, float], bool]) -> tuple[int, int]:
        found = [gain for score in scores if (gain := self._gain(score)) is not None]
        return sum(holds(*gain) for gain in found), len(found)

    def _gain(self, score: Score) -> declared.Gain | None:
        """Interval of how much better than its floor a score is; None where there is nothing to compare."""
        if score.floor is None or score.ci_low is None or score.ci_high is None or score.direction == "none":
            return None
        low, high = self.gains.get(score.key, (score.ci_low - score.floor, score.ci_high - score.floor))
        return (low, high) if score.direction == "higher" else (-high, -low)

    @property
    def checks(self) -> tuple[int, int]:
        """Limits of validity that are broken, and limits that there are."""
        judged = [s for s in self.scores.values() if s.group == "validity" and None not in (s.value, s.floor)]
        return len(invalid(self.scores)), len(judged)

    def word(self, key: str) -> str:
        """What stands in the place of a score's value: not applicable, or missing, with the reason if there is one."""
        score = self.scores.get(key)
        if score is not None:
            return str(score.reason) if not score.applicable else f"missing: {score.reason}"
        return NOT_APPLICABLE if self._foreign(key) else "missing"

    def barred(self, key: str) -> bool:
        """Whether the generator cannot have this score, whatever it does."""
        score = self.scores.get(key)
        return self._foreign(key) if score is None else not score.applicable

    def _foreign(self, key: str) -> bool:
        """Whether a score that is not there belongs to a task or a metric that does not apply.

        Some scores of validity are about orders and some about book snapshots, and some scores about price paths.
        """
        empty = any(
            not outcome.scores and any(note.startswith(NOT_APPLICABLE) for note in outcome.notes)
            for result in self.results
            for outcome in result.outcomes.values()
        )
        return (
            empty or key.startswith(("validity.", OF_MIDS)) or any(r.status == "not-applicable" for r in self.results)
        )


@dataclass(frozen=True)
class Leaderboard:
    """Generators on one data set, best first, unranked ones last."""

    dataset: Mapping[str, Any]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    limit: int | None
    groups: tuple[str, ...]
    keys: Mapping[str, str]
    """Scores that rank -> their group."""
    left_out: tuple[str, ...]
    """Scores with floor and ceiling that are not informative."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    reference: Result | None = field(default=None, compare=False)

    @property
    def single_day(self) -> bool:
        return bool(self.dataset["single_day"])

    @property
    def counted(self) -> tuple[str, ...]:
        """Groups of the profile without a mean, of which scores above their floor are counted."""
        there = {s.group for row in self.rows for s in row.scores.values()}
        return tuple(g for g in GROUPS if g in there and g not in self.groups)

    def place(self, row: Row) -> str:
        """The rank as it is printed: a range where the tests leave more than one open."""
        if row.rank is None:
            return "control" if row.placed else "-"
        best, worst = row.rank
        return str(best) if best == worst else f"{best}-{worst}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-like form, without tables."""
        return {
            "dataset": dict(self.dataset),
            "tasks": list(self.tasks),
            "seeds": list(self.seeds),
            "limit": self.limit,
            "groups": list(self.groups),
            "ranking_scores": dict(self.keys),
            "uninformative": list(self.left_out),
            "notes": list(self.notes),
            "generators": [
                {
                    "label": row.label,
                    "rank": list(row.rank) if row.rank else None,
                    "control": row.control,
                    "overall": row.overall,
                    "overall_interval": list(row.interval) if row.interval else None,
                    "groups": dict(row.groups),
                    "group_intervals": {g: list(i) if i else None for g, i in row.group_intervals.items()},
                    "better_than": list(row.better_than),
                    "unranked": row.unranked,
                    "above_floor": {g: dict(zip(("scores", "of"), row.above_floor(g), strict=True)) for g in GROUPS},
                    "validity": dict(zip(("broken", "of"), row.checks, strict=True)),
                    "below_floor": {"scores": row.below_floor[0], "of": row.below_floor[1]},
                    "orders_per_s": row.orders_per_s,
                    "scores": {key: score.to_dict() for key, score in row.scores.items()},
                    "results": [str(r.path) if r.path else r.unit for r in row.results],
                }
                for row in self.rows
            ],
        }


def build(results: Sequence[Result], *, controls: bool = False, missing: Missing = "error") -> Leaderboard:
    """Rank the results of one data set.

    Parameters
    ----------
    controls
        Also list generators that are hidden (known-bad controls), where their overall puts them. They get no rank, and
        which scores rank, the ranks and the tests are those without them. Where there is nobody else they are ranked.
    missing
        ``error`` refuses to rank where a generator lacks a result or a score that others have;
        ``drop`` lists such a generator unranked, with the reason.

    Raises
    ------
    IncomparableError
        If results differ in task, metrics, data, limit or floors, or two tasks give a score of the same key.
    MissingError
        If something is missing and ``missing`` is ``error``.
    ValueError
        If there are no results, or results of more than one data set.
    """
    shown = [r for r in results if controls or not r.generator["hidden"]]
    if not shown:
        hidden = f" ({len(results)} of hidden controls: --controls shows them)" if results else ""
        raise ValueError(f"no results to rank{hidden}; `marsbench run` makes them")
    names = sorted({r.dataset["name"] for r in shown})
    if len(names) > 1:
        raise ValueError(f"results of several data sets ({', '.join(names)}): rank them one by one")
    check_comparable(shown)
    others = [r for r in shown if not r.generator["hidden"]] or shown
    labels = {r.generator["label"] for r in others}
    rows = [replace(_row(label, group), control=label not in labels) for label, group in _by_label(shown).items()]
    scores = {row.label: row.scores for row in rows if not row.control}
    keys = ranking_keys(scores)
    groups = tuple(g for g in GROUPS if g in keys.values())
    tasks = tuple(sorted({r.task["label"] for r in others}))
    seeds = tuple(sorted({r.seed for r in others}))
    judged = [_judge(row, keys, tasks, seeds, shown) for row in rows]
    if missing == "error":
        _refuse(judged)
    ranked = _ranked(judged, keys, single_day=bool(shown[0].dataset["single_day"]))
    left = (*_by_sessions(scores), *_too_small(_informative(scores)), *_by_most_seeds(others, keys))
    notes = (*_nobody(rows), *left, *_notes(shown, ranked))
    return Leaderboard(
        dataset=shown[0].dataset,
        tasks=tasks,
        seeds=seeds,
        limit=shown[0].limit,
        groups=groups,
        keys=keys,
        left_out=tuple(
            sorted({k for row in rows for k, s in row.scores.items() if s.informative is False} - set(keys))
        ),
        rows=ranked,
        notes=notes,
        reference=next((r for r in others if r.status == "done"), others[0]),
    )


def _informative(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, str]:
    """Informative scores, without those that whole sessions judge."""
    return {k: g for k, g in informative_keys(scores).items() if k not in judged_by_sessions(scores)}


def _by_sessions(scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    """Which informative scores of windows do not rank because whole sessions judge the same."""
    found = judged_by_sessions(scores)
    keys = sorted(set(informative_keys(scores)) & set(found))
    return (
        [f"Judged by whole sessions, not by windows, and so no part of the ranking: {', '.join(keys)}."] if keys else []
    )


def _too_small(informative: Mapping[str, str]) -> list[str]:
    """Which groups take no part in the overall for want of informative scores."""
    return [
        f"Group {group} has {count} informative score{'s' * (count > 1)}, too few to stand beside the others: "
        "printed below, no part of the overall."
        for group, count in small_groups(informative).items()
    ]


def _by_most_seeds(results: Sequence[Result], keys: Iterable[str]) -> list[str]:
    """Which scores rank by most seeds and not by all (see ``ranking.average``)."""
    partly = []
    for key in sorted(keys):
        found = {(r.seed, bool(r.scores[key].informative)) for r in results if key in r.scores}
        by = sorted(seed for seed, informative in found if informative)
        if len(by) < len({seed for seed, _ in found}):
            partly.append(f"{key} (seeds {', '.join(map(str, by))})")
    return [f"Informative in most seeds, and ranking by these alone: {', '.join(partly)}."] if partly else []


def _by_label(results: Iterable[Result]) -> dict[str, list[Result]]:
    out: dict[str, list[Result]] = {}
    for result in sorted(results, key=lambda r: (r.generator["label"], r.task["label"], r.seed)):
        out.setdefault(result.generator["label"], []).append(result)
    return out


def _row(label: str, results: Sequence[Result]) -> Row:
    by_task: dict[str, dict[str, list[Score]]] = {}
    for result in results:
        for key, score in result.scores.items():
            by_task.setdefault(key, {}).setdefault(result.task["label"], []).append(score)
    scores = {key: _over_tasks(key, {t: average(s) for t, s in many.items()}) for key, many in by_task.items()}
    scores = declared.beside_ceilings(scores, results)
    return Row(label, None, None, {}, scores, tuple(results), gains=declared.gains(results))


def _over_tasks(key: str, by_task: Mapping[str, Score]) -> Score:
    """The score of the only task that has it; of validity, what is worst in any task.

    Raises
    ------
    ResultError
        If several tasks give a score of the same key: its average would mean nothing.
    """
    found = list(by_task.values())
    if len(found) == 1:
        return found[0]
    if found[0].group != "validity":
        raise ResultError(
            f"tasks {' and '.join(sorted(by_task))} both give a score {key}; rank them one by one with --tasks"
        )
    return next((s for s in found if invalid({key: s})), max(found, key=_missing_last))


def _missing_last(score: Score) -> float:
    """Nearer to its limit is larger; without limit or value it is last."""
    if score.value is None or score.floor is None:
        return -math.inf
    return score.value - score.floor if score.direction == "lower" else score.floor - score.value


def _judge(
    row: Row, keys: Mapping[str, str], tasks: Sequence[str], seeds: Sequence[int], shown: Sequence[Result]
) -> Row:
    """The row with its group means, and the reason where it cannot be ranked."""
    not_applicable = {r.task["label"] for r in row.results if r.status == "not-applicable"}
    means = group_means(row.scores, keys)
    own = {key for r in shown if r.task["label"] in not_applicable for key in r.scores}
    words: dict[str, float | str] = {}
    for group, mean in means.items():
        wanted = [key for key, g in keys.items() if g == group]
        foreign = all(key in own for key in wanted) or all(row.barred(key) for key in wanted if not _has(row, key))
        words[group] = mean if mean is not None else NOT_APPLICABLE if foreign else "missing"
    reason = _lacking(row, keys, set(tasks) - not_applicable, seeds) or "; ".join(invalid(row.scores))
    if not reason and not_applicable:
        reason = f"{NOT_APPLICABLE}: {', '.join(sorted(not_applicable))}"
    barred = [key for key in keys if not _has(row, key) and row.barred(key)]
    if not reason and barred:
        why = row.word(barred[0]).removeprefix(NOT_APPLICABLE).removeprefix(": ")
        reason = f"{NOT_APPLICABLE}: {len(barred)} of {len(keys)} ranking scores, such as {barred[0]}"
        reason += f" ({why})" * bool(why)
    if not reason and not keys:
        reason = "no informative score to rank by"
    return replace(row, overall=overall(means), groups=words, unranked=reason or None)


def _lacking(row: Row, keys: Mapping[str, str], tasks: set[str], seeds: Sequence[int]) -> str:
    """What a generator has not got although it could have."""
    units = {(r.task["label"], r.seed): r for r in row.results}
    for task in sorted(tasks):
        for seed in seeds:
            result = units.get((task, seed))
            if result is None:
                return f"missing: no result of {task} with seed {seed}"
            if result.status == "failed":
                return f"missing: {task} with seed {seed} failed ({result.reason})"
    if {r.task["label"] for r in row.results if r.status == "not-applicable"}:
        return ""
    gone = [key for key in keys if not _has(row, key) and not row.barred(key)]
    if gone:
        why = row.scores[gone[0]].reason if gone[0] in row.scores else None
        more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
        return f"missing: score {gone[0]}{f' ({why})' if why else ''}{more}"
    return ""


def _has(row: Row, key: str) -> bool:
    return key in row.scores and row.scores[key].normalised is not None


def _refuse(rows: Sequence[Row]) -> None:
    lacking = [f"{row.label}: {row.unranked}" for row in rows if row.unranked and row.unranked.startswith("missing")]
    if lacking:
        raise MissingError(
            f"cannot rank, something is missing. {'; '.join(lacking)}. `marsbench run` makes what is missing, "
            "--missing drop lists these generators unranked"
        )


def _ranked(rows: Sequence[Row], keys: Mapping[str, str], *, single_day: bool) -> tuple[Row, ...]:
    """Best first, unranked ones last, with joint intervals; without significance all share all ranks."""
    found = {row.label: _estimates(row, keys, given_scale=False) for row in rows}
    rows = sorted(
        (_with_intervals(row, found[row.label]) for row in rows),
        key=lambda r: (-(r.overall if r.overall is not None else -9e9), r.label),
    )
    good = [r for r in rows if not r.unranked and r.overall is not None]
    rest = [r for r in rows if r not in good]
    in_question = [r for r in good if not r.control]
    paired = {} if single_day else {r.label: _estimates(r, keys, given_scale=True) for r in in_question}
    tested = {label: overall_estimate(groups) for label, groups in paired.items() if groups}
    ranks = rank_ranges([r.label for r in in_question], tested)
    placed = [
        r if r.control else replace(r, rank=ranks.rank[r.label], better_than=ranks.better_than[r.label]) for r in good
    ]
    return (*placed, *rest)


def _estimates(row: Row, keys: Mapping[str, str], *, given_scale: bool) -> dict[str, Replicated]:
    """Groups with replicates; nothing where a ranking score has none."""
    try:
        return (
            group_estimates(row.scores, keys, given_scale=given_scale)
            if keys and all(_has(row, key) for key in keys)
            else {}
        )
    except UnpairedError:
        return {}


def _with_intervals(row: Row, groups: Mapping[str, Replicated]) -> Row:
    if not groups:
        return row
    return replace(
        row,
        interval=overall_estimate(groups).interval,
        group_intervals={group: found.interval for group, found in groups.items()},
    )


def _nobody(rows: Sequence[Row]) -> tuple[str, ...]:
    """A caveat where scores are not applicable to anybody, so that their absence does not look like a virtue."""
    keys = {key for row in rows for key in row.scores if not key.startswith("validity.")}
    nobody = [key for key in keys if all(row.barred(key) for row in rows)]
    text = (
        f"{len(nobody)} scores are {NOT_APPLICABLE} to any generator here, so this ranking is about the others alone."
    )
    return (text,) if nobody else ()


def _notes(shown: Sequence[Result], rows: Sequence[Row]) -> tuple[str, ...]:
    head = shown[0]
    joint = all(row.interval for row in rows if row.rank)
    notes = [JOINT, *[SHARED] * (not head.dataset["single_day"])] if joint else [NO_INTERVAL]
    notes += [CONTROLS] * any(row.control for row in rows)
    if head.dataset["single_day"]:
        notes.insert(0, WITHIN_DAY)
    if head.limit is not None:
        notes.insert(0, f"A trial run: only the first {head.limit} starts of each task were used.")
    reasons = {r.floors["reason"] for r in shown if r.floors.get("reason")}
    notes += [f"Frozen floors are missing: {reason}." for reason in sorted(reasons)]
    return tuple(notes)


def load(
    folder: str | Path = "results",
    *,
    dataset: str | None = None,
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    limit: int | None = None,
) -> dict[str, list[Result]]:
    """Result files by data set.

    Parameters
    ----------
    tasks, seeds
        Only these; all where there are none.
    limit
        Take limited results (the first so many starts) instead of full ones.

    Raises
    ------
    FileNotFoundError
        If there are none.
    ResultError
        If one is damaged.
    """
    found: dict[str, list[Result]] = {}
    other: set[int | None] = set()
    for path in store.paths(folder, dataset=dataset):
        result = store.read(path)
        if (tasks and result.task["label"] not in tasks) or (seeds and result.seed not in seeds):
            continue
        if result.limit != limit:
            other.add(result.limit)
            continue
        found.setdefault(result.dataset["name"], []).append(result)
    if not found:
        what = f" of data set {dataset!r}" if dataset else ""
        what += f" with seed {' or '.join(map(str, seeds))}" if seeds else ""
        there = [f"--limit {n}" if n else "no --limit" for n in sorted(other, key=lambda n: n or 0)]
        hint = f"; there are some with {', '.join(there)}" if there else "; `marsbench run` makes them"
        raise FileNotFoundError(f"{folder}: no results{what}{hint}")
    return found


def leaderboards(
    results: str | Path = "results",
    *,
    dataset: str | None = None,
    tasks: Sequence[str] = (),
    seeds: Sequence[int] = (),
    limit: int | None = None,
    controls: bool = False,
    missing: Missing = "error",
) -> list[Leaderboard]:
    """The leaderboards of a results folder, one for each data set; see ``load`` and ``build``."""
    found = load(results, dataset=dataset, tasks=tasks, seeds=seeds, limit=limit)
    return [build(group, controls=controls, missing=missing) for _, group in sorted(found.items())]
