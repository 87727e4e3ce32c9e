"""From a venue's file to a data set: same market, proven, and split so that nothing is used twice."""

from __future__ import annotations

import json

import pytest
from paper_exchange import lobster_day, shanghai_day

from marsbench.data import lobster, sources
from marsbench.data.catalogue import list_datasets, open_dataset
from marsbench.data.convert import Split, convert, periods
from marsbench.data.errors import DataError
from marsbench.market.replay import replay_trajectory
from marsbench.market.rules import clock, clock_text


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MARSBENCH_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def spans(data) -> dict[str, tuple[str, str]]:
    return {p.split: (clock_text(p.start_ns), clock_text(p.end_ns)) for p in data.periods}


def test_a_lobster_day_becomes_a_data_set_with_an_embargo_between_training_and_test(tmp_path, home):
    source = lobster_day(1)[0].write(tmp_path / "day")
    done = convert(source, name="test-day")
    data = open_dataset("test-day")
    assert done.content_hash == data.content_hash
    assert data.folder == home / "test-day"
    assert spans(data) == {"train": ("09:30:00", "12:30:00"), "test": ("12:35:00", "16:00:00")}
    assert data.single_day
    assert data.day("TEST", "2012-06-21").content_hash() == lobster.read(source).trajectory().content_hash()
    assert done.verification[0]["unexplained"] == 0
    json.dumps(done.to_dict())
    assert [(d.name, d.kind, d.days) for d in list_datasets() if d.kind == "converted"] == [
        ("test-day", "converted", 1)
    ]


def test_a_shanghai_day_is_split_at_lunch(tmp_path):
    convert(shanghai_day(tmp_path / "day", 2, layout="vendor"), name="test-day")
    data = open_dataset("test-day")
    assert spans(data) == {"train": ("09:30:00", "11:30:00"), "test": ("13:05:00", "14:57:00")}
    history = data.history("600000", "2023-07-11", clock("13:30"))
    assert history.start_ns == clock("09:30")
    assert len(history.book.resting) > 0  # what the opening auction left
    assert history.book.last_trade_ticks > 0


def test_the_day_that_was_stored_replays_to_the_same_fills(tmp_path):
    source = shanghai_day(tmp_path / "day", 2, layout="exchange")
    convert(source, name="test-day")
    stored = open_dataset("test-day").day("600000", "2023-02-07")
    assert (replay_trajectory(stored).fills == stored.fills).all()
    assert len(stored.fills) == len(sources.read(source).trades)


def test_where_the_day_is_divided_is_a_setting(tmp_path):
    day = lobster.read(lobster_day(1)[0].write(tmp_path / "day")).trajectory()
    train, test = periods([day], Split(train_until="14:00", embargo_minutes=30))
    assert (clock_text(train.end_ns), clock_text(test.start_ns)) == ("14:00:00", "14:30:00")
    for split in (
        Split(train_until="09:30"),
        Split(train_until="16:00"),
        Split(train_until="15:50", embargo_minutes=10),
    ):
        with pytest.raises(ValueError, match="cannot train until"):
            periods([day], split)


def test_several_days_are_divided_by_days(tmp_path):
    paths = []
    for k in range(10):
        file, _ = lobster_day(k, events=60)
        file.name = file.name.replace("06-21", f"06-{k + 11}")
        paths.append(file.write(tmp_path / str(k)))
    data = open_dataset(convert(paths, name="ten", out=tmp_path / "out").folder)
    splits = [p.split for p in sorted(data.periods, key=lambda p: p.date)]
    assert splits == ["train"] * 6 + ["validation"] + ["test"] * 3
    assert not data.single_day
    assert all((p.start_ns, p.end_ns) == (clock("09:30"), clock("16:00")) for p in data.periods)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="embargo_minutes"):
        Split(embargo_minutes=-1)
    with pytest.raises(ValueError, match="leave some for training"):
        Split(test_days=0.9, validation_days=0.2)


def test_names_are_checked_and_nothing_is_overwritten_unasked(tmp_path):
    source = lobster_day(1, events=80)[0].write(tmp_path / "day")
    for name in ("Upper", "a b", "", "zi-market", "../x"):
        with pytest.raises(ValueError, match="data set name"):
            convert(source, name=name)
    first = convert(source, name="a")
    with pytest.raises(FileExistsError, match="exists already"):
        convert(source, name="a")
    assert convert(source, name="a", replace=True).content_hash == first.content_hash


def test_a_damaged_source_leaves_no_data_set_behind(tmp_path, home):
    source = lobster_day(1, events=80)[0].write(tmp_path / "day")
    next(source.glob("*message*")).write_text("1,2\n")
    with pytest.raises(DataError):
        convert(source, name="a")
    assert [p for p in home.iterdir() if p.is_dir()] == []


def test_real_days_are_converted(real_file, tmp_path):
    done = convert(real_file("sse/600536_2023-07-11_orders.csv.gz"), name="sse-600536", out=tmp_path / "out")
    data = open_dataset(done.folder)
    part = data.trajectory(data.split("test")[0])
    assert len(part.orders) > 10_000
    assert len(part.book.resting) > 1_000
