"""How a generator drifts over the minutes of a rollout, against replay: ``python tests/drift_over_horizon.py``.

Reads the stored trajectories of ``marsbench run -t realism`` and prints, for each instrument and stretch of minutes,
the median over rollouts (and quartiles) of orders against replay's, the ratio of the median standard deviations of
one-minute returns; and for all
minutes the busiest one, how many orders a rollout has, and how far the mid moves within a minute.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from marsbench.data.catalogue import open_dataset
from marsbench.market.bars import minute_bars
from marsbench.market.trajectory import load_all

STRETCHES = ((0, 1), (1, 3), (3, 6), (6, 12), (12, 18), (18, 25))


def bars_by_instrument(results: Path, generator: str, dataset: str) -> dict[str, list[tuple[Any, Any]]]:
    """(simulated, replayed) bars of every rollout of 25 minutes."""
    data, found = open_dataset(dataset), defaultdict(list)
    days = {(d["instrument"], d["date"]) for d in data.days}
    for path in sorted((results / "cache" / "trajectories").glob("*.parquet")):
        for t in load_all(path, check=False):
            minutes = (t.rules.trading_ns(t.end_ns) - t.rules.trading_ns(t.start_ns)) / 60e9
            known = t.labels.get("generator") == generator and (t.instrument, t.date) in days
            if known and minutes == STRETCHES[-1][1]:
                replay = data.window(t.instrument, t.date, t.start_ns, t.end_ns)
                found[t.instrument].append((minute_bars(t), minute_bars(replay)))
    return found


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--results", type=Path, default=Path("results"))
    options.add_argument("--generator", default="lmm-order-2m")
    options.add_argument("--dataset", default="reference")
    asked = options.parse_args()
    for name, pairs in sorted(bars_by_instrument(asked.results, asked.generator, asked.dataset).items()):
        orders = [np.array([bars.n_orders.ravel() for bars in side], float) for side in zip(*pairs, strict=True)]
        moves = [np.array([bars.mid_returns(1).ravel() for bars in side]) for side in zip(*pairs, strict=True)]
        print(f"{name}: {len(pairs)} rollouts; busiest minute {orders[0].max():.0f}, replay's {orders[1].max():.0f}")
        many = [np.quantile(x.sum(axis=1), (0.5, 0.9, 1)) for x in orders]
        words = (f"{own:,.0f} (replay {real:,.0f})" for own, real in zip(*many, strict=True))
        print("  orders of a rollout, median, 90th percentile, most: " + ", ".join(words))
        far = [1e4 * np.nanquantile(np.abs(m), (0.5, 0.99, 1)) for m in moves]
        words = (f"{own:.1f} (replay {real:.1f})" for own, real in zip(*far, strict=True))
        print("  one-minute moves in bps, median, 99th percentile, largest: " + ", ".join(words))
        for a, b in STRETCHES:
            ratio = orders[0][:, a:b].mean(axis=1) / np.maximum(orders[1][:, a:b].mean(axis=1), 1)
            low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
            own, real = (np.nanmedian(np.nanstd(m[:, a:b], axis=1)) if b - a > 2 else np.nan for m in moves)
            print(
                f"  minutes {a:2d} to {b:2d}: orders {middle:.2f} [{low:.2f}, {high:.2f}] of replay's, "
                f"median spread of returns {own / real:.2f}"
            )


if __name__ == "__main__":
    main()
