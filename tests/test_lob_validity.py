"""The gate for message sequences finds every fault by its name, and lets real ones through, whatever they are like."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lob_arrays import evidence, sequence, write_folder
from marsbench import cli
from marsbench.lob_sequences import LobSequences
from marsbench.ranking import Verdict, invalid
from marsbench.scores import Score
from marsbench.stats.lob_bench import ADD, DELETE, PARTIAL, LobSequence

Change = Callable[[LobSequence], LobSequence]


def _cancels(s: LobSequence) -> np.ndarray:
    return np.isin(s.event, (PARTIAL, DELETE))


def _book(s: LobSequence, column: int, values: np.ndarray | float) -> LobSequence:
    book = s.book.copy()
    book[:, :, column] = values
    return replace(s, book=book)


def _wall(s: LobSequence) -> LobSequence:
    book = s.book.copy()
    book[-1, 3, 1] = 100_000
    return replace(s, book=book)


def _runaway(s: LobSequence) -> LobSequence:
    book = s.book.copy()
    book[:, :, ::2] += 1e4 * np.arange(len(s))[:, None, None]
    price = s.price + 10_000 * np.concatenate([[0], np.arange(len(s) - 1)])
    return replace(s, book=book, price=price)


def _one_small_order(s: LobSequence) -> LobSequence:
    """All cancels name an order of one share, which came first."""
    event, number, size = s.event.copy(), np.where(_cancels(s), 7_777, s.order_id), s.size.copy()
    event[0], number[0], size[0] = ADD, 7_777, 1
    return replace(s, event=event, order_id=number, size=size)


CASES: dict[str, tuple[Change, set[str]]] = {
    "crossed": (lambda s: replace(s, book=s.book[:, :, [2, 1, 0, 3]]), {"crossed"}),
    "locked": (lambda s: _book(s, 2, s.book[:, :, 0]), {"locked"}),
    "one-sided": (lambda s: _book(s, 2, np.nan), {"one_sided", "orphan_cancels", "frozen"}),
    "time back": (lambda s: replace(s, time_ns=s.time_ns[::-1].copy()), {"time_back"}),
    "no sizes": (lambda s: replace(s, size=np.zeros_like(s.size)), {"bad_size", "orphan_cancels"}),
    "negative levels": (lambda s: _book(s, 3, -5), {"bad_size"}),
    "cancels between the levels": (
        lambda s: replace(s, price=np.where(_cancels(s), s.price + 50, s.price)),
        {"orphan_cancels"},
    ),
    "cancels of what is gone": (_one_small_order, {"orphan_cancels"}),
    "walls": (_wall, {"walls"}),
    "runs away": (_runaway, {"drift"}),
    "never cancels": (lambda s: replace(s, event=np.where(_cancels(s), ADD, s.event)), {"cancel_gap"}),
    "still": (lambda s: replace(s, book=np.repeat(s.book[:1], len(s), axis=0)), {"frozen", "orphan_cancels"}),
    "empty": (lambda s: s.part(0, 0), {"empty"}),
}


def copies(change: Change | None = None) -> LobSequences:
    """Real sequences as what was generated, changed or not."""
    found = evidence(np.random.default_rng(0), 12)
    return replace(
        found, pairs=tuple(replace(p, generated=(change(p.real) if change else p.real,)) for p in found.pairs)
    )


def broken(found: LobSequences) -> set[str]:
    scores = {s.key: s for s in found.validity()}
    return {sentence.split(" is ")[0].removeprefix("validity.lob_") for sentence in invalid(scores)}


@pytest.mark.parametrize("name", CASES)
def test_every_fault_of_sequences_is_found_by_its_own_name(name: str) -> None:
    change, wanted = CASES[name]
    assert broken(copies(change)) == wanted


@pytest.mark.parametrize("name", CASES)
def test_real_sequences_pass_as_copies_of_themselves_whatever_they_are_like(name: str) -> None:
    changed = copies(CASES[name][0])
    same = replace(changed, pairs=tuple(replace(p, real=p.generated[0]) for p in changed.pairs))
    assert broken(same) == set()


def test_cancels_of_nothing_are_told_from_cancels_of_what_is_not_shown() -> None:
    level = [1100.0, 5, 1000.0, 5, 1200.0, 5, 900.0, 5]  # two asks, two bids
    rows = [
        (1.0, 1, 1, 5, 1000, 1),
        (1.1, 2, 1, 2, 1000, 1),
        (1.2, 3, 1, 3, 1000, 1),
        (1.3, 3, 1, 3, 1000, 1),  # gone
        (1.4, 3, 9, 5, 1200, -1),  # never seen, but its level is shown
        (1.5, 3, 9, 5, 1200, -1),  # of unknown size: a part of it may be left
        (1.6, 3, 10, 5, 1150, -1),  # nothing at 1150
        (1.7, 3, 11, 5, 1050, -1),  # nothing before the best ask
        (1.8, 3, 12, 5, 1300, -1),  # deeper than what is shown
        (1.9, 3, 13, 5, 800, 1),  # deeper than what is shown
        (2.0, 3, 14, 5, 1100, 1),  # no bid at 1100
    ]
    found = evidence(np.random.default_rng(0), 1, n=20)
    made = sequence(rows, [level] * len(rows))
    [score] = (
        s
        for s in replace(found, pairs=(replace(found.pairs[0], generated=(made,)),)).validity()
        if s.key == "validity.lob_orphan_cancels"
    )
    assert (score.value, score.n) == (4 / 10, 10)


def test_a_side_that_is_shown_whole_hides_nothing() -> None:
    level = [1100.0, 5, 1000.0, 5, np.nan, 0, 900.0, 5]  # one ask, no more
    made = sequence([(1.0, 1, 1, 5, 1000, 1), (1.1, 3, 9, 5, 1300, -1)], [level] * 2)
    found = evidence(np.random.default_rng(0), 1, n=20)
    pairs = (replace(found.pairs[0], generated=(made,)),)
    [score] = (s for s in replace(found, pairs=pairs).validity() if s.key == "validity.lob_orphan_cancels")
    assert score.value == 1


def test_what_simulations_show_beyond_their_rows_is_judged_too() -> None:
    refused = Score("validity.rejected", 0.9, "validity", "lower", floor=0.05)
    assert refused in replace(copies(), simulations=(refused,)).validity()


# The verdict of the command line


def scored(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object], str]:
    """Exit code, JSON and text of ``marsbench score``."""
    code = cli.main(["score", f"files:{folder}", "--task", "lob-bench", "--json"])
    (one,) = json.loads(capsys.readouterr().out)
    assert cli.main(["score", f"files:{folder}", "--task", "lob-bench"]) == code
    return code, one, capsys.readouterr().out


def few(change: Change) -> LobSequences:
    found = evidence(np.random.default_rng(0), 4, n=60)
    return replace(found, pairs=tuple(replace(p, generated=(change(p.real),)) for p in found.pairs))


def test_a_folder_that_passes_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, one, text = scored(write_folder(few(lambda s: s), tmp_path), capsys)
    assert (code, one["status"]) == (0, "done")
    assert one["validity"] == {"verdict": "PASS", "limits": 11, "reasons": []}
    assert "validity: PASS (11 limits)" in text


def test_a_folder_that_breaks_a_limit_is_scored_and_fails_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, one, text = scored(write_folder(few(_wall), tmp_path), capsys)
    assert (code, one["status"], one["reason"]) == (0, "done", None)
    assert one["validity"]["verdict"] == "FAIL"  # type: ignore[index]
    assert "validity: FAIL (11 limits)\n  validity.lob_walls is 1, above the limit 0.1" in text


@pytest.mark.parametrize("side", ["data_real", "data_gen"])
def test_a_folder_without_anything_to_compare_has_failed(
    tmp_path: Path, side: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(few(lambda s: s), tmp_path)
    for path in (folder / side).iterdir():
        path.write_text("")
    code, one, text = scored(folder, capsys)
    why = f"none of the 4 {'real' if side == 'data_real' else 'generated'} sequences holds a message"
    assert (code, one["status"], one["reason"]) == (1, "failed", why)
    assert one["validity"]["verdict"] == "FAIL"  # type: ignore[index]
    assert why in text


def test_a_verdict_without_limits_is_none() -> None:
    assert Verdict.of({}) is None
    assert str(Verdict.of({}, "nothing there")) == "validity: FAIL (0 limits)\n  nothing there"
