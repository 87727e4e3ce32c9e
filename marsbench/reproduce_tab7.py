"""MarS Table 7 and Figure 22: distribution similarity and 3-class accuracy of ten per-minute quantities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from marsbench.quantities import TEN
from marsbench.reproduce import Item, Made, MissingScores, Table
from marsbench.results import Result
from marsbench.scores import Score
from marsbench.stats.classes import accuracy, kappa

PUBLISHED: Mapping[str, tuple[float, float]] = {
    "volatility": (0.872, 0.516),
    "spread": (0.970, 0.729),
    "mean_order_volume": (0.957, 0.776),
    "aggressive_order_ratio": (0.920, 0.525),
    "buy_order_ratio": (0.933, 0.570),
    "return_1min": (0.956, 0.684),
    "return_2min": (0.936, 0.625),
    "return_3min": (0.924, 0.583),
    "return_4min": (0.914, 0.548),
    "return_5min": (0.908, 0.531),
}
"""Distribution similarity and 3-class accuracy of MarS (ICLR 2025), Table 7."""

FIGURE_22 = ((1266, 483, 304), (612, 901, 605), (232, 441, 1378))
"""Counts of its Figure 22, buy order ratio, in printed order: 6,222 minutes."""

_VARIANTS = {"one_rollout": "one rollout", "mean_of_rollouts": "mean of rollouts", "majority_vote": "majority vote"}


def _make(result: Result) -> Made:
    similarity, about = _summary(result, "similarity_summary"), _facts(result)
    accuracies = _summary(result, "accuracy_summary")
    tables = (_similarities(result, similarity), _accuracies(result, accuracies))
    return Made(result.generator["label"], tables, _verdict(result, similarity, accuracies), _notes(result, about))


def _summary(result: Result, name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of a table by quantity and variant."""
    for outcome in result.outcomes.values():
        if name in outcome.tables:
            table = outcome.tables[name]
            rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
            found = {(row["quantity"], row.get("variant", "")): row for row in rows}
            column = "w1_exchanged" if name == "similarity_summary" else "ceiling"
            if rows and column in rows[0]:
                return found
            raise MissingScores(f"its table {name!r} is of an older version of the metric and lacks {column!r}")
    raise MissingScores(f"it has no table {name!r}")


def _facts(result: Result) -> dict[str, str]:
    for outcome in result.outcomes.values():
        if "similarity_about" in outcome.tables:
            table = outcome.tables["similarity_about"]
            return dict(zip(table["name"], table["value"], strict=True))
    raise MissingScores("it has no table 'similarity_about'")


def _score(result: Result, key: str) -> Score:
    if key not in result.scores:
        raise MissingScores(f"it has no score {key}")
    return result.scores[key]


def _similarities(result: Result, summary: Mapping[tuple[str, str], Mapping[str, Any]]) -> Table:
    rows = []
    for quantity in TEN:
        score = _score(result, f"distribution_similarity.{quantity.key}")
        w1 = _score(result, f"distribution_similarity.{quantity.key}.w1")
        row = summary[quantity.key, ""]
        share = score.value / score.ceiling if score.value is not None and score.ceiling else None
        rows.append(
            (quantity.title, PUBLISHED[quantity.key][0], score.value, _interval(score), score.ceiling, share,
             score.floor, score.normalised, w1.value, row["w1_exchanged"], row["p"], row["verdict"] or "not applicable")
        )  # fmt: skip
    columns = ("quantity", "paper", "ours", "95% interval", "ceiling", "ours / ceiling", "floor", "normalised",
               "W1, sd", "of one law", "p", "from replay")  # fmt: skip
    return Table("Distribution similarity (overlap coefficient)", columns, tuple(rows))


def _accuracies(result: Result, summary: Mapping[tuple[str, str], Mapping[str, Any]]) -> Table:
    published_kappa = float(kappa(np.array(FIGURE_22, np.float64)))
    rows = []
    for quantity in TEN:
        for variant in ("mean_of_rollouts", "majority_vote") if quantity.horizon else ("one_rollout",):
            score = _score(result, f"three_class_accuracy.{quantity.key}.{variant}")
            row = summary[quantity.key, variant]
            published = PUBLISHED[quantity.key][1] if variant != "majority_vote" else None
            rows.append(
                (f"{quantity.title}, {_VARIANTS[variant]}", published, score.value, _interval(score), score.floor,
                 row["persistence_accuracy"], score.ceiling, score.normalised, row["kappa"],
                 published_kappa if quantity.key == "buy_order_ratio" else None, _shares(row))
            )  # fmt: skip
    columns = ("quantity", "paper", "ours", "95% interval", "floor", "persistence", "ceiling", "normalised", "kappa",
               "paper's kappa", "replay's classes")  # fmt: skip
    return Table("Accuracy (3-class)", columns, tuple(rows))


def _shares(row: Mapping[str, Any]) -> str:
    """How much of replay is low, middle and high: ties make it unequal."""
    return " ".join(f"{row[f'observed_{name}']:.2f}" for name in ("low", "middle", "high"))


def _interval(score: Score) -> str | None:
    return None if score.ci_low is None or score.ci_high is None else f"[{score.ci_low:.3f}, {score.ci_high:.3f}]"


def _verdict(
    result: Result, similarity: Mapping[tuple[str, str], Mapping[str, Any]], accuracies: Mapping[Any, Mapping[str, Any]]
) -> str:
    verdicts = [similarity[q.key, ""]["verdict"] for q in TEN]
    words = [f"{verdicts.count(word)} {word}" for word in ("indistinguishable", "distinguishable", "inconclusive")]
    ten = {q.key for q in TEN}
    judged = [row for (key, _), row in accuracies.items() if key in ten and row["gain_ci_low"] is not None]
    above = sum(row["gain_ci_low"] > 0 for row in judged)
    below = sum(row["gain_ci_high"] < 0 for row in judged)
    return (
        f"Of the ten quantities, {', '.join(words)} from replay (before correction for ten tests). Of {len(judged)} "
        f"accuracies {above} are better than their floor and {below} worse, by their 95% intervals."
    )


def _notes(result: Result, about: Mapping[str, str]) -> tuple[str, ...]:
    data, drawn = result.dataset, np.array(FIGURE_22, np.float64)
    notes = [
        f"Data: the paper has 11,591 trajectories of 500 Chinese stocks, and 6,222 minutes in its Figure 22; here "
        f"{data['name']} ({data['summary']}): {about['starts']} starts of {about['minutes']} minutes, "
        f"{about['instruments']} instrument(s), {about['clusters']} clusters.",
        "Bins: the paper states none. Here they are frozen on replay, 50 quantile bins or one for each value.",
        "W1 is the Wasserstein-1 distance in standard deviations of replay, `of one law` what it is on average once "
        "replay and simulation have been exchanged at random; p and the last column are that permutation test.",
        "Ceiling: the paper has none. Two samples of one law overlap by less than 1, the less the fewer they are, so "
        "similarities of different n do not compare; ours / ceiling does.",
        f"Returns: the paper aggregates 128 rollouts of each start, by a rule that it does not state; here "
        f"{about['rollouts']}, by mean and by majority vote. Other quantities: one rollout.",
        f"Classes: terciles of replay, here of each instrument. The counts of Figure 22 give an accuracy of "
        f"{float(accuracy(drawn)):.3f} and a kappa of {float(kappa(drawn)):.3f}.",
        "Definitions of the ten quantities are ours where the paper gives none (`marsbench list quantities`).",
    ]
    ceilings = result.floors.get("ceilings", {})
    if ceilings.get("reason"):
        notes.append(f"No ceiling of the accuracy: {ceilings['reason']}.")
    if about.get("single_day") == "yes":
        notes.append("All starts lie on one instrument and day: within-day inference only.")
    return tuple(notes)


TAB7 = Item(
    "tab7",
    "Distribution similarity and 3-class accuracy of ten per-minute quantities",
    "MarS (ICLR 2025), appendix J, Table 7 and Figure 22",
    "realism",
    _make,
)
