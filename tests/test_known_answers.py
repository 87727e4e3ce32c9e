"""Counting right and wrong claims, and the fast part of every metric's known answers."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy import stats

from marsbench import check as checking
from marsbench import cli, registry
from marsbench.known_answers import (
    COVERED,
    FAMILY,
    MISSED,
    NOT_PRESENT,
    Claim,
    KnownAnswer,
    claims,
    likeness_claims,
    measure,
)
from marsbench.stats.likeness import DIFFERENT, SAME, Likeness
from marsbench.stats.verdicts import ABSENT, INCONCLUSIVE, PRESENT, Verdict

FEW_SEEDS = 20


def coin(word: str, other: str, share: float, rng: np.random.Generator) -> dict[str, Claim]:
    said = word if rng.random() < share else other
    return {"a": Claim(said, 1.0 if said == word else -1.0)}


def known(truth: str, word: str, other: str, share: float) -> KnownAnswer:
    return KnownAnswer("coin", "a coin", "one toss", 10, {"a": truth}, partial(coin, word, other, share))


def test_power_and_error_are_shares_of_draws():
    (rate,) = measure([known(PRESENT, PRESENT, ABSENT, 0.9)], 400)
    assert rate.right + rate.wrong == pytest.approx(1)
    assert rate.right == pytest.approx(0.9, abs=0.05)
    assert rate.wrong_high == pytest.approx(stats.binomtest(round(rate.wrong * 400), 400).proportion_ci(0.9).high)
    assert not rate.trusted
    assert measure([known(PRESENT, PRESENT, INCONCLUSIVE, 0.9)], 400)[0].trusted


@pytest.mark.parametrize("truth", [NOT_PRESENT, ABSENT])
def test_calling_present_what_is_not_there_is_the_error(truth: str):
    (rate,) = measure([known(truth, PRESENT, ABSENT, 1.0)], 40)
    assert rate.wrong == 1
    assert rate.wrong_high == 1
    assert not rate.trusted


def test_an_error_rate_of_exactly_five_percent_passes_a_thousand_draws_and_of_ten_does_not():
    for share, trusted in ((0.05, True), (0.10, False)):
        (rate,) = measure([known(NOT_PRESENT, PRESENT, ABSENT, share)], 1000)
        assert rate.trusted is trusted


def test_an_interval_is_trusted_where_it_covers_neither_too_rarely_nor_too_often():
    for share, trusted in ((0.95, True), (0.85, False), (1.0, False)):
        (rate,) = measure([known(COVERED, COVERED, MISSED, share)], 1000)
        assert rate.trusted is trusted


def shifted(rng: np.random.Generator) -> dict[str, Claim]:
    """A one-sided z test at 5% of a mean that lies one and a half standard errors above zero."""
    z = rng.normal(1.5)
    return {"a": Claim(PRESENT if z > stats.norm.isf(0.05) else INCONCLUSIVE, z)}


def test_units_needed_for_power_follow_the_root_law():
    (rate,) = measure([KnownAnswer("z", "a mean", "10 days", 10, {"a": PRESENT}, shifted)], 2000)
    assert rate.right == pytest.approx(stats.norm.sf(stats.norm.isf(0.05) - 1.5), abs=0.03)
    exact = 10 * ((stats.norm.isf(0.05) + stats.norm.ppf(0.9)) / 1.5) ** 2
    assert rate.units_needed == pytest.approx(exact, rel=0.1)


def two_equal(rng: np.random.Generator) -> dict[str, Claim]:
    """Two one-sided z tests of a difference that is zero, its margin 2 standard errors away."""
    z = float(rng.normal())
    found = Likeness(INCONCLUSIVE, float(2 * stats.norm.sf(abs(z))), None, float(stats.norm.sf(2 - abs(z))), z, 0, 0, 2)
    return likeness_claims({"a": found})


def test_units_needed_to_show_likeness_bring_the_margin_twice_the_critical_value_away():
    (rate,) = measure([KnownAnswer("z", "no difference", "10 days", 10, {"a": SAME}, two_equal)], 2000)
    critical = stats.norm.isf(0.05)
    assert rate.right == pytest.approx(2 * stats.norm.cdf(2 - critical) - 1, abs=0.03)
    needed = 10 * ((critical + stats.norm.ppf(0.95)) / 2) ** 2
    assert rate.units_needed == pytest.approx(needed, abs=1)
    away = 2 * np.sqrt(needed / 10)
    assert 2 * stats.norm.cdf(away - critical) - 1 == pytest.approx(0.9)


def many(rng: np.random.Generator) -> dict[str, Claim]:
    return {f"{i}": Claim(INCONCLUSIVE, adjusted=PRESENT if rng.random() < 0.01 else INCONCLUSIVE) for i in range(5)}


def test_family_wise_errors_are_counted_after_the_correction():
    answer = KnownAnswer("five", "five properties", "one draw", 1, {f"{i}": ABSENT for i in range(5)}, many)
    rates = {r.property: r for r in measure([answer], 500)}
    assert rates[FAMILY].wrong == pytest.approx(1 - 0.99**5, abs=0.03)
    assert rates["0"].wrong == 0


def test_the_same_seeds_give_the_same_counts_whatever_the_processes():
    answer = [known(PRESENT, PRESENT, ABSENT, 0.7)]
    assert measure(answer, 60, jobs=2) == measure(answer, 60)


def test_a_draw_that_says_nothing_about_what_is_known_is_an_error():
    silent = KnownAnswer("coin", "", "", 1, {"a": PRESENT, "b": PRESENT}, partial(coin, PRESENT, ABSENT, 1.0))
    with pytest.raises(ValueError, match="nothing was said about b"):
        measure([silent], 1)
    with pytest.raises(ValueError, match="seeds must be 1 or more, got 0"):
        measure([silent], 0)


def test_verdicts_claim_before_holm():
    def verdict(p: float | None, p_absent: float | None, word: str = INCONCLUSIVE) -> Verdict:
        return Verdict(word, p, None, p_absent, 0.0, 0.0, 0.0, "a")

    said = claims(
        {"a": verdict(0.03, 0.9), "b": verdict(0.9, 0.001, ABSENT), "c": verdict(0.3, 0.3), "d": verdict(None, None)}
    )
    assert [said[k].word for k in "abcd"] == [PRESENT, ABSENT, INCONCLUSIVE, INCONCLUSIVE]
    assert said["a"].distance == pytest.approx(stats.norm.isf(0.03))
    assert said["b"].distance == pytest.approx(-stats.norm.isf(0.001))
    alike = {k: Likeness(INCONCLUSIVE, p, None, q, 0, 0, 0, 0.1) for k, p, q in
             (("a", 0.01, 0.4), ("b", 0.9, 0.01), ("c", 0.4, 0.4), ("d", None, None))}  # fmt: skip
    assert [likeness_claims(alike)[k].word for k in "abcd"] == [DIFFERENT, SAME, INCONCLUSIVE, INCONCLUSIVE]


@pytest.mark.parametrize(
    "name", [n for n in registry.names("metrics") if registry.lookup("metrics", n).known_answers()]
)
def test_no_metric_is_often_wrong_about_a_known_answer(name: str):
    # the whole table takes a thousand seeds; an error rate of 8% gives more than 6 of 20 in .1% of cases
    known_ = [k for k in registry.lookup("metrics", name).known_answers() if k.process in FAST.get(name, (k.process,))]
    assert {k.process for k in known_} >= set(FAST.get(name, ()))
    assert known_
    rates = measure(
        [with_fewer_draws(k, EXPECTED_FROM[name]) if name in EXPECTED_FROM else k for k in known_], FEW_SEEDS
    )
    bad = [f"{r.process} {r.property}: {r.wrong:.0%}" for r in rates if r.truth != COVERED and r.wrong > 0.3]
    bad += [f"{r.process} {r.property}: covers {r.right:.0%}" for r in rates if r.truth == COVERED and r.right < 0.7]
    assert not bad


def with_fewer_draws(answer: KnownAnswer, draws: int) -> KnownAnswer:
    """Where an interval has to cover an expected value, with so many draws behind that."""
    if "expected_from" not in inspect.signature(answer.draw).parameters:
        return answer
    return replace(answer, draw=partial(answer.draw, expected_from=draws))


EXPECTED_FROM = {"lob-bench": 12, "memorisation": 60, "impact-ode": 60}
FAST = {
    "distribution-similarity": ("same.normal", "same.ticks", "same.other-day", "far.0.5", "near.heavy"),
    "lob-bench": ("interval.days.sizes", "exchangeable", "prediction.untaught", "prediction.days.untaught"),
    "memorisation": ("independent.two-starts", "independent.one-day", "livelier", "copies", "copies.one-day"),
    "stylized-facts": ("gaussian.sessions", "u-shaped.sessions", "block-volatility.windows", "garch-fast.sessions",
                       "gjr-strong.windows", "skewed.windows", "mixture.windows", "unlike-student.windows"),
}  # fmt: skip
MUST_BE_SEEN = {
    ("garch-fast.sessions", "06_volatility_clustering"), ("garch-fast.windows", "06_volatility_clustering"),
    ("skewed.sessions", "03_gain_loss_asymmetry"), ("mixture.windows", "10_volume_volatility_correlation"),
    ("harch.sessions", "11_asymmetry_in_timescales"), ("gjr-strong.sessions", "09_leverage_effect"),
    ("garch.sessions", "05_intermittency"), ("student.sessions", "02_heavy_tails"),
    ("garch-student.sessions", "07_conditional_heavy_tails"), ("roll.sessions", "01_absence_of_autocorrelation"),
}  # fmt: skip


def test_the_facts_that_processes_have_are_found():
    known_ = {k.process: k for k in registry.lookup("metrics", "stylized-facts").known_answers()}
    rates = measure([known_[name] for name in sorted({p for p, _ in MUST_BE_SEEN})], 6)
    power = {(r.process, r.property): r.right for r in rates}
    assert {key: power[key] for key in MUST_BE_SEEN if power[key] < 0.5} == {}


def test_intervals_cover_in_the_fast_part_too():
    found = checking.check("intervals", seeds=200, processes=["mean.10", "skewed.40", "share.40", "halves.8"])
    assert min(rate.right for rate in found.rates) > 0.89


def test_check_prints_writes_and_returns_what_it_found(tmp_path, capsys):
    assert cli.main(["check", "intervals", "--process", "mean.40", "--seeds", "300", "-o", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "mean.40: mean of values" in printed
    assert "All 2 rates are as they should be." in printed
    page = (tmp_path / "check-intervals.md").read_text()
    assert "| mean.40 | cluster_interval | covered |" in page
    assert "marsbench check intervals" in page
    kept = json.loads((tmp_path / "check-intervals.json").read_text())
    assert kept["trusted"]
    assert {r["property"] for r in kept["rates"]} == {"cluster_interval", "verdicts.jackknife"}


def test_some_processes_join_the_rows_of_an_earlier_check(tmp_path, capsys):
    """A check takes hours: a process that is new or has changed is drawn alone."""
    where = ["--seeds", "40", "-o", str(tmp_path)]
    cli.main(["check", "intervals", "--process", "mean.5", "mean.40", *where])
    first = json.loads((tmp_path / "check-intervals.json").read_text())
    cli.main(["check", "intervals", "--process", "mean.40", "skewed.40", *where])
    both = json.loads((tmp_path / "check-intervals.json").read_text())
    assert list(both["commands"]) == ["mean.5", "mean.40", "skewed.40"]
    assert both["commands"]["mean.5"] == first["commands"]["mean.5"] != both["commands"]["mean.40"]
    assert [r for r in both["rates"] if r["process"].startswith("mean")] == first["rates"]
    page = (tmp_path / "check-intervals.md").read_text()
    assert "in part by" in page
    assert ": `mean.5`" in page
    assert cli.main(["check", "intervals", "--process", "mean.5", "--seeds", "50", "-o", str(tmp_path)]) == 2
    assert "40 draws of each process" in capsys.readouterr().err
    assert both["versions"] == dict.fromkeys(both["commands"])
    assert json.loads((tmp_path / "check-intervals.json").read_text()) == both
    (tmp_path / "check-intervals.json").write_text("{")
    assert cli.main(["check", "intervals", "--process", "mean.5", *where]) == 0
    assert "check-intervals.json: damaged" in capsys.readouterr().err
    assert (tmp_path / "check-intervals.json.damaged").read_text() == "{"


def test_what_may_not_be_trusted_fails_the_command(capsys):
    # ten draws can show no error rate of 8% or less
    assert cli.main(["check", "stylized-facts", "--process", "skewed.windows", "--seeds", "5", "--json"]) == 1
    assert not json.loads(capsys.readouterr().out)["trusted"]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checking, "check", lambda *_, **__: pytest.fail("drew first"))
    (tmp_path / "file").write_text("")
    assert cli.main(["check", "intervals", "-o", str(tmp_path / "file")]) == 2
    assert cli.main(["check", "intervals", "-o", str(tmp_path / "file" / "below")]) == 2
    assert "nothing can be written there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stylised-facts"], "did you mean 'stylized-facts'"),
        (["intervals", "--process", "meen.40"], "unknown process"),
        (["intervals", "--process", ""], "an empty name of a process"),
        (["intervals", "--seeds", "0"], "seeds must be 1 or more"),
        (["intervals", "--jobs", "0"], "at least 1 process"),
    ],
)
def test_wrong_input_says_what_is_wrong(arguments: list[str], message: str, capsys):
    assert cli.main(["check", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_metric_that_claims_nothing_is_refused_with_those_that_do(monkeypatch, capsys):
    monkeypatch.setattr(registry.lookup("metrics", "memorisation"), "known_answers", classmethod(lambda _: ()))
    assert cli.main(["check", "memorisation"]) == 2
    refused = capsys.readouterr().err
    assert "memorisation makes no claim whose truth could be known; check one of" in refused
    assert "lob-bench" in refused
