"""A simulated market of which only the price is known: the mid at the end of each minute.

Some generators make nothing else. Whatever needs a book, trades or orders does not exist here, and says why
(``PathSeries.lacks``); returns of the mid are those of a ``Trajectory``, to the digit (``path_of``).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from marsbench.market.bars import MinuteBars, minute_bars
from marsbench.market.rules import MINUTE, MatchingRules, clock_text
from marsbench.market.trajectory import Trajectory

Floats = NDArray[np.float64]

FORMAT = 1
MIDS = "mid_half_ticks"
"""The one series of the bars that there is."""

PATHS_ONLY = "price paths only"
_WHY = {"trade": f"{PATHS_ONLY}, no trades", "book": f"{PATHS_ONLY}, no books", "order": f"{PATHS_ONLY}, no orders"}
LACKS: Mapping[str, str] = {
    "last_trade_ticks": _WHY["trade"],
    "mean_trade_ticks": _WHY["trade"],
    "volume_shares": _WHY["trade"],
    "n_trades": _WHY["trade"],
    "n_orders": _WHY["order"],
    "n_new": _WHY["order"],
    "n_cancels": _WHY["order"],
    "volatility": f"{PATHS_ONLY}: it is measured from order to order within a minute",
    "spread_ticks": _WHY["book"],
    "mean_order_lots": _WHY["order"],
    "aggressive_ratio": _WHY["order"],
    "buy_ratio": _WHY["order"],
    "one_sided_share": _WHY["book"],
}
"""Series of ``MinuteBars`` that prices alone cannot give -> why."""


@dataclass(frozen=True)
class PathSeries:
    """Mid prices at the start and at the end of every whole minute of trading of one period, breaks cut out.

    Raises
    ------
    ValueError
        If there is not one price more than whole minutes, or one is not finite or not above 0.
    """

    instrument: str
    date: str
    """ISO date of the trading day."""
    rules: MatchingRules
    start_ns: int
    end_ns: int
    mid_ticks: Floats
    """``[M + 1]``, in ticks; entry 0 is the price at the start."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Provenance; not part of the identity."""

    n_orders: ClassVar[None] = None
    lacks: ClassVar[Mapping[str, str]] = LACKS

    def __post_init__(self) -> None:
        minutes = int(self.rules.trading_ns(self.end_ns) - self.rules.trading_ns(self.start_ns)) // MINUTE
        if self.mid_ticks.shape != (minutes + 1,):
            raise ValueError(
                f"{minutes} minutes of trading need an array of {minutes + 1} prices, got {self.mid_ticks.shape}"
            )
        bad = ~(np.isfinite(self.mid_ticks) & (self.mid_ticks > 0))
        if bad.any():
            at = int(np.argmax(bad))
            raise ValueError(f"price {at} of {minutes + 1} is {self.mid_ticks[at]}; prices are finite and above 0")

    def content_hash(self) -> str:
        """SHA-256 (hex) of the content: instrument, date, rules, period and prices."""
        head = {
            "paths": FORMAT,
            "instrument": self.instrument,
            "date": self.date,
            "rules": self.rules.to_dict(),
            "period": [int(self.start_ns), int(self.end_ns)],
        }
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(self.mid_ticks, np.float64).tobytes())
        return digest.hexdigest()

    def with_labels(self, **labels: Any) -> Self:
        return replace(self, labels={**self.labels, **labels})

    def __repr__(self) -> str:
        return (
            f"PathSeries({self.instrument} {self.date} {clock_text(self.start_ns)}-{clock_text(self.end_ns)}, "
            f"{len(self.mid_ticks) - 1} minutes)"
        )


def path_of(trajectory: Trajectory) -> PathSeries:
    """The mid prices of a trajectory.

    Raises
    ------
    ValueError
        If a minute ends on a one-sided book, which has no mid.
    """
    return PathSeries(
        instrument=trajectory.instrument,
        date=trajectory.date,
        rules=trajectory.rules,
        start_ns=trajectory.start_ns,
        end_ns=trajectory.end_ns,
        mid_ticks=minute_bars(trajectory).mid_half_ticks / 2,
        labels=dict(trajectory.labels),
    )


def path_bars(series: PathSeries) -> MinuteBars:
    """Bars ``[M]`` of a path: the mid; all of ``LACKS`` is NaN."""
    nothing = np.full(len(series.mid_ticks) - 1, np.nan)
    price = np.full(len(series.mid_ticks), np.nan)
    missing = {f.name: price if f.name.endswith("trade_ticks") else nothing for f in fields(MinuteBars)}
    return MinuteBars(**{**missing, MIDS: 2 * series.mid_ticks})


def save_paths(paths: Sequence[PathSeries], path: str | Path) -> Path:
    """Write many paths as one Parquet file, atomically; returns its path.

    The prices stand one after the other in the column ``mid_ticks``; everything else in the file's metadata under
    ``marsbench`` as JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    heads = [
        {
            "instrument": p.instrument,
            "date": p.date,
            "rules": p.rules.to_dict(),
            "start_ns": int(p.start_ns),
            "end_ns": int(p.end_ns),
            "rows": len(p.mid_ticks),
            "labels": p.labels,
            "content_hash": p.content_hash(),
        }
        for p in paths
    ]
    prices = np.concatenate([p.mid_ticks for p in paths]) if paths else np.zeros(0)
    head = json.dumps({"format": f"paths {FORMAT}", "paths": heads})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        table = pa.table({"mid_ticks": pa.array(prices)}).replace_schema_metadata({"marsbench": head})
        pq.write_table(table, temporary, compression="zstd")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load_paths(path: str | Path) -> list[PathSeries]:
    """Read every path of a file and verify its content hash.

    Raises
    ------
    ValueError
        If the file is not ours, is damaged, or its content does not match its hash.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        head = json.loads((table.schema.metadata or {})[b"marsbench"])
    except (pa.ArrowInvalid, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: not a file of price paths, or damaged ({error})") from error
    if head.get("format") != f"paths {FORMAT}":
        raise ValueError(f"{path}: format {head.get('format')!r}, this version reads 'paths {FORMAT}'")
    prices, at, out = table.column("mid_ticks").to_numpy(), 0, []
    for one in head["paths"]:
        facts = {name: one[name] for name in ("instrument", "date", "start_ns", "end_ns", "labels")}
        mids = prices[at : at + one["rows"]].copy()
        at += one["rows"]
        series = PathSeries(rules=MatchingRules.from_dict(one["rules"]), mid_ticks=mids, **facts)
        if series.content_hash() != one["content_hash"]:
            raise ValueError(f"{path}: content does not match its hash; the file was changed or damaged")
        out.append(series)
    return out
