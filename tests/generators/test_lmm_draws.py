"""What rollouts of an order model draw: frequencies against the model's probabilities, and what becomes of slots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from tiny_sessions import KINDS, Rollouts, generator, model, start, tokeniser, training_streams

from marsbench.learning.bins import Bins
from marsbench.learning.order_stream import STATE, OrderStream, best_quotes, order_stream, tempo_rows
from marsbench.learning.round_prices import classes
from marsbench.learning.vocabulary import CROSSES, TAKES, price_coordinates
from marsbench.market.orders import MARKET, Flag, Kind, Reason
from marsbench.market.rules import SECOND
from marsbench.simulation.contracts import Start

ASK, BID, CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)
AGENT = 1
ROWS = {"factorised": 1500, "joint": 800}
"""With so many first orders frequencies are compared, by head."""
SAMPLINGS: list[dict[str, Any]] = [{}, {"temperature": 0.6}, {"top_p": 0.7}, {"temperature": 1.5, "top_p": 0.9}]
each_layout = pytest.mark.parametrize(("layout", "head"), KINDS)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def p_value(seen: np.ndarray, expected: np.ndarray) -> float:
    """Of a chi-square test of counts; cells of few are taken together. 0 where something impossible was seen."""
    seen, expected = seen.ravel(), expected.ravel()
    if seen[expected <= 1e-9].any():
        return 0.0
    few = expected < 5
    cells = [np.append(x[~few], x[few].sum()) for x in (seen, expected)]
    if cells[1][-1] < 1e-9:
        cells = [x[:-1] for x in cells]
    return float(chi2.sf(((cells[0] - cells[1]) ** 2 / cells[1]).sum(), max(len(cells[0]) - 1, 1)))


def softened(logits: np.ndarray, temperature: float = 1.0, top_p: float = 1.0) -> np.ndarray:
    """Probabilities of one distribution, of which the likeliest are kept until they reach ``top_p``."""
    p = np.exp(logits / temperature - np.max(logits / temperature))
    p /= p.sum()
    kept, total = np.zeros_like(p), 0.0
    for i in sorted(range(len(p)), key=lambda i: -p[i]):
        if total >= top_p:
            break
        kept[i] = p[i]
        total += p[i]
    return np.asarray(kept / kept.sum())


# Which slots there are, by definition


def own_bins(layout: str) -> Any:
    return tokeniser(layout).vocabulary.bins["ZI-A"]


def open_slots(layout: str, begin: Start) -> np.ndarray:
    """Price slots ``[3, 32]`` that an order or a cancel can have in a book."""
    bins, prices = own_bins(layout), tokeniser(layout).vocabulary.prices
    book = order_stream(begin.history).books
    ask, bid = (int(x) for x in best_quotes(book)[-1])
    out = np.zeros((3, 32), bool)
    for slot, values in enumerate(bins.new_price.values):
        possible = prices == "mid" or any(v >= CROSSES or v < ask - bid for v in values)
        out[[ASK, BID], slot] = possible  # both sides have quotes
    for order in begin.book.resting:
        if order["owner"] == MARKET:
            out[CANCEL, cancel_slot(layout, int(order["kind"]), int(order["price_ticks"]), ask, bid)] = True
    return out


def cancel_slot(layout: str, side: int, price: int, ask: int, bid: int) -> int:
    """Of an order that rests."""
    kind, sides, ticks = (np.array([x]) for x in (CANCEL, side, price))
    prices = tokeniser(layout).vocabulary.prices
    where = price_coordinates(prices, kind, sides, ticks, np.array([[ask, bid]]), np.array([False]))
    return int(own_bins(layout).cancel_price.encode(where)[0])


def volumes(layout: str, kind: int) -> np.ndarray:
    """Which volume slots there are."""
    bins = own_bins(layout)
    return np.arange(32) < len(bins.cancel_volume if kind == CANCEL else bins.new_volume)


def restricted(p: np.ndarray, possible: np.ndarray) -> np.ndarray:
    kept = np.where(possible, p, 0)
    return np.asarray(kept / kept.sum() if kept.sum() > 0 else possible / possible.sum())


# Probabilities of the model in the first decision after a start


class Expected:
    """Probabilities of each field given those before it, field by field, with what is impossible left out."""

    def __init__(self, layout: str, head: str, begin: Start, sampling: dict[str, Any]) -> None:
        self.layout, self.model, self.sampling = layout, model(layout, head), sampling
        stream = order_stream(begin.history)
        self.open = open_slots(layout, begin)
        self.known: dict[int, np.ndarray] = {}
        features = tokeniser(layout).layout.features(stream.states[-1:], _last_book(stream), 0)
        self.features = torch.as_tensor(features)
        self.hidden = generator(layout, head).open([begin], 1, key=0).recall.hidden
        if self.model.lm_head is not None:
            logits = self.model.lm_head(self.hidden)[0].double().numpy().reshape(3, 32, 32, 16)
            self.table = np.exp(logits / sampling.get("temperature", 1.0))

    def interval(self) -> np.ndarray:
        """``[16]``, before anything is known about time."""
        if self.model.factorised is None:
            return softened(np.log(self.table.sum(axis=(0, 1, 2))), top_p=self.sampling.get("top_p", 1.0))
        head = self.model.factorised
        logits = head.interval_logits(head.context(self.hidden, self.features))[0].numpy()
        return softened(logits.astype(float), **self.sampling)

    def type_and_price(self, interval: int) -> np.ndarray:
        """``[3, 32]``."""
        if self.model.factorised is None:
            p = self._nucleus(interval).sum(axis=2)
            return restricted(p, self.open)
        types = restricted(self._factorised(interval)[0], np.asarray(self.open.any(axis=1)))
        out = np.zeros((3, 32))
        for kind in np.flatnonzero(types):
            out[kind] = types[kind] * restricted(self._factorised(interval, int(kind))[0], self.open[kind])
        return out

    def volume(self, interval: int, kind: int, price: int) -> np.ndarray:
        """``[32]``."""
        if self.model.factorised is None:
            p = self._nucleus(interval)[kind, price]
        else:
            p = self._factorised(interval, kind, price)[0]
        return restricted(p, volumes(self.layout, kind))

    def masked(self, interval: int, kind: int) -> tuple[float, float]:
        """Probability of types, and of prices of the type that was drawn, that are left out."""
        if self.model.factorised is None:
            return 0.0, 1 - float(self._nucleus(interval).sum(axis=2)[self.open].sum())
        types = self._factorised(interval)[0][self.open.any(axis=1)]
        return 1 - float(types.sum()), 1 - float(self._factorised(interval, kind)[0][self.open[kind]].sum())

    def _nucleus(self, interval: int) -> np.ndarray:
        """``[3, 32, 32]`` of the joint head."""
        if interval not in self.known:
            p = softened(np.log(self.table[..., interval]).ravel(), top_p=self.sampling.get("top_p", 1.0))
            self.known[interval] = p.reshape(3, 32, 32)
        return self.known[interval]

    def _factorised(self, *known: int) -> np.ndarray:
        """Of type, price, or volume: whatever comes after what is known."""
        head = self.model.factorised
        assert head is not None
        interval, *rest = (torch.tensor([k]) for k in known)
        logits, context = head.type_logits(head.context(self.hidden, self.features), interval)
        if rest:
            logits, context = head.price_logits(context, rest[0])
        if len(rest) > 1:
            logits = head.volume_logits(context, rest[0], rest[1])
        return softened(logits[0].numpy().astype(float), **self.sampling)[None]


def _last_book(stream: OrderStream) -> Any:
    return type(stream.books)(stream.books.price_ticks[-1:], stream.books.size_shares[-1:])


def tally(layout: str, head: str, sampling: dict[str, Any], begin: Start) -> tuple[Rollouts, dict[str, Any]]:
    """Counts and expected counts by field, of the first order of many rows."""
    run = Rollouts.of(generator(layout, head, **sampling), begin, ROWS[head])
    expected, slots = Expected(layout, head, begin, sampling), run.session.slot.copy()
    run.decide()
    ((_, types, price, volume),) = run.drawn
    given = {int(i): expected.type_and_price(int(i)) for i in np.unique(slots)}
    marks = sum(given[int(i)] for i in slots)
    seen = np.zeros((3, 32))
    np.add.at(seen, (types, price), 1)
    sizes = [np.zeros((3, 32)), np.zeros((3, 32))]
    known: dict[tuple[int, int, int], np.ndarray] = {}
    for key in zip(slots.tolist(), types.tolist(), price.tolist(), strict=True):
        if key not in known:
            known[key] = expected.volume(*key)
        sizes[1][key[1]] += known[key]
    np.add.at(sizes[0], (types, volume), 1)
    return run, {"expected": expected, "slots": slots, "marks": (seen, marks), "volumes": tuple(sizes)}


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@each_layout
def test_types_prices_and_volumes_come_as_often_as_the_model_says(
    layout: str, head: str, sampling: dict[str, Any]
) -> None:
    _, found = tally(layout, head, sampling, start())
    seen, expected = found["marks"]
    likely = expected.sum(axis=1) > 0  # of asks, bids and cancels; a nucleus may leave one out
    assert likely.sum() >= 2
    assert (seen.sum(axis=1)[likely] > 100).all()
    assert p_value(seen, expected) > 1e-3
    assert p_value(*found["volumes"]) > 1e-3


@pytest.mark.parametrize("forgotten", [{"temperature": 0.6}, {"top_p": 0.5}], ids=str)
@pytest.mark.parametrize(("layout", "head"), [KINDS[0], KINDS[2]])
def test_a_temperature_or_a_nucleus_that_was_forgotten_would_be_noticed(
    layout: str, head: str, forgotten: dict[str, Any]
) -> None:
    _, found = tally(layout, head, forgotten, start())
    other = Expected(layout, head, start(), {})
    marks = sum(other.type_and_price(int(i)) for i in found["slots"])
    assert p_value(found["marks"][0], np.asarray(marks)) < 1e-6


def beyond(bins: Bins, least: float) -> np.ndarray:
    """Share of each bin's values above a bound ``[16]``."""
    share = np.zeros(16)
    for slot, (values, counts) in enumerate(zip(bins.values, bins.counts, strict=True)):
        share[slot] = sum(c for v, c in zip(values, counts, strict=True) if v > least) / sum(counts)
    return share


@pytest.mark.parametrize("waited_ms", [0, 120, 700])
@pytest.mark.parametrize("sampling", [SAMPLINGS[0], SAMPLINGS[3]], ids=str)
@each_layout
def test_the_first_interval_is_conditional_on_what_has_passed_since_the_last_order(
    layout: str, head: str, sampling: dict[str, Any], waited_ms: int
) -> None:
    stream = order_stream(start().history)
    last = _last_ns(start())
    begin = replace(start(), clock_ns=last + waited_ms * 1_000_000)
    rows = ROWS[head]
    run = Rollouts.of(generator(layout, head, **sampling), begin, rows)
    bins, unit = own_bins(layout).interval, 1.0
    if tokeniser(layout).vocabulary.intervals == "tempo":
        unit = float(tempo_rows(stream.memory[None], np.array([0]))[0]) / 1000
    elapsed = int(waited_ms * 1e6 / unit) if waited_ms else -1
    p = Expected(layout, head, start(), sampling).interval() * beyond(bins, elapsed)
    assert p_value(np.bincount(run.session.slot, minlength=16), rows * p / p.sum()) > 1e-3
    passed = run.due_ns - last
    assert (passed >= waited_ms * 1_000_000).all()
    mean, square = 0.0, 0.0
    for slot in np.flatnonzero(p):
        values, counts = (np.array(x[slot], float) for x in (bins.values, bins.counts))
        weights = np.where(values > elapsed, counts, 0)
        mean += p[slot] / p.sum() * np.average(values * unit, weights=weights)
        square += p[slot] / p.sum() * np.average((values * unit) ** 2, weights=weights)
    assert abs(passed.mean() - mean) < 4 * np.sqrt((square - mean**2) / rows)


@each_layout
def test_what_has_waited_longer_than_any_interval_of_training_comes_at_once(layout: str, head: str) -> None:
    begin = replace(start(), clock_ns=start().clock_ns + 1800 * SECOND)
    run = Rollouts.of(generator(layout, head), begin, 20)
    assert (run.due_ns - begin.clock_ns < 0.01 * SECOND).all()


@pytest.mark.parametrize("bound", ["low", "high"])
def test_intervals_are_measured_by_no_tempo_beyond_those_of_training(bound: str) -> None:
    made, begin = generator(), replace(start(), clock_ns=_last_ns(start()))
    tempo = float(tempo_rows(order_stream(begin.history).memory[None], np.array([0]))[0])
    plain = Rollouts.of(made, begin, 300)
    ends = {"low": (3 * tempo, 4 * tempo), "high": (tempo / 4, tempo / 3)}[bound]
    vocabulary = replace(made.tokeniser.vocabulary, tempo_ns=dict.fromkeys(("ZI-A", "ZI-B"), ends))
    made.tokeniser = replace(made.tokeniser, vocabulary=vocabulary)
    run = Rollouts.of(made, begin, 300)
    assert (run.session.slot == plain.session.slot).all()
    once, other = (r.due_ns - begin.clock_ns for r in (plain, run))
    np.testing.assert_allclose(other, once * {"low": 3, "high": 1 / 3}[bound], atol=2)


def _last_ns(begin: Start) -> int:
    """When the last order before a start came."""
    stream = order_stream(begin.history)
    return begin.clock_ns - int(begin.rules.trading_ns(begin.clock_ns) - stream.clock_ns[-1])


# What becomes of slots


def with_agents(begin: Start, *, every: int = 3) -> Start:
    """All that rests at some prices belongs to an agent, and one order in seven elsewhere."""
    resting = begin.book.resting.copy()
    theirs = (resting["price_ticks"] % every == 0) | (np.arange(len(resting)) % 7 == 0)
    resting["owner"] = np.where(theirs, AGENT, MARKET)
    return replace(begin, book=replace(begin.book, resting=resting))


@each_layout
def test_cancels_take_any_order_of_the_market_in_the_drawn_slot_whole(layout: str, head: str) -> None:
    begin, count = with_agents(start()), 3000
    run = Rollouts.of(generator(layout, head), begin, count)
    ask, bid = (int(x) for x in run.session.quotes[0])
    rows, sent = run.decide()
    ((_, types, price, _),) = run.drawn
    assert (types[rows] == sent["kind"]).all()
    assert len(rows) == count  # nothing was drawn that could not be sent
    resting, cancels = begin.book.resting, sent[sent["kind"] == CANCEL]
    assert len(cancels) > 200
    own = resting[resting["owner"] == MARKET]
    slots = np.array([cancel_slot(layout, int(o["kind"]), int(o["price_ticks"]), ask, bid) for o in own])
    place = {int(number): i for i, number in enumerate(own["order_id"])}
    taken = np.array([place[int(number)] for number in cancels["order_id"]])
    assert (own[taken]["size_shares"] == cancels["size_shares"]).all()
    assert (own[taken]["price_ticks"] == cancels["price_ticks"]).all()
    drawn = price[rows[sent["kind"] == CANCEL]]
    assert (slots[taken] == drawn).all()
    in_slot, of_slot = np.bincount(slots, minlength=32), np.bincount(drawn, minlength=32)
    expected = of_slot[slots] / in_slot[slots]
    busy = np.flatnonzero(expected >= 5)
    assert len(busy) > 5
    assert p_value(np.bincount(taken, minlength=len(own))[busy], expected[busy]) > 1e-3
    assert run.session.notes()["cancel_share"] == len(cancels) / count
    assert (run.send(rows, sent).reason == Reason.OK).all()
    for row in rows[sent["kind"] == CANCEL]:
        assert _of_agents(run.house.state(int(row)).resting) == _of_agents(resting)


def _of_agents(resting: np.ndarray) -> list[tuple[int, ...]]:
    return sorted(row for row in resting[resting["owner"] == AGENT].tolist())


@each_layout
def test_where_only_agents_orders_rest_the_market_cancels_nothing(layout: str, head: str) -> None:
    begin = start()
    resting = begin.book.resting.copy()
    resting["owner"] = AGENT
    run = Rollouts.of(generator(layout, head), replace(begin, book=replace(begin.book, resting=resting)), 300)
    rows, sent = run.decide()
    assert len(rows) == 300
    assert (sent["kind"] != CANCEL).all()
    if head == "factorised":
        assert run.session.notes()["masked_type_mass"] > 0.1


def test_from_the_touch_an_order_trades_if_and_only_if_its_slot_says_so() -> None:
    run, bins = Rollouts.of(generator(), start(), 600), own_bins("touch").new_price
    lower, traded, taking = np.append(bins.lower, np.zeros(32 - len(bins), int)), [], []
    for step in range(4):
        rows, sent = run.decide()
        events = run.send(rows, sent)
        _, types, price, _ = (part[rows] for part in run.drawn[step])
        new = types != CANCEL
        assert (sent["kind"] == types).all()
        traded.append(np.stack([lower[price[new]] >= CROSSES, events.traded_shares[new] > 0]))
        taking.append(np.stack([lower[price[new]] >= TAKES, (sent["flags"][new] & Flag.IOC) != 0]))
    for parts in (traded, taking):
        said, did = np.concatenate(parts, axis=1)
        assert (said == did).all()
        assert 20 < did.sum() < len(did) - 20


def test_from_the_touch_orders_read_back_as_the_slots_that_were_drawn() -> None:
    run, vocabulary = Rollouts.of(generator(), start(), 600), tokeniser("touch").vocabulary
    for step in range(4):
        quotes = run.session.quotes.copy()
        rows, sent = run.decide()
        drawn = np.stack(run.drawn[step][1:], axis=1)[rows]
        price, cancel = sent["price_ticks"].astype(np.int64), sent["kind"] == CANCEL
        side = np.where(cancel, np.where(price >= quotes[rows, 0], ASK, BID), sent["kind"])
        tokens = vocabulary.encode(
            np.full(len(rows), vocabulary.number("ZI-A")),
            kind=sent["kind"].astype(np.int64),
            side=side,
            price_ticks=price,
            size_shares=sent["size_shares"].astype(np.int64),
            interval_ns=np.zeros(len(rows), np.int64),
            tempo_ns=np.ones(len(rows)),
            ioc=(sent["flags"] & Flag.IOC) != 0,
            quotes_ticks=quotes[rows],
        )
        assert (tokens[:, :2] == drawn[:, :2]).all()
        asks = sent["kind"] == ASK  # bids are rounded to lots
        assert (tokens[asks, 2] == drawn[asks, 2]).all()
        run.send(rows, sent)


@pytest.mark.parametrize("step", [2, 3, 4])
def test_passive_orders_are_as_often_round_as_those_of_their_slot_were_and_stay_in_it(step: int) -> None:
    made, counts = generator(), [0] * 5
    counts[step] = 1
    vocabulary = tokeniser("touch").vocabulary
    own = {name: replace(b, roundness=(tuple(counts),) * len(b.new_price)) for name, b in vocabulary.bins.items()}
    made.tokeniser = replace(made.tokeniser, vocabulary=replace(vocabulary, bins=own))
    run = Rollouts.of(made, start(), 800)
    rows, sent = run.decide()
    _, types, slot, _ = (part[rows] for part in run.drawn[0])
    bins, (ask, bid) = own_bins("touch").new_price, run.session.quotes[0]
    moved = 0
    for order, kind, at in zip(sent, types, slot, strict=True):
        if kind == CANCEL or bins.lower[at] >= CROSSES:
            continue
        first = bins.values[at][0] if at == 0 else bins.upper[at - 1] + 1
        there = np.arange(first, min(bins.upper[at], ask - bid - 1) + 1)
        prices = ask - there if kind == ASK else bid + there
        assert order["price_ticks"] in prices
        if (classes(prices) == step).any():
            assert classes(order["price_ticks"]) == step
            moved += 1
    assert moved > 20


@pytest.mark.parametrize(("moved", "side"), [(-1, ASK), (1, BID)])
def test_where_the_mid_has_moved_too_far_nobody_trades_on_in_that_direction(moved: int, side: int) -> None:
    run = Rollouts.of(generator(), start(), 2000)
    rows = np.arange(0, 2000, 2)
    run.session.moved[rows] = moved
    at, sent = run.decide()
    events = run.send(at, sent)
    follows = (events.traded_shares > 0) & (events.orders["kind"] == side)
    assert not follows[events.rows % 2 == 0].any()
    assert follows[events.rows % 2 == 1].sum() > 10
    other = (events.traded_shares > 0) & (events.orders["kind"] == 1 - side)
    assert other[events.rows % 2 == 0].sum() > 10


def test_how_far_the_mid_has_moved_is_measured_by_the_range_of_training_on_every_time_scale() -> None:
    layout, states = tokeniser("touch").layout, np.tile(training_streams()[0].states[50], (4, 1))
    column = STATE.index("displacement_180s")
    states[:, column] = [-1e6, 0, 1e6, 0]
    features = layout.features(states, order_stream(start().history).books, 0)
    assert layout.moved(features, 0).tolist() == layout.moved(features, np.zeros(4, int)).tolist() == [-1, 0, 1, 0]


@each_layout
def test_bids_are_whole_lots_and_asks_may_be_odd(layout: str, head: str) -> None:
    run = Rollouts.of(generator(layout, head), start(), 1500)
    _, sent = run.decide()
    sizes = {kind: sent["size_shares"][sent["kind"] == kind] for kind in (ASK, BID)}
    assert any(v % 100 for values in own_bins(layout).new_volume.values for v in values)
    assert (sizes[BID] % 100 == 0).all()
    assert (sizes[BID] >= 100).all()
    assert (sizes[ASK] % 100 != 0).any()


@each_layout
def test_notes_say_what_was_impossible_and_what_became_of_cancels(layout: str, head: str) -> None:
    begin, rows = with_agents(start()), 200
    run = Rollouts.of(generator(layout, head), begin, rows)
    expected, slots = Expected(layout, head, begin, {}), run.session.slot.copy()
    sent = run.decide()
    masses = [expected.masked(*key) for key in zip(slots.tolist(), run.drawn[0][1].tolist(), strict=True)]
    notes = run.session.notes()
    found = (notes["masked_type_mass"], notes["masked_price_mass"])
    assert found == pytest.approx(np.mean(masses, axis=0), abs=1e-6)
    assert 0.01 < found[1] < 0.9
    cancels = (sent[1]["kind"] == CANCEL).sum()
    for _ in range(3):
        run.send(*sent)
        sent = run.decide()
        cancels += (sent[1]["kind"] == CANCEL).sum()
    notes, report = run.session.notes(), run.session.report
    assert (report.orders, report.cancels) == (4 * rows, cancels)
    assert notes["cancel_share"] == cancels / (4 * rows)
    assert notes["snapped_share_of_cancels"] == report.snapped / cancels > 0
    assert notes["mean_snap_ticks"] == report.snap_ticks / cancels >= notes["snapped_share_of_cancels"]


def at_the_limit(side: int) -> Start:
    """Nobody offers any more (or bids): the best price left is the limit itself."""
    begin = start()
    resting = begin.book.resting[begin.book.resting["kind"] == 1 - side].copy()
    best = resting["price_ticks"].max() if side == ASK else resting["price_ticks"].min()
    reference = round(best / (1.1 if side == ASK else 0.9))
    rules = replace(begin.rules, price_limit=0.1)
    return replace(begin, rules=rules, book=replace(begin.book, resting=resting, reference_ticks=reference))


@pytest.mark.parametrize("side", [ASK, BID])
def test_at_a_price_limit_nothing_passive_is_placed_where_it_would_trade(side: int) -> None:
    begin = at_the_limit(side)
    run = Rollouts.of(generator(), begin, 400)
    low, high = (int(x[0]) for x in run.view(run.rows).limits_ticks)
    best = begin.book.resting["price_ticks"]
    assert (best.max() == high) if side == ASK else (best.min() == low)
    rows, sent = run.decide()
    events = run.send(rows, sent)
    _, types, price, _ = (part[rows] for part in run.drawn[0])
    bins = own_bins("touch").new_price
    trades = np.append(bins.lower, np.zeros(32 - len(bins), int))[price] >= CROSSES
    new = types != CANCEL
    assert (events.reason == Reason.OK).all()
    assert ((events.traded_shares > 0)[new] == trades[new]).all()
    assert (types == side).any()


def test_notes_of_a_session_without_an_order_are_zeros() -> None:
    assert set(generator().open([start()], 2, key=0).notes().values()) == {0}
