"""How the rules of ``hawkes`` for its book were chosen, on training hours alone: every rule beside what happened.

    python tests/hawkes_book_rules.py -o results/hawkes-book-rules.md

Fitted on the first four fifths of training (of many days: the latest three), the market is simulated for 20 minutes
from books of what is left of training (of many days: of the last two days of validation) and held against what happened
there. Test periods are never simulated or looked at. What counts: the absolute logarithm of simulated over real, no
ratio above 10 or below 1/10, averaged over nine quantities (limit orders, orders that trade, cancels and far cancels
per minute; spread, volume at the touch and behind it, means over time; standard deviations of returns over one and five
minutes), then over instruments, then over data sets. The smallest wins.

The criterion and the rules for the book and for far cancels were fixed before any of it was run. Then it was seen why
GOOG traded 2.5 times too often: an order that trades was sent with a size of training whatever the book had for it, and
what did not trade rested inside the spread, although 99% of training's leave nothing; spreads became narrow, where
trades are frequent. Two mends were tried and the other rules compared with the second, one at a time. The first mend
scores as well or better, but on a market of known law (``tests/generators/test_hawkes_flow.py``) orders inside the
spread came a fifth too often with it and one-minute returns spread 40% too much, against 5% to 9% with the second,
which was therefore taken. Far cancels in part had taken 129 shares instead of 190 there, so that volume grew, and with
it their rate. With other random numbers scores move by .02, differences between the mends by .015, between the rules
for far cancels by .005. Far cancels at a distance drawn from training were not told apart from whole ones and are left
out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marsbench.data.catalogue import Dataset, list_datasets, open_dataset
from marsbench.files import markdown_table, write_atomic
from marsbench.fitting import latest_days
from marsbench.generators.hawkes import HawkesFlow
from marsbench.generators.hawkes.events import CLASSES, Class, Tape
from marsbench.generators.hawkes.factors import Factors
from marsbench.generators.hawkes.fitting import Model, atoms_of, calibrate
from marsbench.generators.hawkes.session import HawkesSession
from marsbench.market.bars import minute_bars
from marsbench.market.clearing_house import BookView
from marsbench.market.orders import Flag
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE
from marsbench.market.trajectory import Trajectory
from marsbench.questions import clocks_within
from marsbench.simulation.contracts import NEVER, Rows, Start
from marsbench.simulation.rollout import simulate

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
DATASETS = ("reference", "goog-2012-06-21", "600519-2023-02-07", "600536-2023-07-11")
MINUTES, ROWS, FIT_DAYS, START_DAYS = 20, 32, 3, 2
EARLY = 0.8
"""So much of training is fitted where there is a single day."""
MOST_EVENTS = 5
"""A row stops after so many times the events of the busiest real window."""
MOST_RATIO = 10.0
QUANTITIES = (
    "limit orders", "trades", "cancels", "far cancels", "spread", "at the touch", "behind it", "1 minute", "5 minutes",
)  # fmt: skip
"""Of orders and cancels the number per minute, of the book ticks and shares (means over time), of returns the standard
deviation."""


@dataclass(frozen=True)
class Rule:
    """What a book makes of an event of the process."""

    words: str
    factors: bool = True
    """Types are drawn by intensity times factors of the book; otherwise by intensity among the possible ones."""
    redraw: bool = True
    """Else what is not possible does not happen."""
    excites: str = "meant"
    """As the type that was ``"meant"``, or that ``"happened"`` (nothing excites nothing)."""
    trades: str = "met"
    """An order that trades is one of training's, whatever that met, sent again (``"sent"``: what does not trade rests
    unless it is immediate-or-cancel); leaves what that left (``"left"``); or is, besides, one that met about the same
    volume (``"met"``)."""
    far: str = "part"
    """A far cancel takes at most a size of training (``"part"``) or its order ``"whole"``."""


FIRST = Rule("as it was: factors, excites as meant, trades as sent, far cancels in part", trades="sent")
LEFT = Rule("trades leave what training's left; else as it was", trades="left")
MET = Rule("trades, besides, are of training's that met about the same volume; else as it was")
BOOK = (
    Rule("excites as what happens", excites="happened"),
    Rule("no factors, impossible drawn again", factors=False),
    Rule("no factors, impossible drawn again, excites as what happens", factors=False, excites="happened"),
    Rule("no factors, impossible left out, excites all the same", factors=False, redraw=False),
    Rule("no factors, impossible left out, excites nothing", factors=False, redraw=False, excites="happened"),
)
CHOSEN = Rule("far cancels whole", far="whole")


class RuledSession(HawkesSession):
    """A session under another rule."""

    def __init__(self, made: HawkesSession, starts: Sequence[Start], rule: Rule, most: int) -> None:
        excited = made.excited[:: len(made.kind) // len(starts)]
        super().__init__(made.tables, made.kind, made.streams, starts, excited)
        self.rule, self.most = rule, most

    def propose(self, rows: Rows, book: BookView) -> Ints:
        return np.where(self.index[rows] < self.most, super().propose(rows, book), NEVER)

    def _drawn(self, rows: Rows, book: BookView, draws: Floats) -> tuple[Ints, Ints, Ints]:
        meant, types, marks = super()._drawn(rows, book, draws)
        if not self.rule.redraw:
            types = np.where(types == meant, types, -1)
        if self.rule.trades != "met":
            trades, atoms = np.flatnonzero(types % CLASSES == Class.MARKET), self.tables.atoms
            at = (draws[trades, 3] * atoms.shape[2]).astype(np.int64)
            marks[trades] = atoms[self.kind[rows[trades]], types[trades], at, 1:]
        return (meant if self.rule.excites == "meant" else types), types, marks

    def _excite(self, rows: Rows, types: Ints) -> None:
        super()._excite(rows[types >= 0], types[types >= 0])

    def _trades(self, out: Any, book: BookView, pick: Ints, rest: Ints) -> None:
        if self.rule.trades == "sent":
            out["flags"][pick] = np.where(rest[pick] > 0, 0, Flag.IOC)
        else:
            super()._trades(out, book, pick, rest)

    def _cancels(self, out: Any, rows: Rows, book: BookView, pick: Ints, types: Ints, *rest: Any) -> None:
        drawn = out["size_shares"][pick]
        super()._cancels(out, rows, book, pick, types, *rest)
        part = (types[pick] % CLASSES == Class.CANCEL_FAR) & (self.rule.far == "part")
        out["size_shares"][pick] = np.where(part, np.minimum(drawn, out["size_shares"][pick]), out["size_shares"][pick])


class Ruled(HawkesFlow):
    """``hawkes`` under another rule."""

    def __init__(self, models: Mapping[str, Model], rule: Rule, most: int) -> None:
        super().__init__()
        self.rule, self.most = rule, most
        self.publish({name: m if rule.factors else replace(m, factors=_ones(m.factors)) for name, m in models.items()})

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> RuledSession:
        made: Any = super().open(starts, rollouts, key=key, control=control)
        return RuledSession(made, starts, self.rule, self.most)


def _ones(factors: Factors) -> Factors:
    ones = np.ones_like(factors.by_spread)
    return replace(factors, by_spread=ones, by_volume=ones)


@dataclass(frozen=True)
class Case:
    """Models of a data set, books to start from, and what happened after each."""

    models: Mapping[str, Model]
    sent: Mapping[str, Model]
    """They, with orders that trade marked by whether they can rest instead of by what of them did."""
    starts: Sequence[Start]
    real: Sequence[Trajectory]


def case_of(dataset: Dataset) -> Case:
    """Everything there is to know before the test periods."""
    train, later = dataset.split("train"), dataset.split("validation")
    if later:
        fitted = [dataset.trajectory(p) for p in latest_days(train, FIT_DAYS)]
        later, places = latest_days(later, START_DAYS), (0.25, 0.75)
    else:
        (whole,) = train
        cut_ns = whole.start_ns + int(EARLY * (whole.end_ns - whole.start_ns)) // MINUTE * MINUTE
        fitted = [dataset.trajectory(replace(whole, end_ns=cut_ns))]
        later, places = [replace(whole, start_ns=cut_ns)], (0.0, 1.0)
    starts, real = [], []
    for period in later:
        clocks = clocks_within(dataset.rules(period), period.start_ns, period.end_ns, MINUTES)
        for clock_ns in (int(clocks[int(place * (len(clocks) - 1))]) for place in places):
            after = dataset.window(period.instrument, period.date, clock_ns, clock_ns + MINUTES * MINUTE)
            history = dataset.history(period.instrument, period.date, clock_ns)
            starts.append(Start(period.instrument, period.date, after.rules, clock_ns, after.book, history))
            real.append(after)
    names = sorted({t.instrument for t in fitted})
    settings = HawkesFlow().settings
    models = {name: calibrate([t for t in fitted if t.instrument == name], settings) for name in names}
    sent = {name: _as_sent(m, [t for t in fitted if t.instrument == name]) for name, m in models.items()}
    return Case(models, sent, starts, real)


def _as_sent(model: Model, periods: Sequence[Trajectory]) -> Model:
    tapes = [Tape.of(t) for t in periods]
    flow = {name: np.concatenate([t.columns[name] for t in tapes]) for name in tapes[0].columns}
    return replace(model, atoms=atoms_of({**flow, "traded_shares": flow["size_shares"] - 1}, model.near_ticks)[0])


def measured(runs: Sequence[Trajectory], near_ticks: int) -> Floats:
    """The quantities of some windows, ``[9]``."""
    counts, book, one, five = np.zeros(CLASSES), [], [], []
    for run in runs:
        counts += np.bincount(Tape.of(run).types(near_ticks) % CLASSES, minlength=CLASSES)
        done, bars = replay_trajectory(run, levels=1), minute_bars(run)
        assert done.snapshots is not None
        assert done.totals is not None
        held = np.diff(np.concatenate([[run.start_ns], run.orders["time_ns"], [run.end_ns]])).astype(np.float64)
        ask, bid = done.snapshots.best()
        both, touch = done.snapshots.two_sided, done.snapshots.size_shares[:, :, 0].mean(axis=1)
        behind = done.totals[:, :, 1].mean(axis=1) - touch
        spread = np.average(ask - bid, weights=held * both) if (held * both).any() else np.nan
        book.append([spread, np.average(touch, weights=held), np.average(behind, weights=held)])
        one.append(bars.mid_returns(1))
        five.append(bars.mid_returns(5))
    kinds = [counts[: Class.MARKET].sum(), counts[Class.MARKET], counts[Class.MARKET + 1 :].sum()]
    rates = np.array([*kinds, counts[Class.CANCEL_FAR]]) / (MINUTES * len(runs))
    return np.concatenate([rates, np.nanmean(book, axis=0), [np.nanstd(one), np.nanstd(five)]])


def ratios(case: Case, rule: Rule) -> Floats:
    """Simulated over real, ``[instruments, 9]``."""
    most = MOST_EVENTS * max(len(t.orders) for t in case.real)
    rollouts = max(ROWS // len(case.starts), 2)
    runs = simulate(
        Ruled(case.models if rule.trades != "sent" else case.sent, rule, most),
        case.starts,
        rollouts,
        MINUTES * MINUTE,
        key=1,
    )
    out = []
    for name, model in case.models.items():
        mine = [k for k, start in enumerate(case.starts) if start.instrument == name]
        made = measured([run for k in mine for run in runs[k]], model.near_ticks)
        out.append(made / measured([case.real[k] for k in mine], model.near_ticks))
    return np.clip(np.nan_to_num(np.array(out), nan=MOST_RATIO), 1 / MOST_RATIO, MOST_RATIO)


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """In Markdown."""
    return markdown_table(head, ([name, *(f"{v:.3g}" for v in values)] for name, values in rows))


def main() -> None:
    """Simulate, and print or write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="write the page there")
    options = parser.parse_args()
    known = [name for name in DATASETS if name in {info.name for info in list_datasets() if info.folder}]
    cases = {name: case_of(open_dataset(name)) for name in known}
    scores, pages = [], []
    for rule in (FIRST, LEFT, MET, *BOOK, CHOSEN):
        found = {name: np.log(ratios(case, rule)) for name, case in cases.items()}
        own = [float(np.abs(one).mean()) for one in found.values()]
        scores.append((rule.words, [float(np.mean(own)), *own]))
        if rule in (FIRST, LEFT, MET, CHOSEN):
            rows = [(name, np.exp(one.mean(axis=0)).tolist()) for name, one in found.items()]
            pages += [f"{rule.words.capitalize()}:", table(["simulated / real", *QUANTITIES], rows)]
    about = [" ".join(part.split()).replace("``", "`") for part in (__doc__ or "").split("\n\n")[2:]]
    missing = sorted(set(DATASETS) - set(known))
    left_out = [f"Left out, since they are not there: {', '.join(missing)}."] if missing else []
    page = [
        "# The rules of `hawkes` for its book, on training hours", *about, *left_out,
        table(["rule", "all", *known], scores), "The same by quantity, geometric means over instruments.", *pages,
        "Made by `python tests/hawkes_book_rules.py -o results/hawkes-book-rules.md`.",
    ]  # fmt: skip
    text = "\n\n".join(page) + "\n"
    if options.output is None:
        print(text)
    else:
        print(write_atomic(options.output, text))


if __name__ == "__main__":
    main()
