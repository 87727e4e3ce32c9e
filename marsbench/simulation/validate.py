"""The contract test that every session generator passes, built-in or not.

The same checks run in the tests over all built-in generators and from ``marsbench validate GEN``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from marsbench.market.orders import Kind as OrderKind
from marsbench.market.orders import Reason
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import MINUTE, SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.agents import far_orders, market_buyer, periodic
from marsbench.simulation.contracts import AgentFactory, SessionGenerator, Start
from marsbench.simulation.rollout import simulate

MAX_REJECTED = 0.05
"""Largest share of rejected messages that still passes."""
HARDLY = 0.25
"""Share by which orders far from the touch may change the number of events of a generator that reacts, besides six
standard deviations of a Poisson number: in a market that excites itself a single difference early on makes another
path of all that follows, and over a few minutes paths differ by that much. A clock that starts anew with each foreign
order loses nearly all of its events."""


@dataclass(frozen=True)
class Check:
    """One requirement and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Validation:
    """All checks of one generator."""

    generator: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(c.passed for c in self.checks)

    def to_dict(self) -> dict[str, Any]:
        return {"generator": self.generator, "passed": self.passed, "checks": [asdict(c) for c in self.checks]}

    def __str__(self) -> str:
        lines = [f"{'ok  ' if c.passed else 'FAIL'}  {c.name}: {c.found}" for c in self.checks]
        return "\n".join([*lines, f"{self.generator}: {'passed' if self.passed else 'FAILED'}"])


Runs = list[list[Trajectory]]


def _hashes(runs: Runs) -> list[str]:
    return [t.content_hash() for row in runs for t in row]


def validate(
    generator: SessionGenerator,
    starts: Sequence[Start],
    *,
    minutes: float = 5.0,
    rollouts: int = 2,
    key: int = 1,
) -> Validation:
    """Hold a loaded generator to the contract of sessions, on real starts.

    Checks: market events happen; times ascend and stay inside the period; messages are valid
    (rejections below 5%); replaying the orders gives the same fills; the same key gives the same
    trajectories and another key others; rollouts of a start differ unless the generator has no
    randomness at all; an agent that is silent changes nothing; orders far from the touch leave the
    event rate of a generator that does not react unchanged, and hardly change that of one that does;
    the generator survives a buyer who empties the ask side, whose trades are in the record.
    """
    horizon = int(minutes * MINUTE)

    def run(agents: Sequence[AgentFactory] = (), k: int = key) -> Runs:
        return simulate(generator, starts, rollouts, horizon, key=k, agents=agents)

    base = run()
    again, other = run(), run(k=key + 1)
    checks = [_something_happens(base), _times(base), _valid(base), _fills(base)]
    checks.append(_same("the same key gives the same trajectories", base, again, want=True))
    moved = _hashes(base) != _hashes(other)
    alike = all(len(set(_hashes([row]))) == 1 for row in base) and rollouts > 1
    found = "they differ" if moved else ("no randomness at all" if alike else "another key changes nothing")
    checks.append(Check("another key gives other trajectories", moved or alike, found))
    silent = run([periodic(SECOND // 4)])
    checks.append(_same("a silent agent leaves every trajectory as it is", base, silent, want=True))
    checks.append(_far(base, run([far_orders(SECOND // 4)]), reacts=generator.reacts))
    checks.append(_buyer(run, starts))
    return Validation(generator.name, tuple(checks))


def _something_happens(runs: Runs) -> Check:
    fewest = min(len(t.orders) for row in runs for t in row)
    return Check("every rollout has messages", fewest > 0, f"at least {fewest}")


def _times(runs: Runs) -> Check:
    bad = [
        repr(t)
        for row in runs
        for t in row
        if len(t.orders)
        and (
            (np.diff(t.orders["time_ns"]) < 0).any()
            or t.orders["time_ns"][0] < t.start_ns
            or t.orders["time_ns"][-1] > t.end_ns
        )
    ]
    return Check("times ascend inside the period", not bad, bad[0] if bad else "they do")


def _valid(runs: Runs) -> Check:
    many = [t for row in runs for t in row]
    reasons = sum(
        (np.bincount(replay_trajectory(t).reason, minlength=len(Reason)) for t in many), np.zeros(len(Reason), int)
    )
    rejected = int(reasons[1:].sum())
    share = rejected / max(int(reasons.sum()), 1)
    by = ", ".join(f"{Reason(i).name} {n}" for i, n in enumerate(reasons) if i and n)
    cancels = sum(int((t.orders["kind"] == OrderKind.CANCEL).sum()) for t in many) / max(int(reasons.sum()), 1)
    found = f"{share:.2%} rejected" + (f" ({by})" if by else "") + f", {cancels:.1%} cancels"
    return Check(f"less than {MAX_REJECTED:.0%} of the messages are rejected", share < MAX_REJECTED, found)


def _fills(runs: Runs) -> Check:
    wrong = sum(not np.array_equal(replay_trajectory(t).fills, t.fills) for row in runs for t in row)
    return Check("replaying the orders gives the same fills", wrong == 0, f"{wrong} rollouts differ")


def _same(name: str, one: Runs, two: Runs, *, want: bool) -> Check:
    differ = sum(a != b for a, b in zip(_hashes(one), _hashes(two), strict=True))
    return Check(name, (differ == 0) is want, f"{differ} of {len(_hashes(one))} differ")


def _far(base: Runs, far: Runs, *, reacts: bool) -> Check:
    def market(runs: Runs) -> int:
        return sum(int((t.orders["owner"] == 0).sum()) for row in runs for t in row)

    before, after = market(base), market(far)
    if reacts:
        near = abs(after - before) <= HARDLY * before + 6 * np.sqrt(before + 1)
        return Check(
            "orders far from the touch hardly change the event rate", bool(near), f"{before} -> {after} messages"
        )
    return Check(
        "orders far from the touch leave the event rate unchanged", before == after, f"{before} -> {after} messages"
    )


def _buyer(run: Callable[[Sequence[AgentFactory]], Runs], starts: Sequence[Start]) -> Check:
    asks = [
        s.book.resting["size_shares"][s.book.resting["kind"] == OrderKind.ASK].astype(np.int64).sum() for s in starts
    ]
    lot = starts[0].rules.lot_shares
    size = max(int(min(max(asks), 1_000_000_000) // lot * lot), lot)
    runs = run([market_buyer(size)])
    bought = [int(t.fills["size_shares"][t.fills["bid_owner"] == 1].sum()) for row in runs for t in row]
    after = [
        int((t.orders["time_ns"][t.orders["owner"] == 0] > t.orders["time_ns"][t.orders["owner"] == 1].min()).sum())
        for row in runs
        for t in row
        if (t.orders["owner"] == 1).any()
    ]
    ok = min(bought) > 0 and len(after) == len(bought) and min(after) > 0
    return Check(
        "a buyer who empties the ask side trades and the market goes on",
        ok,
        f"bought at least {min(bought)} shares, at least {min(after, default=0)} market messages after",
    )
