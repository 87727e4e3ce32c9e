"""Rollouts of an order model: what it reads, when orders come, and what agents change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sessions import KINDS, Rollouts, generator, model, start, tokeniser

from marsbench.learning.order_stream import CLOCK, RATE, SCALES_S, OrderStream, order_stream, tempo_rows
from marsbench.learning.vocabulary import START, price_coordinates
from marsbench.market.orders import MARKET, Flag, Kind, Reason, orders
from marsbench.market.rules import SECOND
from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import NEVER, Agent, AgentFactory, RowOrders, Rows, Start
from marsbench.simulation.rollout import simulate

ASK, BID, CANCEL = int(Kind.ASK), int(Kind.BID), int(Kind.CANCEL)
AGENT = 1
each_layout = pytest.mark.parametrize(("layout", "head"), KINDS)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


# What it reads


@dataclass
class Fed:
    """What the decoder was fed order by order."""

    rows: list[np.ndarray]
    tokens: list[np.ndarray]
    features: list[np.ndarray]

    def of(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens ``[n, 4]`` and features ``[n, F]`` of one row."""
        tokens, features = (
            np.array([v[k] for r, v in zip(self.rows, values, strict=True) for k in np.flatnonzero(r == row)])
            for values in (self.tokens, self.features)
        )
        return tokens, features


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes a model note what it is fed."""

    def watch(made: Any) -> Fed:
        found, last = Fed([], [], []), [np.zeros(0), np.zeros(0)]
        embed, step = made.model.embed, made.model.decoder.step

        def embed_(tokens: Any, features: Any, group: Any) -> Any:
            last[:] = [tokens.numpy().copy(), features.numpy().copy()]
            return embed(tokens, features, group)

        def step_(x: Any, ring: Any, rows: Rows) -> Any:
            found.rows.append(rows.copy())
            found.tokens.append(last[0])
            found.features.append(last[1])
            return step(x, ring, rows)

        monkeypatch.setattr(made.model, "embed", embed_)
        monkeypatch.setattr(made.model.decoder, "step", step_)
        return found

    return watch


def whole(begin: Start, simulated: Trajectory) -> Trajectory:
    """The starting sequence and what was simulated from there, as one market."""
    history = begin.history
    parts = (np.concatenate([getattr(t, name) for t in (history, simulated)]) for name in ("orders", "fills"))
    sent, fills = parts
    return replace(history, orders=sent, fills=fills, end_ns=simulated.end_ns)


def within(layout: str, features: np.ndarray, stream: OrderStream) -> np.ndarray:
    """Features cut to the range of training."""
    return tokeniser(layout).layout.within(features, tokeniser(layout).vocabulary.number(stream.instrument))


@each_layout
def test_a_session_reads_exactly_what_training_would_make_of_the_same_orders(layout: str, head: str, fed: Any) -> None:
    made = generator(layout, head)
    found = fed(made)
    starts = [start("09:31"), start("09:35", profile=1)]
    runs = simulate(made, starts, 2, 40 * SECOND, key=0)
    for s, begin in enumerate(starts):
        before = len(order_stream(begin.history))
        for r in range(2):
            stream = order_stream(whole(begin, runs[s][r]))
            _, _, tokens, features = tokeniser(layout).content("", stream)
            features = within(layout, features, stream)
            own_tokens, own_features = found.of(2 * s + r)
            read = len(own_tokens)
            assert read == len(stream) - before > 40
            assert (own_tokens == tokens[before:]).all()
            beside = features[before + 1 :] if made.model.after else features[before:-1]
            assert own_features.dtype == beside.dtype
            assert (own_features == beside).all()


@each_layout
def test_its_hidden_state_is_that_of_training_on_the_same_orders(layout: str, head: str) -> None:
    made, begin, rows = generator(layout, head, context=1000), start("09:31"), 3
    run = Rollouts.of(made, begin, rows)
    sent: list[list[np.ndarray]] = [[] for _ in range(rows)]
    for _ in range(25):
        events = run.send(*run.decide())
        for row, order in zip(events.rows, events.orders, strict=True):
            sent[row].append(order)
    for row in range(rows):
        end = replace(begin.history, end_ns=int(run.now_ns[row]))
        day = replace(end, orders=np.concatenate([begin.history.orders, np.array(sent[row])]))
        stream = order_stream(day)
        _, group, tokens, features = tokeniser(layout).content("", stream)
        features = within(layout, features, stream)
        first, some = np.array([[START, 0, 0, 0]], np.uint8), np.zeros((1, 4), np.uint8)
        batch = {
            "tokens": torch.as_tensor(np.concatenate([first, tokens, some])[None]),
            "features": torch.as_tensor(np.concatenate([features[:1], features])[None]),
            "group": torch.tensor([group]),
        }
        torch.testing.assert_close(
            run.session.recall.hidden[row], made.model.hidden(batch)[0, -1], atol=1e-4, rtol=1e-4
        )


def test_without_any_history_it_begins_with_the_start_of_the_session() -> None:
    begin = start("09:30")
    assert len(begin.history.orders) == 0
    run = Rollouts.of(generator(), begin, 50)
    assert run.session.recall.ring.seen.tolist() == [1] * 50
    assert len(np.unique(run.due_ns)) > 10
    assert (run.send(*run.decide()).reason == Reason.OK).mean() > 0.9


def test_a_layout_that_looks_at_books_after_orders_needs_one_and_says_so() -> None:
    with pytest.raises(ValueError, match="start ZI-A 2024-01-03 09:30:00: this model needs at least one order before"):
        generator("public", "joint").open([start("09:30")], 1, key=0)


def test_a_history_that_is_longer_than_the_context_is_cut() -> None:
    begin, context = start("09:35"), 16
    run = Rollouts.of(generator(context=context), begin, 2)
    assert len(order_stream(begin.history)) > 100
    assert run.session.recall.ring.seen.tolist() == [context] * 2
    _, group, tokens, features = tokeniser("touch").content("", order_stream(begin.history))
    made = model("touch", "factorised")
    x = made.embed(
        torch.as_tensor(tokens[-context:].astype(np.int64)),
        torch.as_tensor(features[-context - 1 : -1]),
        torch.tensor(group),
    )
    torch.testing.assert_close(run.session.recall.hidden[0], made.decoder(x[None])[0, -1], atol=1e-5, rtol=1e-5)


# What agents change


class Sends(Agent):
    """Sends the same orders in every row, all at once, at one time."""

    def __init__(self, starts: Sequence[Start], rollouts: int, after_ns: int, sent: np.ndarray) -> None:
        self.wake_ns = np.repeat([s.clock_ns + after_ns for s in starts], rollouts)
        self.sent = sent

    def next_wake(self, rows: Rows) -> np.ndarray:
        return np.asarray(self.wake_ns[rows])

    def act(self, rows: Rows, book: Any) -> RowOrders:
        self.wake_ns[rows] = NEVER
        return RowOrders(np.repeat(rows, len(self.sent)), np.tile(self.sent, len(rows)))

    def notify(self, events: Any) -> None: ...


def buyer(shares: int = 3_000) -> np.ndarray:
    return orders(kind=BID, price_ticks=10_000_000, size_shares=shares, flags=Flag.IOC)


def agents(after_ns: int, sent: np.ndarray) -> list[AgentFactory]:
    return [AgentFactory(lambda starts, rollouts: Sends(starts, rollouts, after_ns, sent))]


def sweep(run: Rollouts) -> np.ndarray:
    """A purchase that takes the best two ask levels of a book, at the price of the second."""
    best = run.house.snapshot(run.rows[:1], 2)
    price, size = best.price_ticks[0, 0], best.size_shares[0, 0]
    return orders(kind=BID, price_ticks=int(price[1]), size_shares=int(size.sum()), flags=Flag.IOC)


@each_layout
def test_an_agents_order_enters_the_context_and_leaves_the_time_of_the_pending_one(layout: str, head: str) -> None:
    run = Rollouts.of(generator(layout, head), start(), 6)
    session, hidden, due = run.session, run.session.recall.hidden.clone(), run.due_ns.copy()
    slot, index = session.slot.copy(), session.index.copy()
    order, rows = sweep(run), np.array([1, 4])
    quotes = session.quotes.copy()
    run.now_ns[rows] = (run.now_ns[rows] + due[rows]) // 2
    run.send(rows, np.repeat(order, 2), AGENT)
    others = np.setdiff1d(run.rows, rows)
    assert (session.recall.hidden[rows] != hidden[rows]).any(dim=1).all()
    assert torch.equal(session.recall.hidden[others], hidden[others])
    assert (run.due_ns == due).all()
    assert (session.slot == slot).all()
    assert (session.index == index).all()
    assert (session.quotes[rows, 0] > quotes[rows, 0]).all()
    seen = session.recall.ring.seen[session.recall.ring.place]
    assert (seen[rows] == seen[others][:2] + 1).all()


@each_layout
def test_what_a_pending_order_is_gets_decided_on_the_changed_book(layout: str, head: str) -> None:
    made, rows = generator(layout, head), 400
    undisturbed, run = (Rollouts.of(made, start(), rows) for _ in range(2))
    run.send(run.rows, np.repeat(sweep(run), rows), AGENT)
    assert (run.due_ns == undisturbed.due_ns).all()
    at, sent = run.decide()
    undisturbed.decide()
    assert (run.session.slot == undisturbed.session.slot).all()
    (_, types, price, _), (_, types_before, price_before, _) = run.drawn[0], undisturbed.drawn[0]
    assert (types != types_before).any()
    assert (price != price_before).any()
    new = sent["kind"] != CANCEL
    side, ticks = (sent[new][name].astype(np.int64) for name in ("kind", "price_ticks"))
    quotes, ioc = np.stack(run.view(run.rows).quotes_ticks, axis=1)[at][new], (sent["flags"][new] & Flag.IOC) != 0
    where = price_coordinates(tokeniser(layout).vocabulary.prices, side, side, ticks, quotes, ioc)
    half_tick = [0] if layout == "touch" else [-1, 0, 1]  # from the mid, prices between two ticks are rounded
    slots = tokeniser(layout).vocabulary.bins["ZI-A"].new_price.encode(where[:, None] + half_tick)
    assert (slots == price[at][new][:, None]).any(axis=1).all()


def test_an_agents_order_behind_the_levels_that_a_model_sees_is_not_read() -> None:
    run, rows = Rollouts.of(generator("touch", "factorised"), start(), 2), np.array([0, 1])
    session = run.session
    hidden = session.recall.hidden.clone()
    last = run.house.snapshot(rows, 10).price_ticks[:, 1, -1]
    assert (last > 1).all()
    run.send(rows, orders(kind=BID, price_ticks=last - np.array([1, 0]), size_shares=300), AGENT)
    assert torch.equal(session.recall.hidden[0], hidden[0])
    assert not torch.equal(session.recall.hidden[1], hidden[1])


def test_several_orders_of_an_agent_at_once_are_read_one_after_the_other(fed: Any) -> None:
    made = generator()
    run, row = Rollouts.of(made, start(), 3), np.array([2])
    session, due = run.session, run.due_ns.copy()
    found, beside, seen = (
        fed(made),
        session.features[2].copy(),
        int(session.recall.ring.seen[session.recall.ring.place[2]]),
    )
    sent = orders(kind=[BID, ASK, BID], price_ticks=session.quotes[0, 1] + np.array([-1, 9, -7]), size_shares=300)
    run.send(np.repeat(row, 3), sent, AGENT)
    tokens, features = found.of(2)
    bins = tokeniser("touch").vocabulary.bins["ZI-A"].new_price
    assert tokens[:, 0].tolist() == [BID, ASK, BID]
    ask, bid = session.quotes[0]
    assert tokens[:, 1].tolist() == bins.encode([-1, ask - bid - 9, -7]).tolist()
    assert (features == beside).all()  # all that is known in between is the state before them
    assert session.recall.ring.seen[session.recall.ring.place[2]] == seen + 3
    assert not torch.equal(session.recall.hidden[2], session.recall.hidden[1])
    assert (run.due_ns == due).all()


@pytest.mark.parametrize(("price", "asked"), [(3, 300), (9, 300), (9, 0)])
def test_an_agents_cancel_by_id_is_read_as_one_at_the_price_of_the_order_that_it_names(
    price: int, asked: int, fed: Any
) -> None:
    made = generator()
    run, row = Rollouts.of(made, start(), 2), np.array([1])
    found, (_, bid) = fed(made), run.session.quotes[0]
    rests = run.send(row, orders(kind=BID, price_ticks=bid - price, size_shares=300), AGENT)
    number = int(rests.orders["order_id"][0])
    gone = run.send(row, orders(kind=CANCEL, order_id=number, size_shares=asked), AGENT)  # 0 is all of it
    assert gone.reason.tolist() == [Reason.OK]
    tokens, _ = found.of(1)
    bins = tokeniser("touch").vocabulary.bins["ZI-A"]
    assert tokens[:, 0].tolist() == [BID, CANCEL]
    assert tokens[0, 1] == bins.new_price.encode(-price)
    assert tokens[1, 1] == bins.cancel_price.encode(-1 - price)
    assert tokens[1, 2] == bins.cancel_volume.encode(300)


def test_time_and_rate_are_those_of_the_markets_own_orders(fed: Any) -> None:
    made, rows = generator(), 40
    run = Rollouts.of(made, start(), rows)
    session, found, last_ns = run.session, fed(made), run.session.last_ns.copy()
    drawn, rate = session.slot.copy(), session.memory[:, RATE : RATE + len(SCALES_S)].copy()
    run.now_ns = (run.now_ns + run.due_ns) // 2
    passed = run.rules.trading_ns(run.now_ns) - session.memory[:, CLOCK]
    bid = int(session.quotes[0, 1])
    run.send(run.rows, orders(kind=BID, price_ticks=np.repeat(bid - 8, rows), size_shares=100), AGENT)
    kept = np.exp(-passed[:, None] / (np.array(SCALES_S) * SECOND))
    np.testing.assert_allclose(session.memory[:, RATE : RATE + len(SCALES_S)], rate * kept)
    tempo = tempo_rows(session.memory, run.rows)
    at, sent = run.decide()
    run.send(at, sent)
    read = np.array([found.of(int(row))[0][1, 3] for row in at])
    beats = np.rint((run.rules.trading_ns(run.now_ns) - last_ns)[at] / tempo[at] * 1000)
    assert (read == tokeniser("touch").vocabulary.bins["ZI-A"].interval.encode(beats)).all()
    assert (read == drawn[at]).mean() > 0.9  # the tempo is another one by then, and hardly


@pytest.mark.parametrize("scale", range(len(SCALES_S)))
@each_layout
def test_a_market_busier_than_it_ever_was_in_training_slows_down_in_proportion(
    layout: str, head: str, scale: int
) -> None:
    run = Rollouts.of(generator(layout, head), start(), 60)
    session, rows = run.session, run.rows
    at, busiest = RATE + scale, tokeniser(layout).vocabulary.busiest["ZI-A"][0]
    session.memory[:, RATE : RATE + len(SCALES_S)] = np.array(busiest) / 2
    beats = session._beats(rows)
    assert session.notes()["slowed_share"] == 0
    session.memory[:20, at] = 3 * busiest[scale]
    slow = session._beats(rows)
    np.testing.assert_allclose(slow, beats * np.where(rows < 20, 3, 1))
    assert session.report.slowed == 20
    now, index = run.now_ns.copy(), session.index.copy()
    session.last_ns = np.asarray(run.rules.trading_ns(now))  # no time has passed that a draw would have to exceed
    session._draw_intervals(rows, now, np.zeros((60, 16)))
    wait, session.index = session.due - now, index
    session.memory[:20, at] /= 6
    session._draw_intervals(rows, now, np.zeros((60, 16)))
    usual = session.due - now
    np.testing.assert_allclose(wait[:20], 3 * usual[:20], atol=3)
    assert (wait == usual)[20:].all()


def test_a_rejected_order_of_an_agent_changes_nothing() -> None:
    run = Rollouts.of(generator(), start(), 2)
    hidden, due = run.session.recall.hidden.clone(), run.due_ns.copy()
    events = run.send(run.rows, orders(kind=BID, price_ticks=[100, 100], size_shares=150), AGENT)  # no whole lot
    assert (events.reason != Reason.OK).all()
    assert torch.equal(run.session.recall.hidden, hidden)
    assert (run.due_ns == due).all()


# Who shares what


@each_layout
def test_sessions_with_the_same_key_share_all_orders_before_an_agent_acts(layout: str, head: str) -> None:
    made, late = generator(layout, head), 20 * SECOND
    alone = simulate(made, [start()], 3, 40 * SECOND, key=7)[0]
    beside = simulate(made, [start()], 3, 40 * SECOND, key=7, agents=agents(late, buyer()))[0]
    for one, other in zip(alone, beside, strict=True):
        before = [t.orders[t.orders["time_ns"] < start().clock_ns + late] for t in (one, other)]
        assert len(before[0]) > 10
        assert (before[0] == before[1]).all()
        assert one.content_hash() != other.content_hash()
        assert (other.orders["owner"] == AGENT).sum() == 1
        after = next(t for t in other.orders["time_ns"] if t > start().clock_ns + late)
        assert after == one.orders["time_ns"][len(before[0])]  # the pending order keeps its time


@each_layout
def test_rows_do_not_depend_on_which_others_run_beside_them(layout: str, head: str) -> None:
    made, starts = generator(layout, head), [start("09:31"), start("09:33", profile=1), start("09:40")]
    together = simulate(made, starts, 3, 20 * SECOND, key=5, agents=agents(5 * SECOND, buyer()))
    for s, begin in enumerate(starts):
        alone = simulate(made, [begin], 2, 20 * SECOND, key=5, agents=agents(5 * SECOND, buyer()))
        assert [t.content_hash() for t in alone[0]] == [t.content_hash() for t in together[s][:2]]


def test_another_key_gives_other_orders_and_rollouts_differ() -> None:
    runs = [simulate(generator(), [start()], 2, 10 * SECOND, key=key)[0] for key in (1, 2)]
    assert len({t.content_hash() for row in runs for t in row}) == 4


@each_layout
def test_all_orders_of_a_rollout_are_the_markets_and_none_is_rejected(layout: str, head: str) -> None:
    begin = start()
    (run,) = simulate(generator(layout, head), [begin], 1, 40 * SECOND, key=3)[0]
    assert (run.orders["owner"] == MARKET).all()
    assert len(order_stream(whole(begin, run))) == len(order_stream(begin.history)) + len(run.orders)
