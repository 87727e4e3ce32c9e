"""Price paths: the mid of a trajectory to the digit, kept in files that notice damage, refused where they are none."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from markets import two_days
from marsbench.market.bars import MinuteBars, minute_bars
from marsbench.market.minutes import MarketMinutes
from marsbench.market.paths import LACKS, MIDS, PathSeries, load_paths, path_bars, path_of, save_paths
from marsbench.market.replay import cut
from marsbench.market.rules import MINUTE, SSE_A_SHARE, clock


def path(*prices: float, start: str = "10:00") -> PathSeries:
    at = clock(start)
    end = int(SSE_A_SHARE.clock_ns(SSE_A_SHARE.trading_ns(at) + (len(prices) - 1) * MINUTE))
    return PathSeries("X", "2024-01-02", SSE_A_SHARE, at, end, np.array(prices))


def test_the_path_of_a_trajectory_has_its_mids_and_nothing_else() -> None:
    part = cut(two_days()[1], clock("10:00"), clock("10:20"))
    full, alone = minute_bars(part), path_bars(path_of(part))
    np.testing.assert_array_equal(alone.mid_half_ticks, full.mid_half_ticks)
    np.testing.assert_array_equal(alone.mid_returns(5), full.mid_returns(5))
    for name in LACKS:
        assert np.isnan(getattr(alone, name)).all(), name
        assert getattr(alone, name).shape == getattr(full, name).shape, name


def test_every_series_of_the_bars_is_there_or_said_to_be_lacking() -> None:
    assert {f.name for f in fields(MinuteBars)} == {*LACKS, MIDS}
    assert all(why.startswith("price paths only") for why in LACKS.values())
    assert path(10.0, 10.5).lacks == LACKS
    assert path(10.0, 10.5).n_orders is None


def test_a_break_is_no_minute() -> None:
    assert len(path_bars(path(10.0, 10.5, 11.0, start="11:29")).volume_shares) == 2
    with pytest.raises(ValueError, match="2 minutes of trading need an array of 3 prices, got \\(4,\\)"):
        PathSeries("X", "2024-01-02", SSE_A_SHARE, clock("11:29"), clock("13:01"), np.full(4, 10.0))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0, -1.0])
def test_a_price_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"price 1 of 2 is {wrong}; prices are finite and above 0"):
        path(10.0, wrong)


def test_a_path_holds_neither_books_nor_orders() -> None:
    with pytest.raises(TypeError, match="neither books nor orders"):
        MarketMinutes.of(path(10.0, 10.5))


def test_files_give_back_what_was_written(tmp_path: Path) -> None:
    many = [path(10.0, 10.5).with_labels(rollout=1), path(7.0, 7.0, 8.5, start="11:29")]
    file = save_paths(many, tmp_path / "sub" / "paths.parquet")
    found = load_paths(file)
    assert [p.content_hash() for p in found] == [p.content_hash() for p in many]
    assert found[0].labels == {"rollout": 1}
    assert repr(found[1]) == repr(many[1])
    assert list(tmp_path.rglob("*.tmp")) == []


def test_damage_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save_paths([path(10.0, 10.5)], tmp_path / "paths.parquet")
    content = file.read_bytes()
    file.write_bytes(content[:-20])
    with pytest.raises(ValueError, match="not a file of price paths, or damaged"):
        load_paths(file)
    with monkeypatch.context() as patch:
        patch.setattr(PathSeries, "content_hash", lambda self: "another")
        save_paths([path(10.0, 10.5)], file)
    with pytest.raises(ValueError, match="content does not match its hash"):
        load_paths(file)
