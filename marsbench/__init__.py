"""marsbench: put any generator of order flow through the same tasks and see where it stands.

The public API is the names below; each is imported when it is first used, so that ``import
marsbench`` costs nothing. Plug-ins subclass ``SessionGenerator``, ``TrajectoryGenerator``,
``Metric`` or ``Task`` and are found by name (``generator``, ``metric``, ``task``).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    # run and rank
    "run": "marsbench.runner",
    "score": "marsbench.runner",
    "leaderboards": "marsbench.leaderboard",
    "generator": "marsbench.registry",
    "metric": "marsbench.registry",
    "task": "marsbench.registry",
    # markets and data
    "open_dataset": "marsbench.data.catalogue",
    "Trajectory": "marsbench.market.trajectory",
    "MatchingRules": "marsbench.market.rules",
    "ClearingHouse": "marsbench.market.clearing_house",
    "replay": "marsbench.market.replay",
    "simulate": "marsbench.simulation.rollout",
    # contracts of plug-ins
    "ForecastGenerator": "marsbench.simulation.contracts",
    "SessionGenerator": "marsbench.simulation.contracts",
    "TrajectoryGenerator": "marsbench.simulation.contracts",
    "Session": "marsbench.simulation.contracts",
    "Agent": "marsbench.simulation.contracts",
    "Metric": "marsbench.evidence",
    "Task": "marsbench.evidence",
    "Score": "marsbench.scores",
    "Outcome": "marsbench.scores",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'marsbench' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
