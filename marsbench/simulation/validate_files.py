"""What ``marsbench validate`` says of simulations that were made elsewhere: nobody can ask them to trade, so
only what they hold is checked, for every start of the task.
"""

from __future__ import annotations

from collections.abc import Sequence

from marsbench.market.books import BookSeries, Market
from marsbench.market.rules import MINUTE
from marsbench.simulation.contracts import Start, TrajectoryGenerator
from marsbench.simulation.validate import Check, Validation
from marsbench.validity import MOST_CROSSED, book_faults

_BOOKS_ONLY = (
    "book snapshots alone, {books:,} in all: {scored} scored; volatility, order sizes, aggressive and buy ratio (no "
    "orders) and the stylized facts (no trades) are not applicable{more}"
)


def validate_files(generator: TrajectoryGenerator, starts: Sequence[Start], *, minutes: int = 25) -> Validation:
    """Read every simulation of every start as a run would.

    Checks: every start has simulations; each can be read and covers the task's minutes; books that come
    without orders are hardly ever crossed or locked. Says which scores they can have.
    """
    found: dict[str, list[Market]] = {}
    problems: list[str] = []
    for start in starts:
        try:
            found[start.name] = list(generator.trajectories(start, minutes * MINUTE))
        except ValueError as error:
            problems.append(str(error))
            found[start.name] = []
    missing = [name for name, many in found.items() if not many]
    readable = [market for many in found.values() for market in many]
    checks = [_covered(missing, found, len(problems)), _readable(problems, minutes)]
    if readable:
        checks += _contents(readable)
    return Validation(generator.name, tuple(checks))


def _covered(missing: Sequence[str], found: dict[str, list[Market]], unreadable: int) -> Check:
    if missing:
        text = f"{len(missing)} of {len(found)} have none, first {missing[0]}"
        return Check("every start has simulations", False, text + (f" ({unreadable} unreadable)" * bool(unreadable)))
    counts = sorted(map(len, found.values()))
    many = str(counts[0]) if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}, of which {counts[0]} are used"
    return Check("every start has simulations", True, f"{len(found)} starts, {many} each")


def _readable(problems: Sequence[str], minutes: int) -> Check:
    name = f"every simulation can be read and covers {minutes} minutes"
    return Check(name, not problems, f"{len(problems)} starts fail, first {problems[0]}" if problems else "they do")


def _contents(many: Sequence[Market]) -> list[Check]:
    real = sum(bool(market.labels.get("starts_from_real_book", True)) for market in many)
    checks = [Check("starting books", True, f"{real} of {len(many)} start from the real book")]
    series = [market for market in many if isinstance(market, BookSeries)]
    if not series:
        orders = sum(market.n_orders or 0 for market in many)
        return [*checks, Check("what they hold", True, f"{orders:,} orders: everything is scored")]
    shares = book_faults(series)
    named = ", ".join(f"{name.replace('_', '-')} {share:.2%}" for name, share in shares.items())
    fine = max(shares["crossed"], shares["locked"]) <= MOST_CROSSED
    limit = f"books are crossed or locked for at most {MOST_CROSSED:.0%} of the time"
    return [*checks, Check(limit, fine, named), Check("what they hold", True, _what(series))]


def _what(series: Sequence[BookSeries]) -> str:
    coarse = next((one.lacks["spread_ticks"] for one in series if "spread_ticks" in one.lacks), None)
    return _BOOKS_ONLY.format(
        books=sum(len(one.time_ns) for one in series),
        scored="mid returns are" if coarse else "spread and mid returns are",
        more=f", nor is the spread: {coarse}" if coarse else "",
    )
