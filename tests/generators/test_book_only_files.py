"""``files:DIR`` with book snapshots alone: scored where a book is enough, not applicable elsewhere, never flattered."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from markets import known_generator, start_at, two_days
from marsbench import registry, results, runner
from marsbench.data.book_export import write
from marsbench.data.dataset import Period, write_dataset
from marsbench.data.export import to_books, to_lobster
from marsbench.evidence import Metric, TrajectoryPairs
from marsbench.experiment import score
from marsbench.leaderboard import NOT_APPLICABLE, build
from marsbench.leaderboard_text import to_markdown, to_table
from marsbench.market.bars import minute_bars
from marsbench.market.books import BookSeries, book_bars, books_of, sample_books
from marsbench.market.replay import cut
from marsbench.market.rules import MINUTE, SECOND
from marsbench.market.snapshots import Snapshots
from marsbench.market.trajectory import Trajectory, save
from marsbench.page import to_html
from marsbench.scores import Outcome, Score
from marsbench.simulation.contracts import Start
from marsbench.simulation.rollout import simulate
from marsbench.simulation.validate_files import validate_files

HORIZON = 10 * MINUTE
TASK = "realism,minutes=10,single_day_rollouts=2"
CLOCKS = ("09:30", "09:40", "09:50")
NEEDS_MORE = ("volatility", "mean_order_volume", "aggressive_order_ratio", "buy_order_ratio")


@cache
def starts() -> tuple[Start, ...]:
    return tuple(start_at(two_days()[1], text) for text in CLOCKS)


@cache
def simulated() -> tuple[tuple[Trajectory, ...], ...]:
    """Two rollouts of ten minutes from three starts."""
    return tuple(map(tuple, simulate(known_generator(), starts(), 2, HORIZON, key=2)))


def everything() -> list[Trajectory]:
    return [t for row in simulated() for t in row]


def open_files(folder: Path):
    return registry.generator(f"files:{folder}")


def crossed(series: BookSeries, share: float) -> BookSeries:
    """The series with the ask a tick below the bid in its first part."""
    price = series.books.price_ticks.copy()
    bad = series.time_ns < series.start_ns + share * (series.end_ns - series.start_ns)
    price[bad, 0] = price[bad, 1, :1] - 1 + np.arange(price.shape[2])
    made = Snapshots(price, series.books.size_shares)
    return BookSeries(
        series.instrument, series.date, series.rules, series.start_ns, series.end_ns, series.time_ns, made
    )


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_every_file_of_a_start_is_a_rollout_with_the_bars_of_its_simulation(tmp_path, form):
    to_books(everything(), tmp_path, form=form)
    generator = open_files(tmp_path)
    for start, row in zip(starts(), simulated(), strict=True):
        found = generator.trajectories(start, HORIZON)
        assert [t.labels["file"].rsplit("_", 1)[1] for t in found] == [f"0.{form}", f"1.{form}"]
        for mine, original in zip(found, row, strict=True):
            assert mine.labels["starts_from_real_book"]
            assert mine.rules == start.rules.without_auctions()
            for name in ("mid_half_ticks", "spread_ticks"):
                np.testing.assert_array_equal(getattr(book_bars(mine), name), getattr(minute_bars(original), name))


def test_what_lies_beyond_the_horizon_is_cut_off_and_what_is_too_short_is_refused(tmp_path):
    to_books(simulated()[0][0], tmp_path)
    [mine] = open_files(tmp_path).trajectories(starts()[0], 2 * MINUTE)
    assert mine.end_ns == starts()[0].clock_ns + 2 * MINUTE
    assert mine.time_ns[-1] <= mine.end_ns
    with pytest.raises(ValueError, match=r"book_10\.csv: ends at 09:40:00.*until 09:41:00: 1 minutes are missing"):
        open_files(tmp_path).trajectories(starts()[0], 11 * MINUTE)


def test_a_lone_lobster_book_says_what_to_do(tmp_path):
    message, book = to_lobster(simulated()[0][0], tmp_path)
    message.unlink()
    with pytest.raises(
        ValueError, match=rf"{book.name}: {message.name} must lie.*does not say when.*_book_LEVELS\.csv"
    ):
        open_files(tmp_path)


def test_books_do_not_stand_beside_simulations_with_orders(tmp_path):
    to_books(simulated()[0][0], tmp_path)
    save(simulated()[0][1], tmp_path / "sub" / "x.parquet")
    with pytest.raises(
        ValueError, match=r"\(ZI-A_\S+\.csv\) beside simulations with orders \(sub/x\.parquet\).*two fold"
    ):
        open_files(tmp_path)


def test_a_damaged_file_is_named_with_its_row_and_a_name_of_no_format_is_reported(tmp_path, capsys):
    [path] = to_books(simulated()[0][0], tmp_path)
    (tmp_path / "ZI-A_2024-01-03_34200000_34800000_books.csv").write_text("a,b\n")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:5], lines[4].replace(".", ".00", 1), *lines[5:]]))
    with pytest.raises(ValueError, match=r"^ZI-A_\S+_book_10\.csv, row 6: time_s: .*at most 9 decimals"):
        open_files(tmp_path).trajectories(starts()[0], HORIZON)
    assert "1 CSV files are left out, such as ZI-A_2024-01-03_34200000_34800000_books.csv" in capsys.readouterr().err


def test_another_starting_book_and_crossed_books_are_scored_and_reported_once(tmp_path, capsys):
    for r, t in enumerate(simulated()[0]):
        write(crossed(books_of(t), 0.25), tmp_path, suffix=str(r))
    found = open_files(tmp_path).trajectories(starts()[0], HORIZON)
    assert [t.labels["starts_from_real_book"] for t in found] == [False, False]
    said = capsys.readouterr().err
    assert said.count("starts from another book than ZI-A 2024-01-03 09:30:00") == 1
    assert said.count("the book is crossed for 2") == 1


def test_the_identity_follows_the_content_of_the_files(tmp_path):
    [path] = to_books(simulated()[0][0], tmp_path)
    before = open_files(tmp_path).parameters()
    path.write_text(path.read_text().replace("\n", "\r\n"))
    assert open_files(tmp_path).parameters() != before


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of a training day and a test day of 90 minutes."""
    days = two_days()
    folder = tmp_path_factory.mktemp("market")
    periods = [
        Period(d.instrument, d.date, d.start_ns, d.end_ns, s) for d, s in zip(days, ("train", "test"), strict=True)
    ]
    write_dataset(folder, days, periods, name="two-days", version=1, summary="two days")
    return folder


@pytest.fixture(scope="module")
def scored(market: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, results.Result]:
    """The same simulations as trajectories, as books, and as books that are crossed a quarter of the time."""
    folder = tmp_path_factory.mktemp("scored")
    save(everything(), folder / "full" / "all.parquet")
    to_books(everything(), folder / "books")
    for i, t in enumerate(everything()):
        write(crossed(books_of(t), 0.25), folder / "crossed", suffix=str(i))
        times = np.arange(t.start_ns, t.end_ns + 1, 5 * SECOND)
        sampled = sample_books(books_of(t), times)
        coarse = BookSeries(t.instrument, t.date, t.rules, t.start_ns, t.end_ns, times, sampled)
        write(coarse, folder / "coarse", suffix=str(i))
    names = ("full", "books", "crossed", "coarse")
    report = runner.run(
        [f"{name}=files:{folder / name}" for name in names],
        tasks=[TASK], datasets=[str(market)], limit=3, track=False, results=folder / "results",
    )  # fmt: skip
    return {r.generator["label"]: r for r in map(results.read, report.done)}


def test_what_a_book_shows_is_scored_to_the_digit_and_the_rest_is_not_applicable(scored):
    full, books = scored["full"].scores, scored["books"].scores
    known = {key: s for key, s in books.items() if s.applicable and s.group != "validity"}
    assert known == {key: full[key] for key in known}
    quantities = {key.split(".")[1] for key in known}
    assert quantities == {"spread", *(f"return_{k}min" for k in range(1, 6))}
    gone = {key: s for key, s in books.items() if not s.applicable}
    assert set(gone) == {k for k in full if k.startswith("facts.") or k.split(".")[1] in NEEDS_MORE}
    assert all(s.value is s.normalised is s.informative is s.ci_low is None for s in gone.values())
    reasons = {s.reason.split(": ")[1] for s in gone.values()}
    assert reasons == {
        "book snapshots show no trades",
        "book snapshots show no orders",
        "it is measured from order to order, and book snapshots show no orders",
    }
    assert set(books) - set(full) == {"validity.book_silent"}
    assert {k.split(".")[1] for k in books if k.startswith("validity.")} == {
        "book_crossed", "book_locked", "book_silent", "book_one_sided", "book_frozen", "drift",
    }  # fmt: skip
    assert scored["books"].cost["orders"] is None
    assert any("book snapshots alone" in note for o in scored["books"].outcomes.values() for note in o.notes)


def test_coarse_samples_have_returns_and_no_spread(scored):
    full, coarse = scored["full"].scores, scored["coarse"].scores
    assert coarse["distribution_similarity.return_1min"] == full["distribution_similarity.return_1min"]
    for key in ("distribution_similarity.spread", "three_class_accuracy.spread.one_rollout"):
        assert coarse[key].reason.startswith("not applicable: with one book in 5 s, the mean spread of a minute")


def test_books_that_are_crossed_too_long_are_invalid(scored):
    found = scored["crossed"].scores
    assert found["validity.book_crossed"].value == pytest.approx(0.25, abs=0.02)
    assert found["validity.book_crossed"].floor == 0.01
    assert scored["books"].scores["validity.book_crossed"].value == 0
    board = build(list(scored.values()), missing="drop")
    why = {row.label: row.unranked for row in board.rows}
    assert "validity.book_crossed is 0.2" in why["crossed"]
    assert "above the limit 0.01" in why["crossed"]


def test_the_pages_say_not_applicable_and_why(scored):
    board = build(list(scored.values()))
    text, page = to_markdown(board), to_html(board, draw=False)
    line = next(x for x in text.splitlines() if x.startswith("| facts.02_heavy_tails"))
    assert "not applicable: book snapshots show no trades" in line
    validity = next(x for x in text.splitlines() if x.startswith("| validity.book_silent"))
    assert validity.count("not applicable") == 1  # the simulation with orders
    assert "missing: not applicable" not in text + page
    titles = scored["books"].outcomes["distribution-similarity"].tables["similarity_summary"]["title"]
    assert titles[:3] == ["Volatility (not applicable)", "Spread", "Mean order volume (not applicable)"]
    assert page.count('title="not applicable: book snapshots show no orders">not applicable</td>') >= 3


def test_a_metric_that_needs_orders_is_not_asked(scored):
    class Counts(Metric):
        name = "counts"
        evidence = TrajectoryPairs

        def evaluate(self, evidence, rng):
            return Outcome((Score("counts.orders", len(evidence.simulated[0][0].orders), "distributions"),))

    real = tuple(cut(two_days()[1], s.clock_ns, s.clock_ns + HORIZON) for s in starts())
    with_orders = TrajectoryPairs(starts(), real, simulated(), 10)
    alone = TrajectoryPairs(starts(), real, tuple(tuple(map(books_of, row)) for row in simulated()), 10)
    assert score(with_orders, {"counts": Counts()}, 0)["counts"].scores[0].value > 0
    found = score(alone, {"counts": Counts()}, 0)
    assert found["counts"].scores == ()
    assert found["counts"].notes == (
        "not applicable: counts needs orders, and the simulations are book snapshots alone",
    )
    assert set(found) == {"counts", "validity"}


def test_validate_says_what_the_files_hold_and_what_is_wrong(tmp_path, market, capsys):
    to_books(everything(), tmp_path / "good")
    good = validate_files(open_files(tmp_path / "good"), starts(), minutes=10)
    assert good.passed
    assert "3 starts, 2 each" in str(good)
    assert "6 of 6 start from the real book" in str(good)
    assert "spread and mid returns are scored; volatility, order sizes, aggressive and buy ratio" in str(good)
    save(everything(), tmp_path / "full" / "all.parquet")
    assert "orders: everything is scored" in str(validate_files(open_files(tmp_path / "full"), starts(), minutes=10))
    [path, *_] = sorted((tmp_path / "good").iterdir())
    path.write_text(path.read_text().replace("34200.000000000", "34201.000000000", 1))
    bad = validate_files(open_files(tmp_path / "good"), starts(), minutes=10)
    assert not bad.passed
    assert "1 of 3 have none, first ZI-A 2024-01-03 09:30:00 (1 unreadable)" in str(bad)
    assert "row 3: time goes back from 34201.000000000 to 34200." in str(bad)
    for i, t in enumerate(everything()):
        write(crossed(books_of(t), 0.25), tmp_path / "crossed", suffix=str(i))
    text = str(validate_files(open_files(tmp_path / "crossed"), starts(), minutes=10))
    assert "FAIL  books are crossed or locked for at most 1% of the time: crossed 2" in text
    report = runner.validate(f"files:{tmp_path / 'good'}", str(market))
    assert json.loads(json.dumps(report.to_dict()))["passed"] is False


def test_an_absent_value_is_no_reason_to_refuse_but_none_to_rank_either(scored):
    from example_results import result
    from example_results import score as made

    names = ("similarity.spread", "similarity.volume")
    one = result("one", scores=tuple(made(k, "distributions", 0.5) for k in names))
    best, none = made(names[0], "distributions", 0.99), made(names[1], "distributions", 0.5)
    alone = result("alone", scores=(best, none.not_applicable("book snapshots show no trades")))
    rows = build([one, alone]).rows  # missing="error" does not object
    assert [(r.label, r.rank, r.overall, r.groups["distributions"]) for r in rows] == [
        ("one", (1, 1), 0.5, 0.5),
        ("alone", None, None, NOT_APPLICABLE),
    ]
    why = "not applicable: 1 of 2 ranking scores, such as similarity.volume (book snapshots show no trades)"
    assert rows[1].unranked == why
    assert why in to_table(build([one, alone]))
    among_themselves = build([alone])
    assert [(r.rank, r.overall) for r in among_themselves.rows] == [((1, 1), 0.99)]
    assert "1 scores are not applicable to any generator here, so this ranking is about the others alone." in (
        among_themselves.notes
    )
    assert len(build([one, alone]).notes) == len(build([one]).notes)
    lacking = result("lacking", scores=(best, made(names[1], "distributions", None)))
    both = build([one, lacking, alone], missing="drop").rows
    assert {r.label: r.groups["distributions"] for r in both}["lacking"] == "missing"


def test_a_task_about_messages_is_not_applicable_to_books(market, tmp_path):
    to_books(everything(), tmp_path / "books")
    report = runner.run(
        [f"books=files:{tmp_path / 'books'}"],
        tasks=["lob-bench,minutes=10"], datasets=[str(market)], limit=3, track=False, results=tmp_path / "results",
    )  # fmt: skip
    assert not report.failed
    [found] = map(results.read, (tmp_path / "results" / "runs").rglob("*.json"))
    assert found.status == "not-applicable"
    assert found.reason == "simulations are book snapshots alone; lob-bench scores messages"
    assert not found.outcomes
