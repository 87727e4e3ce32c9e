"""Results that look like real ones, for the tests of the leaderboard and the page."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from marsbench import system
from marsbench.results import Result
from marsbench.scores import Outcome, Score

NOW = "2024-05-01T10:00:00+00:00"
SCORES = {
    "facts": ["facts.absence_of_autocorrelation", "facts.heavy_tails", "facts.volatility_clustering", "facts.leverage"],
    "distributions": [f"similarity.{q}" for q in ("returns", "spread", "volume", "imbalance", "orders")],
    "prediction": [f"accuracy.{q}" for q in ("returns", "volume", "spread")],
}
METRIC = {"label": "made-up", "name": "made-up", "version": 1, "parameters": {}}


def score(key: str, group: Any, normalised: float | None, **changes: Any) -> Score:
    """A score between floor 0.4 and ceiling 0.9."""
    values: dict[str, Any] = {
        "key": key,
        "group": group,
        "value": None if normalised is None else 0.4 + 0.5 * normalised,
        "normalised": normalised,
        "floor": 0.4,
        "ceiling": 0.9,
        "informative": True,
        "n": 1500,
        "clusters": 24,
        "reason": "nothing was traded" if normalised is None else None,
    }
    if normalised is not None:
        wiggle = 0.001 * np.random.default_rng(sum(key.encode()) + round(1e4 * abs(normalised))).standard_normal(24)
        values |= {"normalised_replicates": tuple((normalised + wiggle).tolist()), "replicate_units": "24 days"}
        values |= {"replicates": tuple((values["value"] + 0.5 * wiggle).tolist())}
        values |= {"ci_low": values["value"] - 0.05, "ci_high": values["value"] + 0.05, "ci_method": "t over 24 days"}
    return Score(**{**values, **changes})


def result(
    label: str = "alpha", *, level: float = 0.5, scores: tuple[Score, ...] | None = None, **changes: Any
) -> Result:
    """A finished result whose normalised scores lie around ``level``."""
    rng = np.random.default_rng(sum(label.encode()))
    if scores is None:
        scores = tuple(
            score(key, group, round(float(level + 0.2 * rng.standard_normal()), 4))
            for group, keys in SCORES.items()
            for key in keys
        )
    base = Result(
        status="done",
        generator={
            "label": label, "spec": label, "name": label, "version": 1, "kind": "session", "reacts": level > 0.5,
            "hidden": False, "fits": True, "parameters": {"block_s": 60}, "summary": "a made-up market",
            "source": "a test",
        },
        task={
            "label": "realism", "name": "realism", "version": 1, "parameters": {"minutes": 25}, "summary": "",
            "starts": 64, "metrics": [METRIC],
        },
        dataset={
            "name": "made-up-market", "version": 1, "content_hash": "ab" * 32, "single_day": False,
            "summary": "a market that nobody trades on", "test": ["X 2024-01-02 09:30:00-11:30:00"],
        },
        seed=0,
        outcomes={"made-up": Outcome(scores)},
        artifact={
            "content_hash": "cd" * 32, "seed": 0, "data_hash": "ef" * 32,
            "trained_on": {"periods": 1, "list": ["X 2024-01-01 09:30:00-11:30:00"], "hash": "01" * 32},
        },
        floors={"hash": "23" * 32, "generator": "zero-intelligence version 1", "command": "marsbench", "reason": None},
        cost={
            "wall_s": 12.5, "cpu_s": 11.0, "peak_memory_bytes": 2**29, "orders": 100_000,
            "orders_per_s": 20_000.0 + 54_321.0 * level,
        },
        environment=system.environment(),
        suite={"name": "default", "id": "0123456789abcdef"},
        command=f"marsbench run -g {label}",
        started=NOW,
        finished=NOW,
    )  # fmt: skip
    return replace(base, **changes)


def failed(label: str = "broken", **changes: Any) -> Result:
    """A result of a generator that raised."""
    error = {"type": "ValueError", "message": "no orders", "traceback": "..."}
    return replace(result(label), status="failed", reason="ValueError: no orders", error=error, outcomes={}, **changes)


def not_applicable(label: str = "forecaster", **changes: Any) -> Result:
    """A result of a generator that the task does not take."""
    made = result(label)
    generator = {**made.generator, "kind": "forecast"}
    reason = "a generator of kind forecast; task realism takes session"
    return replace(made, status="not-applicable", reason=reason, generator=generator, outcomes={}, **changes)


def changed(made: Result, part: str, **values: Any) -> Result:
    """The result with fields of one of its mappings changed."""
    return replace(made, **{part: {**getattr(made, part), **values}})
