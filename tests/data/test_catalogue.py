"""Data sets by name: built once, whole or not there, never mixing training and test."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import numpy as np
import pytest

from marsbench.data import catalogue
from marsbench.data.catalogue import Dataset, Period, list_datasets, open_dataset, write_dataset
from marsbench.data.dataset import building
from marsbench.market.orders import orders
from marsbench.market.replay import make_trajectory, replay_trajectory
from marsbench.market.rules import MINUTE, NASDAQ, clock
from marsbench.market.trajectory import BookState, Trajectory

OPEN, CLOSE = clock("09:30"), clock("16:00")


def day(date: str = "2024-01-02", *, instrument: str = "AAA", seed: int = 0) -> Trajectory:
    rng = np.random.default_rng(seed)
    n = 400
    stream = orders(
        np.sort(rng.integers(OPEN, CLOSE, n)),
        kind=rng.integers(0, 2, n),
        price_ticks=100 + rng.integers(-5, 6, n),
        size_shares=rng.integers(1, 9, n),
    )
    return make_trajectory(
        instrument=instrument, date=date, rules=NASDAQ, start_ns=OPEN, end_ns=CLOSE,
        book=BookState(time_ns=OPEN), orders=stream,
    )  # fmt: skip


def halves(date: str = "2024-01-02", instrument: str = "AAA") -> list[Period]:
    return [
        Period(instrument, date, OPEN, clock("12:30"), "train"),
        Period(instrument, date, clock("12:35"), CLOSE, "test"),
    ]


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("MARSBENCH_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def small(home) -> Dataset:
    with building(home / "small") as folder:
        write_dataset(folder, [day()], halves(), name="small", version=3, summary="a day of noise", facts={"by": "us"})
    return open_dataset("small")


@pytest.fixture
def embedded(home, monkeypatch) -> types.ModuleType:
    """The catalogue with one embedded data set, which counts how often it is built."""
    module = types.ModuleType("fake_market", "A fake market.\n\nMore about it.")
    module.VERSION, module.built = 2, 0

    def build(folder: Path) -> None:
        module.built += 1
        write_dataset(folder, [day()], halves(), name="fake", version=2, summary="fake")

    module.build = build
    monkeypatch.setitem(sys.modules, "fake_market", module)
    monkeypatch.setattr(catalogue, "EMBEDDED", {"fake": "fake_market"})
    return module


def test_a_data_set_gives_back_what_was_written(small):
    assert (small.name, small.version, small.summary, small.facts) == ("small", 3, "a day of noise", {"by": "us"})
    assert small.periods == tuple(halves())
    assert small.day("AAA", "2024-01-02").content_hash() == day().content_hash()
    assert small.single_day
    assert small.rules(small.periods[0]) == NASDAQ


def test_a_period_is_cut_out_with_its_starting_book(small):
    train, test = small.split("train")[0], small.split("test")[0]
    part = small.trajectory(test)
    assert (part.start_ns, part.end_ns) == (test.start_ns, test.end_ns)
    assert (part.orders["time_ns"] > test.start_ns).all()
    assert part.book.time_ns == test.start_ns
    until = small.window("AAA", "2024-01-02", OPEN, test.start_ns)
    assert np.array_equal(replay_trajectory(until).final.resting, part.book.resting)
    assert small.trajectory(train).orders["time_ns"].max() <= train.end_ns
    assert small.trajectory(test) is part  # kept in memory


def test_a_data_set_can_be_sent_to_another_process(small):
    small.day("AAA", "2024-01-02")
    assert pickle.loads(pickle.dumps(small)).content_hash == small.content_hash


def test_history_runs_from_the_open_of_continuous_trading(small):
    history = small.history("AAA", "2024-01-02", clock("13:00"))
    assert (history.start_ns, history.end_ns) == (OPEN, clock("13:00"))


def test_unknown_splits_and_days_are_errors_that_list_what_there_is(small):
    with pytest.raises(ValueError, match="train, validation, test"):
        small.split("tests")
    with pytest.raises(ValueError, match="AAA 2024-01-02"):
        small.day("AAA", "2024-01-03")


def test_the_content_hash_is_of_days_and_periods_only(tmp_path):
    def write(name: str, periods: list[Period], seed: int = 0) -> str:
        folder = tmp_path / name
        folder.mkdir()
        data = write_dataset(folder, [day(seed=seed)], periods, name=name, version=1, summary=name)
        return data.content_hash

    first = write("one", halves())
    assert write("two", halves()) == first
    assert write("three", halves()[:1]) != first
    assert write("four", halves(), seed=1) != first


def test_a_set_with_tests_on_several_days_is_not_a_single_day(tmp_path):
    dates = ("2024-01-02", "2024-01-03")
    periods = [p for d in dates for p in halves(d)]
    data = write_dataset(tmp_path, [day(d) for d in dates], periods, name="two", version=1, summary="")
    assert not data.single_day


@pytest.mark.parametrize(
    ("periods", "reason"),
    [
        ([Period("AAA", "2024-01-02", OPEN, CLOSE, "train"), *halves()[1:]], "overlap"),
        ([Period("AAA", "2024-01-09", OPEN, CLOSE, "train")], "does not hold"),
        ([Period("AAA", "2024-01-02", OPEN - 1, CLOSE, "train")], "beyond its day"),
    ],
)
def test_periods_that_cannot_be_are_refused(tmp_path, periods, reason):
    with pytest.raises(ValueError, match=reason):
        write_dataset(tmp_path, [day()], periods, name="x", version=1, summary="")


def test_a_day_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="comes twice"):
        write_dataset(tmp_path, [day(), day()], [], name="x", version=1, summary="")


def test_periods_need_a_known_split_and_a_length():
    with pytest.raises(ValueError, match="'tests'"):
        Period("A", "2024-01-02", 0, 1, "tests")
    with pytest.raises(ValueError, match="ends before"):
        Period("A", "2024-01-02", 5, 5, "test")


def test_a_changed_file_or_description_is_noticed(small):
    head = small.folder / "dataset.json"
    values = json.loads(head.read_text())
    values["periods"][0]["end_ns"] -= MINUTE
    head.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="content hash"):
        open_dataset("small")
    head.write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        open_dataset("small")
    assert [d.version for d in list_datasets() if d.name == "small"] == [None]


def test_a_damaged_or_foreign_parquet_is_noticed(small):
    from marsbench.market import trajectory

    path = small.folder / small.days[0]["file"]
    trajectory.save(day(seed=5), path)
    with pytest.raises(ValueError, match="convert it again"):
        open_dataset("small").day("AAA", "2024-01-02")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged"):
        open_dataset("small").day("AAA", "2024-01-02")


def test_an_unknown_name_lists_the_names_and_the_nearest(small, embedded):
    with pytest.raises(ValueError, match=r"unknown data set 'smal'. Did you mean 'small'\? There are: fake, small"):
        open_dataset("smal")


def test_paths_are_opened_too_and_wrong_ones_say_what_to_do(small, tmp_path):
    assert open_dataset(small.folder).content_hash == small.content_hash
    assert open_dataset(str(small.folder)).content_hash == small.content_hash
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no dataset\.json"):
        open_dataset(tmp_path)
    (tmp_path / "x.zip").write_bytes(b"1")
    with pytest.raises(ValueError, match="marsbench data convert"):
        open_dataset(tmp_path / "x.zip")


def test_an_embedded_set_is_built_on_first_use_only(embedded, home):
    before = list_datasets()
    assert [(d.name, d.version, d.summary, d.folder) for d in before] == [("fake", 2, "A fake market.", None)]
    assert embedded.built == 0
    first, second = open_dataset("fake"), open_dataset("fake")
    assert embedded.built == 1
    assert first.folder == second.folder == home / "fake-v2"
    info = list_datasets()[0].to_dict()
    assert info["periods"] == {"train": 1, "validation": 0, "test": 1}
    assert info["content_hash"] == first.content_hash


def test_a_build_that_fails_or_was_killed_leaves_nothing_behind(embedded, home):
    build = embedded.build

    def broken(folder: Path) -> None:
        (folder / "half.parquet").write_bytes(b"1")
        raise RuntimeError("no")

    embedded.build = broken
    with pytest.raises(RuntimeError):
        open_dataset("fake")
    assert [p for p in home.iterdir() if p.is_dir()] == []
    (home / ".fake-v2.killed.building").mkdir()
    embedded.build = build
    open_dataset("fake")
    assert [p.name for p in home.iterdir() if p.is_dir()] == ["fake-v2"]


SCRIPT = """
    import sys, time, types
    from pathlib import Path
    from marsbench.data import catalogue
    from test_catalogue import day, halves

    module = types.ModuleType("slow_market", "Slow.")
    module.VERSION = 1
    def build(folder):
        with open(Path(sys.argv[1]) / "builds", "a") as log:
            log.write("x")
        (folder / "begun").write_text("")
        time.sleep(float(sys.argv[2]))
        catalogue.write_dataset(folder, [day()], halves(), name="slow", version=1, summary="")
    module.build = build
    sys.modules["slow_market"] = module
    catalogue.EMBEDDED = {"slow": "slow_market"}
    print(catalogue.open_dataset("slow").content_hash)
"""


def start(home: Path, seconds: float) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent)
    env = {**os.environ, "MARSBENCH_DATA_HOME": str(home), "PYTHONPATH": here}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(home), str(seconds)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def test_two_processes_that_want_the_same_set_build_it_once(home):
    home.mkdir()
    both = [start(home, 0.5), start(home, 0.5)]
    hashes = [process.communicate(timeout=120)[0] for process in both]
    assert hashes[0] == hashes[1] != ""
    assert (home / "builds").read_text() == "x"


def test_a_process_killed_while_building_does_not_block_or_spoil_the_next(home):
    home.mkdir()
    first = start(home, 600)
    deadline = time.monotonic() + 60
    while not list(home.glob(".slow-v1.*.building/begun")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = start(home, 0)
    assert second.communicate(timeout=120)[0] != ""
    assert [p.name for p in home.iterdir() if p.is_dir()] == ["slow-v1"]


def test_building_replaces_only_when_asked(tmp_path):
    target = tmp_path / "x"
    target.mkdir()
    (target / "old").write_text("")
    with pytest.raises(FileExistsError, match="replace"), building(target):
        pass
    with building(target, replace=True) as folder:
        (folder / "new").write_text("")
    assert [p.name for p in target.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_the_embedded_market_is_in_the_catalogue(home):
    assert "zi-market" in [info.name for info in list_datasets()]
