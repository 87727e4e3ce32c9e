"""The order flow that trained generators see, against a slow twin that follows the definitions word by word."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from market.slow_book import SlowReplay, slow_replay
from markets import two_days
from marsbench.learning.order_stream import (
    BEGIN,
    FIRST_TEMPO_NS,
    GAPS,
    LEVELS,
    SCALES_S,
    STATE,
    WIDTH,
    OrderStream,
    best_quotes,
    describe_rows,
    new_memory,
    order_stream,
    quotes_or,
    remember_rows,
    session_ns,
    tempo_rows,
)
from marsbench.market.orders import MARKET, NO_PRICE, Flag, Kind, Reason, orders
from marsbench.market.replay import cut, make_trajectory, replay_trajectory
from marsbench.market.rules import CONTINUOUS, SECOND, SSE_A_SHARE, MatchingRules, PhaseKind, clock
from marsbench.market.snapshots import Snapshots
from marsbench.market.trajectory import BookState, Trajectory

ASK, BID, CANCEL = Kind.ASK, Kind.BID, Kind.CANCEL
AGENT = 1


def resting(*, asks: range, bids: range, owner: int = MARKET) -> BookState:
    """One order of 300 shares at each price; ids from 1, asks first."""
    prices, kinds = [*asks, *bids], [ASK] * len(asks) + [BID] * len(bids)
    ids = np.arange(1, len(prices) + 1)
    book = orders(kind=kinds, price_ticks=prices, size_shares=300, order_id=ids, owner=owner)
    return BookState(book, last_trade_ticks=1000, next_id=len(prices) + 1)


FULL = resting(asks=range(1001, 1013), bids=range(999, 987, -1))
"""Best ask 1001 has id 1, best bid 999 has id 13."""


def trajectory(
    messages: np.ndarray, book: BookState = FULL, rules: MatchingRules = SSE_A_SHARE, start: str = "09:30"
) -> Trajectory:
    return make_trajectory(
        instrument="X", date="2024-01-02", rules=rules, start_ns=clock(start), end_ns=clock("15:00"),
        book=replace(book, time_ns=clock(start)), orders=messages,
    )  # fmt: skip


def messages(*each: np.ndarray) -> np.ndarray:
    return np.concatenate(each)


def message(time: str, kind: Kind, price: int = 0, size: int = 100, **more: int) -> np.ndarray:
    return orders(clock(time), kind=kind, price_ticks=price, size_shares=size, **more)


def mixed(count: int = 260, seed: int = 0) -> Trajectory:
    """Everything that can happen: lunch, agents, seeded and rejected orders, replaces, sweeps of a whole side."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, size=count, p=[0.35, 0.35, 0.3])
    cancels = kinds == CANCEL
    chance = rng.random(count)
    flags = np.where(~cancels & (chance < 0.1), Flag.IOC, 0)
    flags = np.where(~cancels & (chance > 0.9), Flag.REPLACE, flags)
    flags = np.where(~cancels & (chance > 0.45) & (chance < 0.5), Flag.SEEDED, flags)
    named = cancels | (flags == Flag.REPLACE)
    sizes = 100 * rng.integers(1, 6, size=count)
    time = np.sort(rng.integers(clock("11:20"), clock("11:40"), size=count))
    time[time > clock("11:32")] += clock("01:28")  # the rest of lunch is skipped
    sent = orders(
        time_ns=time,
        kind=kinds,
        price_ticks=np.where(cancels, 0, 1000 + rng.integers(-14, 15, size=count)),
        size_shares=np.where(cancels & (chance < 0.5), 0, sizes),
        order_id=np.where(named, rng.integers(1, 100, size=count), 0),
        owner=rng.choice([MARKET, AGENT], size=count, p=[0.85, 0.15]),
        flags=flags,
    )
    for at, kind, price in zip((60, 61, 100), (BID, ASK, ASK), (1500, 500, 500), strict=True):
        sent[at] = (sent[at]["time_ns"], 0, price, 50_000, MARKET, kind, Flag.IOC, 0)
    return trajectory(sent, start="11:15")


Row = tuple[int, bool]
"""Number of the message, and whether it is the cancel in it."""


def rows_of(day: Trajectory, done: SlowReplay) -> list[Row]:
    found: list[Row] = []
    for i, sent in enumerate(day.orders):
        inside = any(p.start_ns <= sent["time_ns"] < p.end_ns for p in day.rules.continuous)
        if done.reason[i] != Reason.OK or sent["owner"] != MARKET or sent["flags"] & Flag.SEEDED or not inside:
            continue
        if done.cancelled_shares[i] > 0:
            found.append((i, True))
        if sent["kind"] != CANCEL:
            found.append((i, False))
    return found


def quotes_of(price: np.ndarray, size: np.ndarray) -> tuple[int, int]:
    """Ask and bid, with a stand-in one tick away where one is missing, 0 where both are."""
    ask = int(price[0][0]) if size[0][0] else None
    bid = int(price[1][0]) if size[1][0] else None
    if ask is None:
        return (0, 0) if bid is None else (bid + 1, bid)
    return ask, ask - 1 if bid is None else bid


def slow_tempo(times: list[int]) -> float:
    """Mean interval of the last quarter of an hour: time that has passed over the orders that came, weighed by age.

    ``times`` are the start and the orders since then; what is 15 minutes older weighs e times less.
    """
    if len(times) == 1:
        return FIRST_TEMPO_NS
    scale = 900.0 * SECOND
    weight = [math.exp(-(times[-1] - t) / scale) for t in times]
    return max(scale * (1 - weight[0]) / sum(weight[1:]), 1.0)


def slow_times(day: Trajectory, rows: list[Row]) -> list[int]:
    """When trading began and when each order came, in time of trading."""
    begin = max(int(day.rules.trading_ns(day.start_ns)), session_ns(day.rules)[0])
    return [begin] + [int(day.rules.trading_ns(int(day.orders["time_ns"][i]))) for i, _ in rows]


def slow_states(day: Trajectory, done: SlowReplay, rows: list[Row]) -> np.ndarray:
    """States by their definitions: sums over all the past, integrals over the path of the mid price."""
    opening, closing = session_ns(day.rules)
    at = [i for i, _ in rows] + [rows[-1][0] + 1]
    times = slow_times(day, rows)
    assert done.snapshots is not None
    price, size = done.snapshots.price_ticks[at], done.snapshots.size_shares[at]
    totals = done.snapshots.totals[at]
    mids: list[int] = []
    for p, s in zip(price, size, strict=True):
        mid = sum(quotes_of(p, s))
        mids.append(mid if mid else (mids[-1] if mids else 0))
    traded = [0.0]
    for i, cancel in rows:
        sign = 0 if cancel else 1 if day.orders["kind"][i] == BID else -1
        traded.append(sign * float(done.traded_shares[i]) / day.rules.lot_shares)
    states = []
    for n in range(len(times)):
        state = [float(v) / day.rules.lot_shares for side in size[n] for v in side]
        ask, bid = quotes_of(price[n], size[n])
        state.append(ask - bid)
        for side in range(2):
            state += [abs(int(price[n][side][k]) - int(price[n][side][0])) if size[n][side][k] else 0 for k in GAPS]
        state += [*totals[n, :, 0], *(totals[n, :, 1] / day.rules.lot_shares)]
        state += [mids[n] - mids[0], (times[n] - opening) / SECOND, (closing - times[n]) / SECOND]
        state.append(slow_tempo(times[: n + 1]))
        state += lately(times[: n + 1], mids[: n + 1], traded[: n + 1])
        states.append(state)
    return np.array(states)


def lately(times: list[int], mids: list[int], traded: list[float]) -> list[float]:
    """What happened lately: entry 0 of each argument is the start, the others are orders."""
    found: list[list[float]] = [[], [], [], [], []]
    for scale in SCALES_S:
        weight = [math.exp(-(times[-1] - t) / SECOND / scale) for t in times]
        past = range(1, len(times))
        mean = mids[0] * weight[0] + sum(mids[j - 1] * (weight[j] - weight[j - 1]) for j in past)
        found[0].append(sum(weight[j] for j in past))
        found[1].append(mids[-1] - mean)
        found[2].append(sum(weight[j] * (mids[j] - mids[j - 1]) ** 2 for j in past))
        found[3].append(sum(weight[j] * traded[j] for j in past))
        found[4].append(sum(weight[j] * abs(traded[j]) for j in past))
    return [value for part in found for value in part]


def same_states(found: np.ndarray, wanted: np.ndarray) -> None:
    for name, own, other in zip(STATE, found.T, wanted.T, strict=True):
        np.testing.assert_allclose(own, other, rtol=2e-6, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_orders_and_states_equal_those_of_the_slow_twin_whatever_happens(seed: int) -> None:
    day = mixed(seed=seed)
    done, stream = slow_replay(day.rules, day.book, day.orders, LEVELS, day.end_ns), order_stream(day)
    rows = rows_of(day, done)
    assert len(stream) == len(rows) > 100
    assert {cancel for _, cancel in rows} == {True, False}
    assert not stream.books.two_sided.all()
    for n, (i, cancel) in enumerate(rows):
        sent = day.orders[i]
        wanted = (CANCEL, done.cancelled_side[i], done.cancelled_price_ticks[i], done.cancelled_shares[i], False, 0)
        if not cancel:
            ioc = bool(sent["flags"] & Flag.IOC)
            wanted = (sent["kind"], sent["kind"], sent["price_ticks"], sent["size_shares"], ioc, done.traded_shares[i])
        columns = (
            stream.kind, stream.side, stream.price_ticks, stream.size_shares, stream.ioc, stream.traded_shares,
        )  # fmt: skip
        assert tuple(column[n] for column in columns) == wanted
        assert done.snapshots is not None
        quotes = quotes_of(done.snapshots.price_ticks[i], done.snapshots.size_shares[i])
        assert tuple(stream.quotes_ticks[n]) == quotes
    times = slow_times(day, rows)
    assert stream.interval_ns.tolist() == np.diff(times).tolist()
    np.testing.assert_allclose(stream.tempo_ns, [slow_tempo(times[: n + 1]) for n in range(len(rows))], rtol=1e-9)
    assert stream.memory[BEGIN] == times[0]
    assert tempo_rows(stream.memory[None], np.array([0])) == pytest.approx(slow_tempo(times))
    same_states(stream.states, slow_states(day, done, rows))


def test_states_of_a_market_equal_those_of_the_slow_twin() -> None:
    whole = two_days(0, 20)[0]
    day = cut(whole, whole.start_ns, whole.start_ns + 30 * SECOND)
    done, stream = slow_replay(day.rules, day.book, day.orders, LEVELS, day.end_ns), order_stream(day)
    assert len(stream) > 60
    same_states(stream.states, slow_states(day, done, rows_of(day, done)))


def test_states_made_order_by_order_as_in_a_rollout_are_those_of_the_whole_day() -> None:
    day, stream = mixed(), order_stream(mixed())
    stream_rows = rows_of(day, slow_replay(day.rules, day.book, day.orders, LEVELS, day.end_ns))
    rules, memory, state = SSE_A_SHARE, new_memory(2), np.empty((1, WIDTH), np.float32)
    opening, closing = map(float, session_ns(rules))
    signed = np.where(stream.side == BID, 1, -1) * stream.traded_shares / rules.lot_shares
    mids, row = best_quotes(stream.books).sum(axis=1), np.array([1])
    begin = float(stream.clock_ns[0] - stream.interval_ns[0])
    memory[1, BEGIN] = begin
    found = replay_trajectory(day, levels=LEVELS)
    assert found.totals is not None
    totals = found.totals[[*(i for i, _ in stream_rows), stream_rows[-1][0] + 1]]
    events = [(begin, 0.0, 0.0), *((float(t), float(s), 1.0) for t, s in zip(stream.clock_ns, signed, strict=True))]
    for n, event in enumerate(events):
        remember_rows(memory, row, *(np.array([x]) for x in event), mids[n : n + 1].astype(float))
        book = (stream.books.price_ticks[n : n + 1], stream.books.size_shares[n : n + 1])
        describe_rows(memory, row, *book, totals[n : n + 1], float(rules.lot_shares), opening, closing, state)
        assert (state[0] == stream.states[n]).all()
        assert n == len(stream) or tempo_rows(memory, row) == stream.tempo_ns[n]
    assert (memory[1] == stream.memory).all()
    assert (memory[0] == 0).all()


def test_tempo_is_the_mean_of_all_intervals_while_they_are_few_and_then_of_those_of_minutes() -> None:
    times = SECOND * np.cumsum([*[2] * 10, *[1] * 2900, *[3] * 1400])
    sent = orders(clock("09:30") + times, kind=BID, price_ticks=998, size_shares=100)
    tempo = order_stream(trajectory(sent)).tempo_ns / SECOND
    assert tempo[0] == 1  # nothing is known
    assert tempo[1:10] == pytest.approx(2, rel=0.06)
    assert tempo[2910] == pytest.approx(1, rel=0.01)
    half = round(900 * math.log(2) / 3)  # so many orders later half of the weight lies on the new ones
    assert tempo[2910 + half] == pytest.approx(1 / (1 / 2 / 1 + 1 / 2 / 3), rel=0.02)
    assert tempo[-1] == pytest.approx(3, rel=0.02)


def test_the_tempo_of_a_busy_burst_hardly_depends_on_how_many_orders_it_has() -> None:
    """One that followed a number of orders would be carried away by its own orders."""
    quiet = SECOND * np.arange(1, 7001)
    burst = quiet[-1] + np.arange(1, 65) * SECOND // 1000  # as many orders as usually come in a minute
    sent = orders(clock("09:30") + np.concatenate([quiet, burst]), kind=BID, price_ticks=998, size_shares=100)
    tempo = order_stream(trajectory(sent)).tempo_ns / SECOND
    assert tempo[7000] == pytest.approx(1, rel=0.01)
    assert tempo[-1] == pytest.approx(900 / (900 + 63), rel=0.01)


def test_orders_of_others_are_no_part_of_the_tempo_and_time_that_passes_is() -> None:
    memory, row = new_memory(1), np.array([0])

    def after(second: float, counts: float) -> float:
        remember_rows(memory, row, *(np.array([x]) for x in (second * SECOND, 1.0, counts, 0.0)))
        return float(tempo_rows(memory, row)[0]) / SECOND

    assert after(2, 1.0) == pytest.approx(2, rel=0.01)
    assert [after(second, 0.0) for second in (3, 5)] == pytest.approx([3, 5], rel=0.02)
    assert after(6, 1.0) == pytest.approx(3, rel=0.02)


def test_orders_that_all_come_at_once_have_a_tempo_of_a_nanosecond() -> None:
    sent = orders(np.repeat(clock("09:30"), 5), kind=BID, price_ticks=998, size_shares=100)
    assert order_stream(trajectory(sent)).tempo_ns.tolist() == [FIRST_TEMPO_NS, 1, 1, 1, 1]


def test_lunch_is_no_part_of_an_interval_and_the_first_counts_from_the_start() -> None:
    stream = order_stream(
        trajectory(messages(message("11:29:59", BID, 998), message("13:00:02", BID, 998)), start="11:29:30")
    )
    assert (stream.interval_ns / SECOND).tolist() == [29, 3]
    assert (stream.clock_ns / SECOND).tolist() == [7199, 7202]
    assert stream.states[-1][STATE.index("seconds_since_open")] == 7202
    assert stream.states[-1][STATE.index("seconds_to_close")] == 237 * 60 - 7202


def test_a_period_from_before_the_open_begins_at_the_open() -> None:
    sent = messages(message("09:16", BID, 998), message("09:30:07", BID, 998), message("14:58", BID, 998))
    stream = order_stream(trajectory(sent, start="09:15"))
    assert len(stream) == 1  # call auctions are left out
    assert stream.interval_ns.tolist() == [7 * SECOND]
    assert stream.states[0][STATE.index("seconds_since_open")] == 0


def test_a_replace_is_a_cancel_and_an_order_in_a_row_of_each() -> None:
    stream = order_stream(trajectory(message("09:31", BID, 1001, 500, order_id=13, flags=Flag.REPLACE)))
    assert stream.kind.tolist() == [CANCEL, BID]
    assert stream.side.tolist() == [BID, BID]
    assert stream.price_ticks.tolist() == [999, 1001]
    assert stream.size_shares.tolist() == [300, 500]
    assert stream.traded_shares.tolist() == [0, 300]
    assert (stream.interval_ns / SECOND).tolist() == [60, 0]


def test_a_cancel_counts_what_it_takes_off_the_book_and_where() -> None:
    sent = messages(
        message("09:31", CANCEL, size=100, order_id=14),
        message("09:32", CANCEL, size=0, order_id=14),
        message("09:33", CANCEL, size=0, order_id=14),  # is gone already
        message("09:34", CANCEL, 1003, 200, flags=Flag.BY_LEVEL),
    )
    stream = order_stream(trajectory(sent))
    assert stream.size_shares.tolist() == [100, 200, 200]
    assert stream.price_ticks.tolist() == [998, 998, 1003]
    assert stream.side.tolist() == [BID, BID, ASK]


def test_agents_rejected_orders_and_seeded_volume_are_left_out_but_seen_in_the_book() -> None:
    sent = messages(
        message("09:31", BID, 1000, 100, owner=AGENT),
        message("09:32", BID, 1000, 150),  # no whole lot
        message("12:00", BID, 1000, 100),  # lunch
        message("13:01", ASK, 1000, 200, flags=Flag.SEEDED),
        message("13:02", BID, 997, 700),
    )
    stream = order_stream(trajectory(sent))
    assert stream.size_shares.tolist() == [700]
    assert stream.quotes_ticks.tolist() == [[1000, 999]]
    assert stream.states[0][STATE.index("ask_volume_1")] == 1  # what the agent's order has left
    assert stream.states[1][STATE.index("volume_3600s")] == 0


@pytest.mark.parametrize(
    ("book", "quotes", "spread"),
    [
        (resting(asks=range(1003, 1005), bids=range(0)), [1003, 1002], 1),
        (resting(asks=range(0), bids=range(997, 995, -1)), [998, 997], 1),
        (BookState(), [0, 0], 0),
        (resting(asks=range(1004, 1005), bids=range(997, 996, -1)), [1004, 997], 7),
    ],
)
def test_an_empty_side_has_a_stand_in_one_tick_from_the_other(book: BookState, quotes: list[int], spread: int) -> None:
    stream = order_stream(trajectory(message("09:31", BID, 990), book))
    assert stream.quotes_ticks.tolist() == [quotes]
    assert stream.states[0][STATE.index("spread")] == spread
    assert stream.states[0][STATE.index("bid_volume_1")] == (3 if quotes[1] == 997 else 0)


def test_a_market_that_begins_without_quotes_counts_its_mid_from_the_first_ones() -> None:
    sent = messages(message("09:31", BID, 990), message("09:32", ASK, 1000), message("09:33", BID, 994))
    states = order_stream(trajectory(sent, BookState())).states
    assert states[:, STATE.index("mid_since_open")].tolist() == [0, 0, 9, 13]  # half ticks: 1981, 1990, 1994
    moves = states[:, STATE.index("moves_3600s")]
    assert moves[1] == 0
    assert moves[3] == pytest.approx(81 * math.exp(-1 / 60) + 16)


def test_quotes_of_a_book_without_any_stand_around_the_last_trade() -> None:
    quotes = np.array([[0, 0], [1001, 999], [0, 0]])
    assert quotes_or(quotes, np.array([500, 600, 700])).tolist() == [[501, 500], [1001, 999], [701, 700]]


def test_best_quotes_look_at_sizes_and_not_at_the_prices_of_levels_that_are_not_there() -> None:
    price = np.array([[[NO_PRICE], [NO_PRICE]], [[5], [NO_PRICE]], [[NO_PRICE], [-3]], [[-1], [-4]]], np.int32)
    size = np.array([[[0], [0]], [[1], [0]], [[0], [1]], [[1], [1]]])
    assert best_quotes(Snapshots(price, size)).tolist() == [[0, 0], [5, 4], [-2, -3], [-1, -4]]


def test_a_period_without_orders_has_one_state() -> None:
    stream: OrderStream = order_stream(trajectory(orders(kind=[])))
    assert len(stream) == 0
    assert stream.states.shape == (1, WIDTH)
    assert stream.states[0][STATE.index("ask_volume_1")] == 3


def test_rules_without_continuous_trading_are_an_error() -> None:
    phase = replace(CONTINUOUS.phases[0], kind=PhaseKind.AUCTION)
    rules = replace(CONTINUOUS, name="CALLS", phases=(phase,))
    with pytest.raises(ValueError, match="rules CALLS have no continuous trading"):
        order_stream(trajectory(orders(kind=[]), rules=rules))


@pytest.mark.parametrize("n", [0, 1, 40, 10_000])
def test_the_last_orders_of_a_stream_keep_their_states(n: int) -> None:
    stream = order_stream(mixed())
    last, first = stream.last(n), max(len(stream) - n, 0)
    assert len(last) == min(n, len(stream))
    assert last.instrument == stream.instrument
    for name in ("clock_ns", "interval_ns", "tempo_ns", "kind", "price_ticks", "size_shares", "ioc", "quotes_ticks"):
        assert (getattr(last, name) == getattr(stream, name)[first:]).all()
    assert (last.states == stream.states[first:]).all()
    assert (last.books.size_shares == stream.books.size_shares[first:]).all()
    assert len(last.states) == len(last.books.price_ticks) == len(last) + 1
    assert last.memory is stream.memory
