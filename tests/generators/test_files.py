"""``files:DIR``: what was simulated elsewhere is scored as if it had been simulated here."""

from __future__ import annotations

import copy
import gzip
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from markets import known_generator, start_at, two_days
from marsbench import registry, results, runner
from marsbench.data.dataset import Period, write_dataset
from marsbench.data.export import to_lobster
from marsbench.market.bars import minute_bars
from marsbench.market.replay import cut, make_trajectory
from marsbench.market.rules import MINUTE, clock
from marsbench.market.trajectory import Trajectory, save
from marsbench.simulation.contracts import Start
from marsbench.simulation.rollout import simulate

HORIZON = 5 * MINUTE


@cache
def starts() -> tuple[Start, ...]:
    return tuple(start_at(two_days()[1], text) for text in ("10:00", "10:10"))


@cache
def simulated() -> tuple[tuple[Trajectory, ...], ...]:
    """Three rollouts of five minutes from two starts."""
    return tuple(map(tuple, simulate(known_generator(), starts(), 3, HORIZON, key=2)))


def everything() -> list[Trajectory]:
    return [t for row in simulated() for t in row]


def open_files(folder: Path):
    return registry.generator(f"files:{folder}")


def equal_bars(one: Trajectory, other: Trajectory, start: Start, names: set[str] | None = None) -> None:
    bars = [minute_bars(t, last_trade_ticks=start.book.last_trade_ticks) for t in (one, other)]
    for name in names or {f.name for f in fields(bars[0])}:
        np.testing.assert_array_equal(getattr(bars[0], name), getattr(bars[1], name), err_msg=name)


def write_pairs(folder: Path, levels: int = 10) -> None:
    for row in simulated():
        for r, t in enumerate(row):
            to_lobster(t, folder, levels=levels, suffix=str(r))


def test_parquet_in_one_file_in_many_and_in_subfolders_gives_the_very_same_trajectories(tmp_path):
    save(everything(), tmp_path / "one" / "all.parquet")
    for i, t in enumerate(everything()):
        save(t, tmp_path / "many" / str(i % 2) / f"{i}.parquet")
    for folder in ("one", "many"):
        generator = open_files(tmp_path / folder)
        for start, row in zip(starts(), simulated(), strict=True):
            found = generator.trajectories(start, HORIZON)
            assert sorted(t.content_hash() for t in found) == sorted(t.content_hash() for t in row)
            again = copy.deepcopy(generator).trajectories(start, HORIZON)
            assert [t.content_hash() for t in again] == [t.content_hash() for t in found]
            assert all(t.labels["starts_from_real_book"] for t in found)
    start, row = starts()[0], simulated()[0]
    for mine, original in zip(open_files(tmp_path / "one").trajectories(start, HORIZON), row, strict=True):
        equal_bars(mine, original, start)


def test_lobster_pairs_keep_prices_and_volumes_and_every_one_of_them_counts(tmp_path):
    write_pairs(tmp_path)
    generator = open_files(tmp_path)
    for start, row in zip(starts(), simulated(), strict=True):
        found = generator.trajectories(start, HORIZON)
        assert [t.labels["file"].rsplit("_", 1)[1] for t in found] == ["0.csv", "1.csv", "2.csv"]
        for mine, original in zip(found, row, strict=True):
            assert mine.rules == start.rules.without_auctions()
            assert (mine.labels["unexplained"], mine.labels["starts_from_real_book"]) == (0, True)
            names = {"last_trade_ticks", "mean_trade_ticks", "mid_half_ticks", "volume_shares", "n_trades"}
            equal_bars(mine, original, start, names | {"spread_ticks", "one_sided_share"})


def test_lobster_pairs_that_show_the_whole_book_lose_nothing_that_a_minute_bar_sees(tmp_path):
    write_pairs(tmp_path, levels=500)
    for start, row in zip(starts(), simulated(), strict=True):
        for mine, original in zip(open_files(tmp_path).trajectories(start, HORIZON), row, strict=True):
            equal_bars(mine, original, start)


def test_pairs_are_told_apart_by_subfolder_and_may_be_packed(tmp_path):
    for r, t in enumerate(simulated()[0]):
        for path in to_lobster(t, tmp_path / str(r)):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    assert len(open_files(tmp_path).trajectories(starts()[0], HORIZON)) == 3


def test_what_lies_beyond_the_horizon_is_cut_off(tmp_path):
    save(everything(), tmp_path / "a" / "x.parquet")
    to_lobster(simulated()[0][0], tmp_path / "b", levels=500)
    start, original = starts()[0], simulated()[0][0]
    shorter = cut(original, original.start_ns, original.start_ns + 2 * MINUTE)
    for folder in ("a", "b"):
        mine = open_files(tmp_path / folder).trajectories(start, 2 * MINUTE)[0]
        assert mine.end_ns == shorter.end_ns
        equal_bars(mine, shorter, start)


def test_a_file_that_is_too_short_says_how_much_is_missing(tmp_path):
    original = simulated()[0][0]
    save(cut(original, original.start_ns, original.start_ns + 3 * MINUTE), tmp_path / "short.parquet")
    with pytest.raises(ValueError, match=r"short\.parquet: ends at 10:03:00.*until 10:05:00: 2 minutes are missing"):
        open_files(tmp_path).trajectories(starts()[0], HORIZON)


def test_a_start_without_files_is_an_empty_list_and_says_what_there_is(tmp_path, capsys):
    save(simulated()[0], tmp_path / "x.parquet")
    generator = open_files(tmp_path)
    assert generator.trajectories(starts()[1], HORIZON) == []
    said = capsys.readouterr().err
    assert "holds nothing for ZI-A 2024-01-03 10:10:00; it holds 3 trajectories, from ZI-A 2024-01-03 10:00:00" in said


def test_a_folder_that_is_missing_or_empty_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder"):
        open_files(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"holds no trajectories; expected are \*\.parquet"):
        open_files(tmp_path)
    with pytest.raises(ValueError, match="folder"):
        registry.generator("files")


def test_a_csv_of_another_name_is_reported_and_hidden_files_are_not_read(tmp_path, capsys):
    save(everything(), tmp_path / "x.parquet")
    (tmp_path / "notes.csv").write_text("a,b\n")
    (tmp_path / ".checkpoints").mkdir()
    (tmp_path / ".checkpoints" / "old.parquet").write_text("no")
    assert len(open_files(tmp_path).trajectories(starts()[0], HORIZON)) == 3
    assert "1 CSV files are left out, such as notes.csv" in capsys.readouterr().err


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "no.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(ValueError, match=r"no\.parquet: .*write it with marsbench"):
        open_files(tmp_path)
    (tmp_path / "no.parquet").unlink()
    message, book = to_lobster(simulated()[0][0], tmp_path)
    content = book.read_text()
    book.write_text(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"message_10\.csv: .*orderbook_10\.csv, row \d+: "):
        open_files(tmp_path).trajectories(starts()[0], HORIZON)
    book.unlink()
    with pytest.raises(ValueError, match=rf"{message.name}: {book.name} must lie beside it"):
        open_files(tmp_path)


def test_damage_inside_a_parquet_file_is_found_when_it_is_read(tmp_path):
    path = save(simulated()[0][0], tmp_path / "x.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.parquet: damaged"):
        open_files(tmp_path).trajectories(starts()[0], HORIZON)


def test_another_tick_or_lot_is_refused(tmp_path):
    original = simulated()[0][0]
    for what, value in (("tick_size", "0.1"), ("lot_shares", 10)):
        other = replace(original, rules=replace(original.rules, **{what: value}))
        save(other, tmp_path / what / "x.parquet")
        with pytest.raises(
            ValueError, match=rf"x\.parquet: its rules .* give a {what.split('_')[0]} of {value}, .*SSE"
        ):
            open_files(tmp_path / what).trajectories(starts()[0], HORIZON)


def test_lobster_prices_between_the_ticks_of_the_data_set_are_refused_and_finer_units_are_not(tmp_path):
    original, start = simulated()[0][0], starts()[0]
    fine = replace(original, rules=replace(original.rules, tick_size="0.001"))
    to_lobster(fine, tmp_path)
    with pytest.raises(ValueError, match=r"price \S+ is no multiple of the tick 0\.01 of SSE_A_SHARE"):
        open_files(tmp_path).trajectories(start, HORIZON)
    finer = replace(start, rules=replace(start.rules, tick_size="0.001"))
    [mine] = open_files(tmp_path).trajectories(finer, HORIZON)
    assert mine.fills["price_ticks"].tolist() == original.fills["price_ticks"].tolist()


def test_fills_that_the_orders_do_not_make_are_refused(tmp_path):
    original = simulated()[0][0]
    save(replace(original, fills=original.fills[:-1]), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"x\.parquet: trajectory 0 records \d+ fills.*make_trajectory"):
        open_files(tmp_path).trajectories(starts()[0], HORIZON)


def test_another_starting_book_is_scored_and_reported_once(tmp_path, capsys):
    for r, original in enumerate(simulated()[0]):
        book = replace(original.book, resting=original.book.resting[1:])
        facts = {n: getattr(original, n) for n in ("instrument", "date", "rules", "start_ns", "end_ns", "orders")}
        other = make_trajectory(**facts, book=book)
        save(other, tmp_path / "a" / f"{r}.parquet")
        to_lobster(other, tmp_path / "b", levels=500, suffix=str(r))
    for folder in ("a", "b"):
        found = open_files(tmp_path / folder).trajectories(starts()[0], HORIZON)
        assert [t.labels["starts_from_real_book"] for t in found] == [False] * 3
        assert capsys.readouterr().err.count("starts from another book than ZI-A 2024-01-03 10:00:00") == 1


def test_messages_that_do_not_explain_the_books_are_scored_and_reported_once(tmp_path, capsys):
    write_pairs(tmp_path)
    for path in tmp_path.glob("*message*"):
        lines = path.read_text().splitlines(keepends=True)
        at = next(i for i, line in enumerate(lines) if line.split(",")[1] == "1")
        parts = lines[at].split(",")
        lines[at] = ",".join([*parts[:3], str(int(parts[3]) + 100), *parts[4:]])
        path.write_text("".join(lines))
    found = open_files(tmp_path).trajectories(starts()[0], HORIZON)
    assert all(t.labels["unexplained"] > 0 for t in found)
    assert capsys.readouterr().err.count("published facts do not follow from the messages") == 1


def test_the_identity_follows_the_content_of_the_files(tmp_path):
    save(simulated()[0][0], tmp_path / "x.parquet")
    before = open_files(tmp_path).parameters()
    assert before == open_files(tmp_path).parameters()
    save(simulated()[0][1], tmp_path / "x.parquet")
    changed = open_files(tmp_path).parameters()
    assert changed != before
    _, book = to_lobster(simulated()[0][0], tmp_path)
    with_pair = open_files(tmp_path).parameters()
    assert with_pair != changed
    book.write_text(book.read_text().replace("\n", "\r\n"))
    assert open_files(tmp_path).parameters() != with_pair
    with_crlf = open_files(tmp_path).parameters()
    (tmp_path / "README.md").write_text("does not count")
    assert open_files(tmp_path).parameters() == with_crlf


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


def test_replay_as_a_generator_is_perfect_and_a_changed_file_is_run_again(market, tmp_path):
    """End to end: three starts on one test day, what really happened from each of them in two files."""
    task = "realism,minutes=10,single_day_rollouts=2"
    day = two_days()[1]
    for at in ("09:30", "09:40", "09:50"):
        real = cut(day, clock(at), clock(at) + 10 * MINUTE)
        save([real, real], tmp_path / "replay" / f"{at.replace(':', '')}.parquet")

    def run() -> runner.Report:
        return runner.run(
            [f"replay=files:{tmp_path / 'replay'}"],
            tasks=[task], datasets=[str(market)], limit=3, track=False, results=tmp_path / "results",
        )  # fmt: skip

    report = run()
    [path] = report.done
    result = results.read(path)
    scores = {key: s.value for key, s in result.scores.items()}
    overlap = [scores[k] for k in scores if k.startswith("distribution_similarity.") and k.endswith(".full")]
    accuracy = [scores[k] for k in scores if k.startswith("three_class_accuracy.") and k.endswith(".one_rollout")]
    assert overlap == [1.0] * 10
    assert accuracy == [1.0] * len(accuracy) != []
    assert len(run().kept) == 1
    save([cut(day, clock("09:30"), clock("09:40"))] * 3, tmp_path / "replay" / "0930.parquet")
    assert len(run().done) == 1


def test_a_start_without_files_fails_the_run_and_names_it(market, tmp_path):
    day = two_days()[1]
    save(cut(day, clock("09:30"), clock("09:55")), tmp_path / "replay" / "x.parquet")
    report = runner.run(
        [f"files:{tmp_path / 'replay'}"], datasets=[str(market)], limit=2, track=False, results=tmp_path / "results"
    )
    [path] = report.failed
    assert "no trajectory for 1 of 2 starts, the first is 'ZI-A 2024-01-03 09:55:00'" in str(results.read(path).reason)
