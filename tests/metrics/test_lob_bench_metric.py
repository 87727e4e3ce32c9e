"""LOB-Bench's scores of sequences whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lob_arrays import evidence, sequence
from marsbench.lob_sequences import LobPair, LobSequences
from marsbench.metrics.lob_bench import LobBench
from marsbench.scores import Score
from marsbench.stats.lob_bench import QUANTITIES, LobSequence
from marsbench.stats.lob_bench_oracles import random_sequence
from marsbench.stats.lob_bench_response import (
    EVENTS,
    LAGS,
    market_orders_merged,
    response,
    response_sums,
    touch_events,
)


def scored(found: LobSequences) -> dict[str, Score]:
    return {s.key: s for s in LobBench().evaluate(found, np.random.default_rng(0)).scores}


def same(found: LobSequences) -> LobSequences:
    return replace(found, pairs=tuple(replace(p, generated=(p.real,)) for p in found.pairs))


def test_a_copy_of_the_real_sequences_has_no_distance() -> None:
    scores = scored(same(evidence(np.random.default_rng(0), 12)))
    for q in QUANTITIES:
        assert scores[f"lobbench.{q.key}.l1"].value == pytest.approx(0, abs=1e-12)
        assert scores[f"lobbench.{q.key}.w1"].value == pytest.approx(0, abs=1e-12)
    assert scores["lobbench.summary.l1.mean"].value == pytest.approx(0, abs=1e-12)
    assert scores["lobbench.response.lo_0"].value == 0


def test_the_same_law_lies_at_the_ceiling_and_another_size_far_from_it() -> None:
    alike = scored(evidence(np.random.default_rng(1), 24))["lobbench.ask_volume_touch.l1.halves"]
    assert alike.ci_low is not None
    assert alike.ci_high is not None
    assert alike.ceiling is not None
    assert alike.ci_low < alike.ceiling < alike.ci_high
    other = scored(evidence(np.random.default_rng(1), 24, size=50))
    assert (other["lobbench.ask_volume_touch.l1"].value or 0) > 0.98
    assert (other["lobbench.ask_volume_touch.w1"].value or 0) > 1.8
    assert (other["lobbench.ask_volume_touch.w1"].ci_low or 0) > 1.8


def test_no_generator_moves_the_ceiling() -> None:
    real = evidence(np.random.default_rng(1), 24)
    rng = np.random.default_rng(9)
    far = replace(real, pairs=tuple(replace(p, generated=(random_sequence(rng, 200, size=1e5),)) for p in real.pairs))
    near, away = scored(real), scored(far)
    keys = [key for key in near if key.endswith(".l1.halves")]
    assert len(keys) == 24
    assert [near[key].ceiling for key in keys] == pytest.approx([away[key].ceiling for key in keys], rel=1e-12)
    assert (away["lobbench.ask_volume_touch.l1.halves"].value or 0) > 0.99


def test_all_generated_sequences_count_not_only_the_last() -> None:
    rng = np.random.default_rng(2)
    found = evidence(rng, 6)
    far = tuple(
        replace(p, generated=(random_sequence(rng, 200, size=10), p.real)) for p in found.pairs
    )  # the last one is a copy
    score = scored(replace(found, pairs=far))["lobbench.ask_volume_touch.l1"]
    assert score.value == pytest.approx(0.5, abs=0.01)


def test_empty_and_short_sequences_are_scored_for_what_they_have() -> None:
    found = evidence(np.random.default_rng(3), 6, n=60)
    empty = replace(found.pairs[0], generated=(found.pairs[0].real.part(0, 0),))
    scores = scored(replace(found, pairs=(empty, *found.pairs[1:])))
    assert scores["lobbench.spread.l1"].n == 300
    assert scores["lobbench.ofi.l1"].value is None
    assert scores["lobbench.ofi.l1"].reason == "no real sequence has one"
    assert scores["lobbench.summary.l1.mean"].n == len(QUANTITIES) - 4
    assert scores["lobbench.divergence.growth"].value is None
    why = "over 17 of 21 quantities, without ofi, ofi_up, ofi_stay, ofi_down (no real sequence has one)"
    assert {scores[f"lobbench.summary.{m}.mean"].reason for m in ("l1", "w1")} == {why}


def test_a_summary_over_fewer_quantities_says_which_are_left_out() -> None:
    found = evidence(np.random.default_rng(3), 4, n=130)
    touch = tuple(replace(p, real=replace(p.real, book=p.real.book[:, :1]), generated=p.generated) for p in found.pairs)
    outcome = LobBench().evaluate(replace(found, pairs=touch), np.random.default_rng(0))
    scores = {s.key: s for s in outcome.scores}
    why = "over 19 of 21 quantities, without ask_volume, bid_volume (books have 1 levels, it needs 10)"
    assert scores["lobbench.summary.l1.iqm"].reason == why
    assert f"the summary is {why}: not comparable with one over all" in outcome.notes
    whole = LobBench().evaluate(found, np.random.default_rng(0))
    assert not any("summary" in note for note in whole.notes)
    assert {s.reason for s in whole.scores if s.key.startswith("lobbench.summary")} == {None}


def test_a_generator_without_any_event_of_a_kind_is_not_flattered() -> None:
    found = evidence(np.random.default_rng(4), 6)

    def no_trades(s: LobSequence) -> LobSequence:
        return replace(s, event=np.where(s.event == 4, 1, s.event))

    pairs = tuple(replace(p, generated=tuple(map(no_trades, p.generated))) for p in found.pairs)
    scores = scored(replace(found, pairs=pairs))
    assert scores["lobbench.vol_per_min.l1"].value == 1
    assert scores["lobbench.vol_per_min.w1"].value is None
    assert "vol_per_min" in (scores["lobbench.summary.w1.mean"].reason or "")
    assert scores["lobbench.response.mo_0"].value is None


def test_conditions_that_never_meet_have_no_distance_instead_of_none() -> None:
    found = evidence(np.random.default_rng(5), 6)

    def wider(s: LobSequence) -> LobSequence:
        book = s.book.copy()
        book[:, :, 0] += 1e6
        return replace(s, book=book)

    apart = tuple(replace(p, generated=tuple(map(wider, p.generated))) for p in found.pairs)
    scores = scored(replace(found, pairs=apart))
    assert scores["lobbench.ask_volume_spread.l1"].value == 1
    assert scores["lobbench.ask_volume_spread.w1"].value is None
    assert "both sides" in str(scores["lobbench.ask_volume_spread.w1"].reason)


def test_nothing_generated_at_all_is_the_largest_distance() -> None:
    found = evidence(np.random.default_rng(5), 4)
    pairs = tuple(replace(p, generated=(p.real.part(0, 0),)) for p in found.pairs)
    scores = scored(replace(found, pairs=pairs))
    assert scores["lobbench.spread.l1"].value == 1
    assert scores["lobbench.summary.l1.mean"].value == 1
    assert scores["lobbench.summary.w1.mean"].value is None


def planted(n: int = 400) -> LobSequence:
    """Each new bid at the touch that leaves prices is followed by a rise of a tick; what rises is an execution."""
    rows: list[tuple[float, int, int, int, int, int]] = []
    books = []
    bid = 1000
    for i in range(n):
        if i % 2 == 0:
            rows.append((float(i), 1, i + 1, 5, bid, 1))
            books.append((bid + 100, 10, bid, 20 + i))
        else:
            rows.append((float(i), 4, i + 1, 5, bid + 100, -1))
            bid += 100
            books.append((bid + 100, 10, bid, 20 + i))
    return sequence(rows, books)


def test_a_planted_response_is_found() -> None:
    s = planted()
    mid, kind, sign = touch_events(s)
    assert len(mid) == 400
    assert {EVENTS[k] for k in kind[1:]} == {"lo_0", "mo_1"}
    assert set(sign.tolist()) == {1}
    curve = response(response_sums(s, 100.0))
    at = dict(zip(LAGS, range(len(LAGS)), strict=True))
    for lag in (1, 2, 3, 10, 100):
        assert curve[EVENTS.index("lo_0"), at[lag]] == pytest.approx(lag // 2), "it rises with every second event"
        assert curve[EVENTS.index("mo_1"), at[lag]] == pytest.approx((lag + 1) // 2)
    assert len(set(LAGS)) == len(LAGS)


def test_executions_of_one_market_order_at_one_price_are_one_event() -> None:
    bids = [1000, 1000, 1000, 900, 900, 900]
    rows = [
        (0.0, 4, 1, 10, 1100, -1),
        (0.000_000_5, 4, 2, 5, 1100, -1),  # half a microsecond later: the same order
        (0.000_001_5, 4, 3, 5, 1100, -1),  # a microsecond after that: still
        (0.000_001_6, 4, 4, 7, 1200, -1),  # another price
        (0.1, 4, 5, 2, 1200, -1),  # later
        (0.1, 4, 6, 3, 900, 1),  # another side
    ]
    merged = market_orders_merged(sequence(rows, [(1200, 20 + i, b, 5) for i, b in enumerate(bids)]))
    assert merged.size.tolist() == [20, 7, 2, 3]
    assert merged.order_id.tolist() == [3, 4, 5, 6]
    assert merged.book[:, 0, 1].tolist() == [22, 23, 24, 25]
    assert len(market_orders_merged(merged.part(0, 0))) == 0


def test_responses_of_opposite_markets_differ_by_twice_the_response() -> None:
    s = planted()
    turned = replace(s, book=s.book[:, :, [2, 3, 0, 1]] * np.array([-1, 1, -1, 1]) + np.array([1e6, 0, 1e6, 0]))
    found = LobSequences(tuple(LobPair(str(k), "X 2024-01-02", s, (turned,)) for k in range(4)))
    score = scored(found)["lobbench.response.lo_0"]
    assert score.value == pytest.approx(2 * np.mean([lag // 2 for lag in LAGS]))


def test_intervals_are_over_days_where_there_are_ten() -> None:
    few, many = (scored(evidence(np.random.default_rng(6), 20, days=d))["lobbench.spread.l1"] for d in (2, 10))
    assert "20 sequences" in (few.ci_method or "")
    assert "10 days" in (many.ci_method or "")


def test_faults_are_shares_of_generated_rows() -> None:
    found = evidence(np.random.default_rng(7), 4)
    crossed = tuple(
        replace(p, generated=tuple(replace(s, book=s.book[:, :, [2, 1, 0, 3]]) for s in p.generated))
        for p in found.pairs
    )
    valid = {s.key: s.value for s in replace(found, pairs=crossed).validity()}
    assert valid["validity.lob_crossed"] == 1
    assert valid["validity.lob_time_back"] == 0
    shares = {s.key: s.value for s in found.validity() if s.unit == "share of rows"}
    assert set(shares.values()) == {0.0}
    assert len(shares) == 5


def test_a_still_sequence_among_few_does_not_bar_a_generator_and_stillness_of_most_does() -> None:
    found = evidence(np.random.default_rng(7), 20)

    def still(s: LobSequence) -> LobSequence:
        return replace(s, book=np.repeat(s.book[:1], len(s), axis=0))

    def share(of: int) -> Score:
        pairs = tuple(
            replace(p, generated=tuple(map(still, p.generated))) if i < of else p for i, p in enumerate(found.pairs)
        )
        [score] = (s for s in replace(found, pairs=pairs).validity() if s.key == "validity.lob_frozen")
        return score

    one, most = share(2), share(12)
    assert one.floor == most.floor == pytest.approx(1 - 0.01 ** (1 / 20))  # replay: none of 20
    assert (one.value or 0) < (one.floor or 0) < (most.value or 0)


def test_a_discriminator_finds_nothing_between_exchangeable_sequences() -> None:
    scores = scored(evidence(np.random.default_rng(8), 40))
    for key in ("lobbench.discriminator.auc", "lobbench.discriminator.logistic.auc"):
        score = scores[key]
        assert score.ci_low is not None
        assert score.ci_high is not None
        assert score.ci_low < 0.5 < score.ci_high, "both sides were drawn alike"
        assert abs((score.value or 0) - 0.5) < 0.2


def test_a_discriminator_finds_another_size() -> None:
    scores = scored(evidence(np.random.default_rng(9), 20, size=60))
    for key in ("lobbench.discriminator.auc", "lobbench.discriminator.logistic.auc"):
        assert (scores[key].value or 0) > 0.99


def reordered(s: LobSequence, rng: np.random.Generator) -> LobSequence:
    """The same types of event in another order: marginals stay, what follows what does not."""
    return replace(s, event=rng.permutation(s.event))


def test_the_network_sees_an_order_that_marginals_do_not_show() -> None:
    rng = np.random.default_rng(10)
    found = evidence(rng, 24)
    turns = np.where(np.arange(200) % 2 == 0, 1, 3)
    pairs = []
    for p in found.pairs:
        real = replace(p.real, event=turns)
        pairs.append(replace(p, real=real, generated=(reordered(replace(p.generated[0], event=turns), rng),)))
    scores = scored(replace(found, pairs=tuple(pairs)))
    assert (scores["lobbench.discriminator.auc"].value or 0) > 0.95
    assert abs((scores["lobbench.discriminator.logistic.auc"].value or 0) - 0.5) < 0.25


def led(s: LobSequence, sign: int) -> LobSequence:
    """A sequence whose imbalance tells where the mid is ten messages later."""
    ahead = np.append(s.mid[10:], np.full(10, s.mid[-1])) - s.mid
    book = s.book.copy()
    book[:, 0, 1], book[:, 0, 3] = 100 - 50 * sign * np.sign(ahead), 100 + 50 * sign * np.sign(ahead)
    return replace(s, book=book)


def test_what_was_learned_from_generated_data_is_tested_on_real_data() -> None:
    found = evidence(np.random.default_rng(11), 20)

    def both(sign: int) -> dict[str, Score]:
        pairs = tuple(
            replace(p, real=led(p.real, 1), generated=tuple(led(s, sign) for s in p.generated)) for p in found.pairs
        )
        return scored(replace(found, pairs=pairs))

    right, wrong = both(1), both(-1)
    for scores in (right, wrong):
        assert (scores["lobbench.predictive.real_to_real.auc"].value or 0) > 0.98
    assert (right["lobbench.predictive.synthetic_to_real.auc"].value or 0) > 0.98
    assert wrong["lobbench.predictive.synthetic_to_real.auc"].value == pytest.approx(0, abs=0.02)
    assert "7 test sequences" in (right["lobbench.predictive.real_to_real.auc"].ci_method or "")


def test_few_sequences_have_no_discriminator_and_say_so() -> None:
    scores = scored(evidence(np.random.default_rng(12), 4))
    assert "needs 10 sequences" in (scores["lobbench.discriminator.auc"].reason or "")
    assert "needs 10 sequences" in (scores["lobbench.predictive.synthetic_to_real.auc"].reason or "")
