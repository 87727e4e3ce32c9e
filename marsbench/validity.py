"""Scores of group ``validity``: a generator on the wrong side of one is listed without a rank.

Messages need none of this: the clearing house rejects what cannot be, and what it makes is never
crossed. Snapshots can show anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from marsbench.market.books import BookSeries, faults
from marsbench.scores import Score

MOST_CROSSED = 0.01
"""Largest share of trading time that books may be crossed, or locked, and still be ranked."""
_LIMITS: dict[str, float | None] = {"crossed": MOST_CROSSED, "locked": MOST_CROSSED, "one_sided": None, "silent": None}


def book_scores(many: Sequence[BookSeries], clusters: int) -> tuple[Score, ...]:
    """``validity.book_<fault>``: shares of trading time, means over all rollouts; lower is better.

    ``crossed`` (bid above ask) and ``locked`` (bid at ask) have a limit, which stands as their floor.
    ``one_sided`` (no bid or no ask) and ``silent`` (share of minutes without a new book) have none:
    real markets show them too, so they are facts to look at.
    """
    found = [faults(series) for series in many]
    return tuple(
        Score(
            f"validity.book_{name}",
            float(np.mean([f[name] for f in found])),
            "validity",
            "lower",
            unit="share of minutes" if name == "silent" else "share of trading time",
            floor=limit,
            n=len(found),
            clusters=clusters,
            reason="a share of all simulated time: no interval",
        )
        for name, limit in _LIMITS.items()
    )
