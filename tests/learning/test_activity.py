"""How busy training was at most, by half hour: counted moment by moment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from markets import two_days
from marsbench.learning.activity import EVERY_S, SHARE, STRETCH_S, Activity, Seen
from marsbench.learning.order_stream import SCALES_S, STATE, OrderStream, order_stream

SINCE, LEFT = STATE.index("seconds_since_open"), STATE.index("seconds_to_close")


def day(seconds: np.ndarray, rates: np.ndarray, length: float = 2 * STRETCH_S) -> OrderStream:
    """Orders at those seconds, right before which a rate stands on every scale."""
    stream = order_stream(two_days()[0])
    states = np.zeros((len(seconds), len(STATE)), np.float32)
    states[:, SINCE], states[:, LEFT] = seconds, length - seconds
    for k, scale in enumerate(SCALES_S):
        states[:, STATE.index(f"orders_{scale:g}s")] = rates * (k + 1)
    return replace(stream, states=states)


def test_the_busiest_rate_is_the_one_that_all_but_one_moment_in_a_hundred_stay_below() -> None:
    seconds = np.arange(0, 2 * STRETCH_S, 2.0)
    rates = np.where(seconds < STRETCH_S, 100 + seconds, 7.0)
    activity = Activity()
    activity.add("X", Seen.of(day(seconds, rates)))
    first, second = activity.busiest()["X"]
    moments = np.arange(0, STRETCH_S, EVERY_S)
    known = 100 + 2 * (moments // 2)
    assert first == pytest.approx(np.quantile(known, SHARE) * np.arange(1, 6), rel=0.01)
    assert second == pytest.approx(7.0 * np.arange(1, 6))


def test_a_burst_of_orders_counts_as_long_as_it_lasts() -> None:
    calm = np.arange(0, STRETCH_S, 5.0)
    burst = 900 + np.linspace(0, 4, 5000)  # most orders of the half hour, a moment of its time
    seconds = np.sort(np.concatenate([calm, burst]))
    rates = np.where((seconds >= 900) & (seconds <= 904), 1000.0, 10.0)
    activity = Activity()
    activity.add("X", Seen.of(day(seconds, rates, STRETCH_S)))
    assert activity.busiest()["X"][0][0] == 10


def test_a_half_hour_without_training_takes_the_busiest_of_all() -> None:
    seconds = np.arange(0, STRETCH_S, 5.0)
    activity = Activity()
    activity.add("X", Seen.of(day(seconds, np.full(len(seconds), 20.0), 4 * STRETCH_S)))
    activity.add("X", Seen.of(day(seconds + STRETCH_S, np.full(len(seconds), 30.0), 4 * STRETCH_S)))
    activity.add("Y", Seen.of(day(seconds, np.zeros(len(seconds)), STRETCH_S)))
    found = activity.busiest()
    assert [row[0] for row in found["X"]] == [20, 30, 30, 30]
    assert found["Y"] == ((1.0,) * 5,)  # never below one order
