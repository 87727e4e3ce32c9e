"""Measure a data set: whole days, each read once, then averaged, fitted and resampled by instrument-day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench import progress
from marsbench.data.catalogue import list_datasets, open_dataset
from marsbench.data.dataset import SPLITS, Dataset
from marsbench.description import ALL, BLOCK_DAYS, PRICE_MINUTES, TAIL_EDGES, Description, Number, stored
from marsbench.stats import session_facts as facts
from marsbench.stats import verdicts
from marsbench.stats.fact_pools import FactPools
from marsbench.stats.impact import binned, decay, fit_power_law
from marsbench.stats.intervals import cluster_interval, ratio_interval
from marsbench.stats.metaorders import PATH, DayImpacts, Impacts, checked, day_impacts, join_impacts
from marsbench.stats.microstructure import CURVES, SCALARS, Microstructure, microstructure, sign_exponent
from marsbench.stats.sessions import DaySeries, Sessions, day_series, seasonality, sessions

Floats = NDArray[np.float64]

WHOLE = "all"
"""Stands for the days of all splits."""
LINES = (
    "acf", "acf_mid", "absolute", "absolute_d", "kurtosis", "kurtosis_d", "leverage", "volume_d", "timescales_d",
    "signature_mid", "signature_last",
)  # fmt: skip
"""Curves of the facts that are kept for drawing."""


def chosen_days(dataset: Dataset, split: str = "test", days: int | None = None) -> list[tuple[str, str]]:
    """(instrument, date) of the days on which the split has a period, at most ``days`` of each instrument.

    Raises
    ------
    ValueError
        For an unknown split, a split without days, or a number below 1.
    """
    if split not in (*SPLITS, WHOLE):
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)} and {WHOLE}")
    if days is not None and days < 1:
        raise ValueError(f"days must be 1 or more, got {days}")
    if split == WHOLE:
        listed = {(d["instrument"], d["date"]) for d in dataset.days}
    else:
        listed = {(p.instrument, p.date) for p in dataset.split(split)}
    if not listed:
        raise ValueError(f"data set {dataset.name!r} has no {split} days; choose another split")
    out: list[tuple[str, str]] = []
    for instrument in sorted({i for i, _ in listed}):
        out += sorted(day for day in listed if day[0] == instrument)[:days]
    return out


def describe(
    dataset: Dataset,
    *,
    split: str = "test",
    days: int | None = None,
    command: str = "",
) -> Description:
    """Measure whole days of a data set: those on which the split has a period.

    Parameters
    ----------
    split
        ``"train"``, ``"validation"``, ``"test"``, or ``"all"``.
    days
        Only the first so many days of each instrument.

    Raises
    ------
    ValueError
        If there are no such days, or a day holds no minute of continuous trading.
    """
    chosen = chosen_days(dataset, split, days)
    metaorders = _metaorders(dataset)
    insides: list[Microstructure] = []
    series: list[DaySeries] = []
    points: list[DayImpacts] = []
    lots: dict[str, int] = {}
    for instrument, date in progress.bar(chosen, desc="measuring days", unit="day"):
        day = dataset.day(instrument, date)
        insides.append(microstructure(day))
        series.append(day_series(day))
        lots[instrument] = day.rules.lot_shares
        if metaorders is not None and (point := day_impacts(day, metaorders)) is not None:
            points.append(point)
    whole = sessions(series)
    groups = {ALL: list(range(len(chosen)))}
    groups |= {name: [i for i, d in enumerate(chosen) if d[0] == name] for name in whole.names}
    measured = _facts(whole)
    made = Description(
        name=dataset.name,
        version=dataset.version,
        summary=dataset.summary,
        content_hash=dataset.content_hash,
        split=split,
        command=command,
        days=len(chosen),
        dates=[min(d for _, d in chosen), max(d for _, d in chosen)],
        minutes=whole.windows.returns.shape[-1],
        seasonal_minutes=seasonality(whole.windows).bucket_minutes,
        instruments=list(whole.names),
        lots=lots,
        resembles=dict(dataset.facts.get("resembles", {})),
        microstructure={k: _inside([insides[i] for i in v]) for k, v in groups.items()},
        curves={k: _mean_curves([insides[i] for i in v]) for k, v in groups.items()},
        facts=measured,
        lines=_lines(whole),
        tails=_tails(whole),
        impact=_impact(points) if metaorders is not None else None,
        blocks=_blocks(chosen, insides, series),
        prices={name: _prices([series[i] for i in groups[name]]) for name in whole.names},
    )
    return Description.from_dict(made.to_dict())  # as it comes back from a file: six digits, None for NaN


def beside(names: Sequence[str]) -> list[Description]:
    """Descriptions of data sets to print beside another: measured where they are at hand, else the stored ones.

    Raises
    ------
    ValueError
        For a name that is neither a data set nor stored.
    """
    kept = stored()
    at_hand = {info.name for info in list_datasets() if info.folder}
    return [
        kept[name]
        if name in kept and name not in at_hand
        else describe(open_dataset(name), split=WHOLE, command=f"marsbench data describe {name} --split {WHOLE}")
        for name in names
    ]


def _metaorders(dataset: Dataset) -> dict[str, NDArray[Any]] | None:
    table = dataset.metaorders()
    return checked(table) if table is not None and len(table) else None


def _inside(days: Sequence[Microstructure]) -> dict[str, Number]:
    """Means over days of the microstructure, and the sign exponent of the mean curve."""
    values = np.array([[getattr(d, name) for name in SCALARS] for d in days])
    known = np.isfinite(values)
    found = ratio_interval(np.where(known, values, 0.0), known.astype(float))
    mean = np.where(
        known.any(axis=0), np.where(known, values, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
    )
    rows = np.stack([mean, found.low, found.high], axis=1).tolist()
    out: dict[str, Number] = dict(zip(SCALARS, rows, strict=True))
    curves = np.array([d.sign_acf for d in days])
    curves = curves[np.isfinite(curves).all(axis=1)]

    def exponent(weights: Floats) -> Floats:
        return sign_exponent(weights @ curves / weights.sum(axis=1, keepdims=True))

    if not len(curves):
        out["sign_exponent"] = [None, None, None]
        return out
    interval = cluster_interval(exponent, len(curves))
    out["sign_exponent"] = [float(exponent(np.ones((1, len(curves))))[0]), float(interval.low), float(interval.high)]
    return out


def _mean_curves(days: Sequence[Microstructure]) -> dict[str, list[float | None]]:
    out = {}
    for name in CURVES:
        rows = [getattr(d, name) for d in days]
        length = max(len(r) for r in rows)
        table = np.array([np.pad(r, (0, length - len(r)), constant_values=np.nan) for r in rows])
        known = np.isfinite(table)
        total = np.where(known, table, 0).sum(axis=0)
        out[name] = np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan).tolist()
    return out


def _facts(whole: Sessions) -> dict[str, dict[str, list[Any]]]:
    regions = {r.key: r.absent if f.expected_absent else r.present for f in facts.FACTS for r in f.rows}
    regions |= {row.key: row.present for row in facts.SIGNATURE_ROWS}
    minutes = whole.windows.returns.shape[-1]
    parts = {ALL: whole} | {name: whole.of(i) for i, name in enumerate(whole.names)}
    out: dict[str, dict[str, list[Any]]] = {}
    for name, part in parts.items():
        if name != ALL and len(whole.names) == 1:
            out[name] = out[ALL]
            continue
        found = facts.session_facts(part)
        out[name] = {k: [*found[k].summary(), found[k].verdict(r) if r else None] for k, r in regions.items()}
        for form, suffix in ((verdicts.STRICT, ""), (verdicts.PAPER, "_paper")):
            judged = verdicts.judge(facts.FACTS, found, minutes=minutes, form=form)
            out[name] |= {f"fact_{f.number}{suffix}": [None, None, None, judged[f.key].verdict] for f in facts.FACTS}
    return out


def _lines(whole: Sessions) -> dict[str, dict[str, list[float | None]]]:
    pools = FactPools(whole.windows, whole.mid_returns)
    starts = {"volume_d": 0, "timescales_d": -10}
    out: dict[str, dict[str, list[float | None]]] = {}
    for name in LINES:
        pool = pools[name]
        interval = cluster_interval(pool.curve, pool.clusters)
        value = pool.curve()[0]
        x = starts.get(name, 1) + np.arange(len(value))
        columns = (x.astype(float), value, interval.low, interval.high)
        out[name] = {k: v.tolist() for k, v in zip(("x", "value", "low", "high"), columns, strict=True)}
    return out


def _tails(whole: Sessions) -> dict[str, list[float | None]]:
    shares = {}
    for i, name in enumerate(whole.names):
        r = whole.windows.returns[whole.windows.instrument == i]
        r = np.sort(np.abs(r[np.isfinite(r)]))
        spread = np.sqrt(np.mean(r * r)) if len(r) else np.nan
        shares[name] = 1 - np.searchsorted(r, TAIL_EDGES * spread) / max(len(r), 1)
    return {ALL: np.mean(list(shares.values()), axis=0).tolist()} | {k: v.tolist() for k, v in shares.items()}


def _impact(points: Sequence[DayImpacts]) -> dict[str, dict[str, Any]]:
    whole = join_impacts(points)
    parts = {ALL: whole} | {name: whole.of(i) for i, name in enumerate(whole.instruments)}
    return {name: _impact_of(part) for name, part in parts.items()}


def _impact_of(part: Impacts) -> dict[str, Any]:
    law = fit_power_law(part)
    value, interval, behind = decay(part)
    return {
        "n": len(part.size),
        "days": part.days,
        "delta": [law.delta, law.delta_low, law.delta_high] if law else [None, None, None],
        "prefactor": law.prefactor.tolist() if law else [],
        "decades": law.decades if law else None,
        "aic_less_linear": law.aic_less_linear if law else None,
        "aic_less_logarithm": law.aic_less_logarithm if law else None,
        "verdict": law.verdict if law else verdicts.INCONCLUSIVE,
        "bins": {k: v.tolist() for k, v in binned(part).items()},
        "path": {
            "x": list(PATH),
            "value": value.tolist(),
            "low": interval.low.tolist(),
            "high": interval.high.tolist(),
            "n": behind,
        },
    }


def _blocks(
    days: Sequence[tuple[str, str]], insides: Sequence[Microstructure], series: Sequence[DaySeries]
) -> list[dict[str, Any]]:
    """Stability of each instrument over blocks of ``BLOCK_DAYS`` days."""
    out = []
    for name in dict.fromkeys(i for i, _ in days):
        mine = [k for k, d in enumerate(days) if d[0] == name]
        for first in range(0, len(mine), BLOCK_DAYS):
            block = mine[first : first + BLOCK_DAYS]
            part = [insides[k] for k in block]
            price = np.concatenate([series[k].last_ticks for k in block])
            price = price[np.isfinite(price)]
            out.append(
                {
                    "instrument": name,
                    "first": days[block[0]][1],
                    "last": days[block[-1]][1],
                    "days": len(block),
                    "sd_1min_bp": float(np.mean([p.sd_1min_bp for p in part])),
                    "orders_per_min": float(np.mean([p.orders_per_min for p in part])),
                    "worst_mean_spread_ticks": float(max(p.spread_mean_ticks for p in part)),
                    "worst_spread_ticks": float(max(p.spread_max_ticks for p in part)),
                    "price_range": float(price.max() / price.min()) if len(price) else None,
                    "days_without_trade": sum(p.minutes_without_trade == 1 for p in part),
                    "days_one_sided": sum(p.one_sided_share > 0 for p in part),
                    "days_empty": sum(p.empty_share > 0 for p in part),
                    "days_crossed": sum(p.crossed_share > 0 for p in part),
                }
            )
    return out


def _prices(series: Sequence[DaySeries]) -> list[float | None]:
    points = np.concatenate([s.last_ticks[::PRICE_MINUTES] for s in series])
    known = points[np.isfinite(points)]
    return (points / known[0]).tolist() if len(known) else []
