"""The page is one self-contained file that works in a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from example_results import changed, failed, not_applicable, result, score
from marsbench.leaderboard import WITHIN_DAY, Leaderboard, build
from marsbench.page import LOW, position, to_html
from marsbench.results import Result

HOSTILE = "<script>alert(1)</script>\"'&"
CHROMIUM = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome", "chrome") if (p := shutil.which(n))), None
)

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def _board(*more: Result) -> Leaderboard:
    made = [result("alpha", level=0.3), result("beta", level=0.9), result("gamma", level=-0.5), failed("broken")]
    return build([*made, not_applicable(), *more], missing="drop")


class _Links(HTMLParser):
    """Everything that a browser might fetch, and the ids of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.sources += [values[k] or "" for k in ("src", "srcset", "data", "action") if k in values]
        if tag == "link":
            self.sources.append(values.get("href") or "")
        elif "href" in values:
            self.targets.append(values["href"] or "")
        if "id" in values:
            self.ids.append(values["id"] or "")


def _parse(html: str) -> _Links:
    parser = _Links()
    parser.feed(html)
    return parser


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = to_html(_board())
    assert all(source.startswith("data:") for source in _parse(html).sources)
    assert not re.search(r"url\(|@import|https?://", html)


def test_every_link_leads_somewhere_and_ids_are_unique() -> None:
    links = _parse(to_html(_board()))
    assert len(links.ids) == len(set(links.ids))
    assert {t.removeprefix("#") for t in links.targets} <= set(links.ids)


def test_what_users_write_is_escaped() -> None:
    hostile = changed(result(HOSTILE), "generator", summary=HOSTILE, source=HOSTILE, parameters={"p": HOSTILE})
    hostile = changed(hostile, "dataset", summary=HOSTILE)
    board = build([hostile, changed(failed("f"), "error", message=HOSTILE)], missing="drop")
    html = to_html(board)
    assert "<script>alert" not in html
    assert _parse(html).tags.count("script") == 1
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6


def test_nothing_is_blank_missing_and_not_applicable_are_said() -> None:
    html = to_html(_board())
    assert "not applicable" in html
    assert "missing: realism with seed 0 failed (ValueError: no orders)" in html


def test_a_single_day_is_announced_at_the_top() -> None:
    board = build([changed(result("alpha"), "dataset", single_day=True)])
    assert WITHIN_DAY in to_html(board)
    assert WITHIN_DAY not in to_html(_board())


def test_the_head_says_when_the_last_result_was_finished_and_how_many_starts_each_task_has() -> None:
    late = result("beta", level=0.1, finished="2031-05-06T07:08:09+00:00")
    scores = (score("facts.of_another_task", "facts", 0.4),)
    other = changed(result("alpha", scores=scores), "task", label="second", name="second", starts=7)
    head = to_html(build([result("alpha", level=0.9), late, other], missing="drop")).split("</header>")[0]
    assert "<span>finished</span>2031-05-06<" in head
    assert f"<span>starts</span>{late.task['starts']}, 7<" in head


def test_every_score_stands_with_interval_floor_ceiling_n_and_clusters() -> None:
    html = to_html(build([result("alpha", level=0.5)]))
    for wanted in ("0.4", "0.9", "1,500", ">24<", "[0."):
        assert wanted in html


def test_floor_and_ceiling_are_marked_where_they_are() -> None:
    assert position(LOW) == 0.0
    assert 0 < position(0.0) < position(1.0) < 100
    assert position(-9.0) == 0.0
    assert position(9.0) == 100.0


@pytest.mark.usefixtures("third_party")
def test_figures_are_drawn_from_the_tables_once_and_embedded(market: Path, tmp_path: Path) -> None:
    from marsbench import results
    from toys import run

    made = [results.read(p) for p in run(market, tmp_path).paths]
    html = to_html(build(made), cache=tmp_path / "figures")
    assert html.count('src="data:image/png;base64,') == 2
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "figures").rglob("*.png")}
    assert len(files) == 2
    assert to_html(build(made), cache=tmp_path / "figures") == html
    assert files == {p: p.stat().st_mtime_ns for p in (tmp_path / "figures").rglob("*.png")}


def _dom(page: Path, fragment: str = "") -> str:
    """The page after its script ran in a real browser; errors of the script are in the log."""
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom", "--enable-logging=stderr"]  # fmt: skip  # noqa: E501
    options += [f"--user-data-dir={page.parent / 'profile'}"]
    address = page.resolve().as_uri() + fragment
    done = subprocess.run([CHROMIUM, *options, address], capture_output=True, text=True, timeout=120, check=False)
    assert "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


def _order(dom: str) -> list[str]:
    return re.findall(r'<tr class="[^"]*" data-label="([^"]+)"', dom)


@in_browser
def test_the_page_opens_in_a_browser_and_sorts(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(to_html(_board()))
    assert _order(_dom(page)) == ["beta", "alpha", "gamma", "broken", "forecaster"]
    by_name = _dom(page, "#sort=generator:descending")
    assert _order(by_name) == ["gamma", "forecaster", "broken", "beta", "alpha"]
    assert re.search(r'data-key="generator"[^>]*aria-sort="descending"', by_name)
    assert by_name.count("aria-sort=") == 1 + by_name.count("[aria-sort=")
    worst_first = _dom(page, "#sort=overall:ascending")
    assert _order(worst_first)[:3] == ["gamma", "alpha", "beta"]
    assert set(_order(worst_first)[3:]) == {"broken", "forecaster"}


@in_browser
def test_a_click_on_a_column_sorts_by_it_and_a_second_one_turns_the_order(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    click = "document.querySelector('[data-key=facts] button').click();"
    page.write_text(to_html(_board()).replace("</body>", f"<script>{click}{click}</script></body>"))
    dom = _dom(page)
    assert _order(dom)[0] == "gamma"
    assert re.search(r'data-key="facts"[^>]*aria-sort="ascending"', dom)
