"""A data set is described in numbers, judged by stated criteria, printed beside others and drawn."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from marsbench import description as kept
from marsbench import description_criteria as criteria
from marsbench import description_tables as tables
from marsbench.cli import main
from marsbench.data.dataset import Dataset
from marsbench.describe import beside, chosen_days, describe
from marsbench.description import ALL, Description
from marsbench.description_page import pictures, to_html, to_markdown, to_text
from marsbench.market.rules import MINUTE, SECOND
from test_page import CHROMIUM, _parse, in_browser

REAL = ("600519-2023-02-07", "600536-2023-07-11", "goog-2012-06-21")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data home without real days."""
    monkeypatch.setenv("MARSBENCH_DATA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@cache
def _described(folder: Path, split: str) -> Description:
    return describe(Dataset(folder), split=split, command="marsbench data describe toy-market")


@pytest.fixture
def found(market: Path) -> Description:
    """All days of the toy market: two instruments, two days each."""
    return _described(market, "all")


@pytest.fixture
def real() -> Description:
    return kept.stored()["600519-2023-02-07"]


def metaorders(days: list[dict[str, str]]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for day in days:
        for start in range(20):
            begin = 34_200 * SECOND + start * MINUTE
            rows.append((day["instrument"], day["date"], rng.choice([-1, 1]), begin, begin + 3 * MINUTE,
                         int(10 ** rng.uniform(2, 4)), 3))  # fmt: skip
    names = ["instrument", "date", "side", "start_ns", "end_ns", "executed_shares", "fills"]
    return pd.DataFrame(rows, columns=names)


def lines(found: Description, besides: list[Description], key: str) -> dict[str, tables.Line]:
    table = next(t for t in tables.tables(found, besides) if t.key == key)
    return {line.label: line for line in table.lines}


def test_the_days_of_a_split_are_whole_days_in_order_and_can_be_limited(market: Path):
    data = Dataset(market)
    assert [d for _, d in chosen_days(data, "test")] == ["2024-01-03", "2024-01-03"]
    assert len(chosen_days(data, "all")) == 4
    assert [d for _, d in chosen_days(data, "all", 1)] == ["2024-01-02", "2024-01-02"]


@pytest.mark.parametrize(
    ("split", "days", "says"),
    [
        ("tset", None, "unknown split 'tset'; there are train, validation, test and all"),
        ("validation", None, "has no validation days"),
        ("test", 0, "days must be 1 or more, got 0"),
    ],
)
def test_days_that_do_not_exist_are_refused(market: Path, split: str, days: int | None, says: str):
    with pytest.raises(ValueError, match=says):
        chosen_days(Dataset(market), split, days)


def test_a_description_has_every_number_for_all_and_for_each_instrument(found: Description):
    assert found.days == 4
    assert set(found.microstructure) == {ALL, *found.instruments} == set(found.facts)
    for quantities in criteria.QUANTITIES.values():
        assert {q.key for q in quantities} <= set(found.microstructure[ALL])
    value, low, high = found.microstructure[ALL]["orders_per_min"]
    assert value is not None
    assert low is not None
    assert high is not None
    assert low < value < high
    each = [found.microstructure[i]["orders_per_min"][0] for i in found.instruments]
    assert value == pytest.approx(np.mean(np.array(each, float)), rel=1e-5)
    assert found.impact is None


def test_a_description_survives_being_written_and_read(found: Description, tmp_path: Path):
    file = kept.store(found, tmp_path / "figures.json")
    kept.store(replace(found, name="another"), file)
    again = kept.stored(file)
    assert list(again) == ["another", "toy-market"]
    assert again["toy-market"] == found


def test_the_same_days_give_the_same_figures(market: Path, found: Description):
    again = describe(Dataset(market), split="all", command=found.command)
    assert again == found


def test_damaged_descriptions_are_refused(found: Description, tmp_path: Path):
    values = found.to_dict()
    for wrong, says in (({**values, "format": 0}, "format 0"), ({**values, "extra": 1}, "extra"), ({}, "format None")):
        with pytest.raises(ValueError, match=says):
            Description.from_dict(wrong)
    (tmp_path / "figures.json").write_text('{"a": ')
    with pytest.raises(ValueError, match="damaged descriptions"):
        kept.stored(tmp_path / "figures.json")


def test_the_real_days_are_kept_with_their_command_and_their_known_figures():
    held = kept.stored()
    assert tuple(held) == REAL
    for name, day in held.items():
        assert day.command.startswith(f"marsbench data describe {name} ")
        assert " /" not in day.command
    known = {
        "orders_per_min": (239, 273, 364),
        "spread_mean_ticks": (47.7, 2.17, 27.3),
        "limits_at_touch": (0.32, 0.33, 0.16),
        "distance_q75_ticks": (876, 42, 22),
        "sign_acf_1": (0.167, 0.332, 0.634),
    }
    for key, values in known.items():
        assert [d.microstructure[ALL][key][0] for d in held.values()] == pytest.approx(values, rel=0.03)


def test_real_days_come_from_the_stored_figures_or_are_measured_where_they_are_at_hand(home: Path, market: Path):
    assert beside(["goog-2012-06-21"]) == [kept.stored()["goog-2012-06-21"]]
    assert beside([str(market)])[0].days == 4
    with pytest.raises(ValueError, match="unknown data set 'goog-2012-06-12'"):
        beside(["goog-2012-06-12"])


def test_the_tolerance_of_a_quantity_is_around_the_real_day():
    ratio = criteria.Quantity("x", "x", ratio=2.0)
    share = criteria.Quantity("x", "x", difference=0.1)
    fixed = criteria.Quantity("x", "x", region=(0.4, 0.6))
    assert ratio.around(10) == (5, 20)
    assert share.around(0.5) == pytest.approx((0.4, 0.6))
    assert fixed.around(None) == (0.4, 0.6)
    assert ratio.around(None) is None
    assert (ratio.tolerance, share.tolerance, fixed.tolerance) == ("× or ÷ 2", "± 0.1", "0.4 to 0.6")


def test_only_an_instrument_modelled_on_a_real_day_is_held_to_it(found: Description, real: Description):
    first, second = found.instruments
    like = replace(found, resembles={first: real.name})
    row = lines(like, [real], "microstructure")["orders per minute"].cells
    assert row[0].verdict in ("holds", "fails", "inconclusive")
    assert row[1].verdict == ""
    same = replace(like, microstructure={**like.microstructure, first: like.microstructure[first] | {
        "orders_per_min": [240.0, 230.0, 250.0], "spread_mean_ticks": [2.0, 1.9, 2.1],
    }})  # fmt: skip
    judged = lines(same, [real], "microstructure")
    assert judged["orders per minute"].cells[0].verdict == "holds"
    assert judged["mean"].cells[0].verdict == "fails"
    assert re.fullmatch(r"\d+ of 36", tables.resemblance(same, [real], first))
    assert tables.resemblance(same, [real], second) == "–"


def test_a_market_without_metaorders_says_so(found: Description):
    assert "lists no metaorders" in to_text(found, [])
    assert {c.text for c in lines(found, [], "verdicts")["Square-root impact"].cells[1:]} == {"not applicable"}


def test_metaorders_give_exponents_paths_and_figures(market: Path, monkeypatch: pytest.MonkeyPatch, real: Description):
    data = Dataset(market)
    monkeypatch.setattr(Dataset, "metaorders", lambda self: metaorders(self.days))
    found = describe(data, split="all")
    assert found.impact is not None
    assert found.impact[ALL]["n"] == 80
    assert len(found.impact[ALL]["prefactor"]) == 2
    assert found.impact[ALL]["path"]["value"][3] == 1
    assert list(lines(found, [], "impact")) == [ALL, *found.instruments]
    assert "Impact of metaorders" in pictures(found, [real])


def test_an_empty_list_of_metaorders_is_none(market: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Dataset, "metaorders", lambda self: metaorders([]))
    assert describe(Dataset(market)).impact is None


def test_a_crossed_book_or_a_day_without_trade_fails(found: Description):
    bad = replace(found, blocks=[found.blocks[0] | {"days_crossed": 1}, *found.blocks[1:]])
    table = next(t for t in tables.tables(bad, []) if t.key == "stability")
    crossed = table.columns.index("days with a crossed book") - 1
    assert [line.cells[crossed].verdict for line in table.lines] == ["fails", "holds"]


def test_volatility_that_runs_away_over_blocks_fails(found: Description):
    calm, wild = found.blocks[0] | {"sd_1min_bp": 5.0}, found.blocks[0] | {"sd_1min_bp": 15.0}
    table = next(t for t in tables.tables(replace(found, blocks=[calm, wild]), []) if t.key == "stability")
    sd = table.columns.index("sd of 1-min returns, bp") - 1
    assert [line.cells[sd].verdict for line in table.lines] == ["fails", "fails"]


def test_one_real_day_has_numbers_and_no_verdicts(real: Description):
    assert tables.headline(real) == "11 inconclusive"
    text = to_text(real, [])
    assert "nan" not in text
    assert "None" not in text


def test_the_page_is_self_contained_escaped_and_whole(found: Description, real: Description):
    hostile = replace(found, summary="<script>alert(1)</script>")
    html = to_html(hostile, [real], pictures(found, [real]))
    parsed = _parse(html)
    assert all(source.startswith("data:") for source in parsed.sources)
    assert len(parsed.sources) == 6
    assert not re.search(r"url\(|@import|https?://", html)
    assert "script" not in parsed.tags
    assert {t.removeprefix("#") for t in parsed.targets} <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert not re.search(r"\b(nan|None)\b", re.sub(r"data:[^\"]*", "", html))


@in_browser
def test_the_page_opens_in_a_browser(found: Description, real: Description, tmp_path: Path):
    page = tmp_path / "page.html"
    page.write_text(to_html(found, [real], {}))
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.count("<table>") == 4
    assert "Inside the book" in done.stdout


def test_markdown_tables_have_as_many_cells_in_every_row(found: Description, real: Description):
    width = 0
    for line in to_markdown(found, [real]).splitlines():
        if not line.startswith("|"):
            width = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line))
        width = width or cells
        assert cells == width, line


def test_the_command_prints_writes_and_stores(
    home: Path, market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    asked = ["data", "describe", str(market), "--split", "all", "--days", "1", "-o", str(out), "--store", str(figures)]
    assert main(asked) == 0
    text = capsys.readouterr().out
    for word in ("VERDICTS", "INSIDE THE BOOK", "STABILITY", *REAL):
        assert word in text
    assert {p.name for p in out.iterdir()} == {"description-toy-market.html", "description-toy-market.md"}
    assert kept.stored(figures)["toy-market"].days == 2


def test_the_command_prints_json_and_refuses_what_is_not_there(
    home: Path, market: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["data", "describe", str(market), "--json"]) == 0
    assert Description.from_dict(json.loads(capsys.readouterr().out)).name == "toy-market"
    assert main(["data", "describe", "no-such"]) == 2
    assert "unknown data set 'no-such'" in capsys.readouterr().err
    assert main(["data", "describe", str(market), "--beside", "no-such"]) == 2
    assert main(["data", "describe", str(market), "--split", "validation"]) == 2
    assert "has no validation days" in capsys.readouterr().err
