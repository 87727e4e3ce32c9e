"""Soak test: millions of random messages through the compiled book and its slow twin.

    python tests/soak.py --messages 10000000 --seed 0

Messages come in chunks, each a market of its own with random rules, sessions and starting book,
drawn densely around a price (``tests/market/strategies.py``). Everything is compared: reasons,
ids, traded and cancelled shares, fills, final books and sampled snapshots. The first difference
ends the run with exit status 1 and leaves the chunk's seed; ``--chunk-seed`` repeats that chunk.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent / "market"))

from slow_book import ASK, BID, SlowBook, difference, play
from strategies import CENTERS, INT32, compose, random_drafts

from marsbench.market.orders import ORDER, Kind, Reason
from marsbench.market.replay import replay
from marsbench.market.rules import CircuitBreaker, MatchingRules, Phase, PhaseKind, SelfTrade, Tie
from marsbench.market.trajectory import BookState


def random_rules(rng: np.random.Generator, length_ns: int) -> MatchingRules:
    """Any rules; the phases together last about ``length_ns``. Some have an auction every few messages."""
    phases, end = [], 0
    often = rng.random() < 0.2
    count = min(length_ns // 5, 300) if often else int(rng.integers(1, 7))
    count, auctions = max(count, 1), 0.7 if often else 0.3
    for _ in range(count):
        start = end + int(rng.choice([0, 0, length_ns // (20 * count)]))
        end = start + int(rng.integers(1, 3 * length_ns // count + 2))
        no_cancel = int(rng.integers(start, end + 1)) if rng.random() < 0.3 else None
        kind = PhaseKind.AUCTION if rng.random() < auctions else PhaseKind.CONTINUOUS
        phases.append(Phase(start, end, kind, no_cancel))
    thresholds = np.sort(rng.choice([0.001, 0.002, 0.003, 0.005, 0.01, 0.05], int(rng.integers(0, 5))))
    return MatchingRules(
        name="random",
        phases=tuple(phases),
        price_step_ticks=int(rng.choice([1, 1, 2, 5])),
        lot_shares=int(rng.choice([1, 1, 2, 100])),
        odd_lot_asks=bool(rng.random() < 0.5),
        price_limit=float(rng.choice([0.0, 0.0, 0.003, 0.1])),
        tie=Tie(int(rng.integers(2))),
        circuit_breakers=tuple(
            CircuitBreaker(float(t), int(rng.choice([0, 1, 10, length_ns // 20]))) for t in thresholds
        ),
        self_trade=SelfTrade(int(rng.integers(3))),
    )


def random_state(rng: np.random.Generator, center: int, spread: int) -> BookState:
    """A starting book of up to 2,000 orders, sometimes crossed."""
    n = int(rng.choice([0, 20, 2000]))
    side = rng.integers(0, 2, n)
    away = rng.integers(1, spread + 1, n) * np.where(side == ASK, 1, -1)
    if rng.random() < 0.3:
        away = rng.integers(-spread, spread + 1, n)
    rows = np.zeros(n, ORDER)
    rows["order_id"] = rng.permutation(2 * n)[:n] + 1
    rows["price_ticks"] = np.clip(center + away, INT32.min + 1, INT32.max)
    rows["size_shares"] = rng.integers(1, 100, n)
    rows["owner"] = rng.choice([0, 0, 0, 1, 2, 3], n)
    rows["kind"] = np.where(side == ASK, ASK, BID)
    return BookState(
        resting=rows,
        last_trade_ticks=int(rng.choice([0, max(center, 0)])),
        reference_ticks=int(rng.choice([0, max(center, 0), max(center, 0)])),
        next_id=int(rng.integers(1, 3 * n + 2)),
        time_ns=int(rng.integers(0, 100)),
    )


def check_chunk(seed: int, messages: int, counts: dict[str, Counter]) -> str | None:
    """Replay one random market in both books; the first difference in words, or None."""
    rng = np.random.default_rng(seed)
    rules = random_rules(rng, messages)
    center, spread = int(rng.choice(CENTERS)), int(rng.choice([3, 10, 100, 5000]))
    state = random_state(rng, center, spread)
    news, odd = float(rng.choice([0.45, 0.55, 0.7, 0.95])), float(rng.choice([0.002, 0.02, 0.1]))
    end_ns = int(rng.choice([0, messages // 2, 10 * messages]))
    levels = int(rng.integers(1, 13))
    sampled = frozenset(rng.integers(0, messages + 1, 500).tolist()) | {messages}

    book, record = SlowBook(rules, state), []
    drafts = random_drafts(rng, messages, spread=spread, news=news, odd=odd)
    stream = compose(book, drafts, center, record)
    slow = play(book, stream, levels=levels, end_ns=end_ns, snapshots_at=sampled)
    orders = np.array(record, ORDER)
    fast = replay(rules, state, orders, levels=levels, end_ns=end_ns)

    counts["reasons"].update(Reason(int(r)).name for r in slow.reason)
    counts["kinds"].update(Kind(int(k)).name if k in (0, 1, 2) else "unknown" for k in orders["kind"])
    counts["phases"].update(phase_names(rules, orders["time_ns"]))
    counts["fills by aggressor"].update(("ASK", "BID", "auction or halt")[side] for side in slow.fills["side"])
    counts["chunks"].update({"all": 1, "halted": int(book.breakers_used > 0), "sampled snapshots": len(sampled)})
    counts["live orders at the end"].update({"sum": len(slow.final.resting)})
    return difference(slow, fast)


def phase_names(rules: MatchingRules, time_ns: np.ndarray) -> dict[str, int]:
    """How many times fall into each kind of phase."""
    inside = {
        kind.name: sum(
            int(np.sum((p.start_ns <= time_ns) & (time_ns < p.end_ns))) for p in rules.phases if p.kind == kind
        )
        for kind in PhaseKind
    }
    return {**inside, "closed": len(time_ns) - sum(inside.values())}


def main() -> int:
    parser = argparse.ArgumentParser(description="Random messages through the compiled book and its slow twin.")
    parser.add_argument("--messages", type=int, default=10_000_000, help="how many in all (default %(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes, whatever was done until then")
    parser.add_argument(
        "--seed", type=int, default=0, help="chunk i has its seed from this and i (default %(default)s)"
    )
    parser.add_argument("--chunk", type=int, default=100_000, help="messages per large chunk (default %(default)s)")
    parser.add_argument("--chunk-seed", type=int, help="repeat the one chunk of this seed, of --chunk messages")
    options = parser.parse_args()
    if options.messages < 1 or options.chunk < 1:
        parser.error("--messages and --chunk must be positive")

    counts: dict[str, Counter] = {
        name: Counter()
        for name in ("reasons", "kinds", "phases", "fills by aggressor", "chunks", "live orders at the end")
    }
    begin, done, chunk = time.monotonic(), 0, 0
    with tqdm(total=options.messages, unit="message", unit_scale=True, disable=None) as bar:
        while done < options.messages:
            if options.minutes is not None and time.monotonic() - begin > 60 * options.minutes:
                break
            # In large chunks books grow deep; small ones give many different rules, starts and halts.
            size = options.chunk if chunk % 100 in (20, 50, 80) else max(options.chunk // 50, 1)
            size = min(size, options.messages - done)
            seed = int(np.random.SeedSequence([options.seed, chunk]).generate_state(1)[0])
            if options.chunk_seed is not None:
                seed, size = options.chunk_seed, options.chunk
            problem = check_chunk(seed, size, counts)
            if problem is not None:
                bar.close()
                print(f"DIFFERENCE in chunk {chunk} (repeat: --chunk-seed {seed} --chunk {size}): {problem}")
                return 1
            done, chunk = done + size, chunk + 1
            bar.update(size)
            if options.chunk_seed is not None:
                break
    seconds = time.monotonic() - begin
    print(f"{done:,} messages in {chunk:,} chunks, {seconds:,.0f} s ({done / seconds:,.0f} messages/s): no difference")
    print(json.dumps({name: dict(sorted(counter.items())) for name, counter in counts.items()}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
