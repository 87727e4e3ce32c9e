"""What metrics declare about their scores, found by the names of the metrics in result files.

A metric that is not installed here declares nothing: its scores are then taken as they stand in the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from marsbench import registry
from marsbench.evidence import Metric
from marsbench.results import Result
from marsbench.scores import Outcome, Score

Gain = tuple[float, float]


def _metrics(results: Iterable[Result]) -> Iterator[tuple[type[Metric], Outcome]]:
    known = set(registry.names("metrics"))
    for result in results:
        names = {metric["label"]: metric["name"] for metric in result.task["metrics"]}
        for label, outcome in result.outcomes.items():
            if names.get(label) in known:
                metric: Any = registry.lookup("metrics", names[label])
                yield metric, outcome


def gains(results: Iterable[Result]) -> dict[str, Gain]:
    """Key -> paired interval of (value - floor), ends averaged over seeds; see ``Metric.gains``."""
    found: dict[str, list[Gain]] = {}
    for metric, outcome in _metrics(results):
        for key, ends in metric.gains(outcome.tables).items():
            found.setdefault(key, []).append(ends)
    return {
        key: (float(np.mean([a for a, _ in many])), float(np.mean([b for _, b in many]))) for key, many in found.items()
    }


def beside_ceilings(scores: Mapping[str, Score], results: Iterable[Result]) -> dict[str, Score]:
    """The scores, those that depend on replay alone as the ceilings that they are; see ``Metric.replay_alone``.

    Such a score has no direction and no floor any more: nothing is credited to a generator for it.
    """
    out = dict(scores)
    for metric, _ in _metrics(results):
        for key, of in metric.replay_alone.items():
            if key in scores:
                why = f"depends on replay alone: the ceiling of {of}, no score of a generator"
                out[key] = replace(scores[key], direction="none", floor=None, reason=scores[key].reason or why)
            if key in scores and of in scores:
                out[of] = replace(scores[of], ceiling=scores[key].value)
    return out
