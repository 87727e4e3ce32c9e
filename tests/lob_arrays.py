"""Message sequences of our own making, and folders of them in LOB-Bench's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from marsbench.lob_sequences import LobPair, LobSequences
from marsbench.stats.lob_bench import SECOND, LobSequence
from marsbench.stats.lob_bench_oracles import random_sequence

Row = tuple[float, int, int, int, int, int]


def sequence(rows: Sequence[Row], books: Sequence[Sequence[float]]) -> LobSequence:
    """From rows (seconds, type, id, size, price, direction) and books (ask, size, bid, size of each level)."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    time = np.rint(table[:, 0] * SECOND).astype(np.int64)
    columns = [c.astype(np.int64) for c in table[:, 1:].T]
    return LobSequence(time, *columns, np.array(books, np.float64).reshape(len(table), -1, 4))


def evidence(
    rng: np.random.Generator, pairs: int = 20, generated: int = 1, n: int = 200, days: int = 2, **other: float
) -> LobSequences:
    """Pairs whose generated sequences differ from the real ones in ``other`` parameters."""
    made = []
    for k in range(pairs):
        day = f"X 2024-01-{1 + k * days // pairs:02d}"
        at = {"start_s": 36_000.0 + 60 * k}
        fake = tuple(random_sequence(rng, n, **{**at, **other}) for _ in range(generated))
        made.append(LobPair(f"{day} {k}", day, random_sequence(rng, n, **at), fake))
    return LobSequences(tuple(made))


def write(s: LobSequence, folder: Path, name: str) -> None:
    """A pair of LOBSTER files; ``name`` holds ``{}`` where message or orderbook stands."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = (s.event, s.order_id, s.size, s.price, s.direction)
    lines = [
        f"{t // SECOND}.{t % SECOND:09d}," + ",".join(str(int(c[i])) for c in columns) for i, t in enumerate(s.time_ns)
    ]
    (folder / name.format("message")).write_text("".join(line + "\n" for line in lines))
    absent = np.where(np.isnan(s.book), [9_999_999_999, 0, -9_999_999_999, 0], s.book).reshape(len(s), -1)
    rows = [",".join(str(int(x)) for x in row) for row in absent]
    (folder / name.format("orderbook")).write_text("".join(row + "\n" for row in rows))


def write_folder(found: LobSequences, folder: Path, *, conditioning: bool = True) -> Path:
    """The evidence in LOB-Bench's layout."""
    for k, pair in enumerate(found.pairs):
        head = f"{'_'.join(pair.day.split())}_{{}}_real_id_{k}"
        write(pair.real, folder / "data_real", head + ".csv")
        for g, each in enumerate(pair.generated):
            write(each, folder / "data_gen", f"{head}_gen_id_{g}.csv")
        if conditioning:
            before = pair.real.part(0, 10) if pair.conditioning is None else pair.conditioning
            write(before, folder / "data_cond", head + ".csv")
    return folder
