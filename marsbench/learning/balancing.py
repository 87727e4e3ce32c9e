"""Fits the biases of ``marsbench.learning.balance`` inside a maker's own simulations.

Each round simulates from training starts with the biases so far, and keeps what the maker's own logits were at each
order. Biases are then found (``marsbench.learning.raking``) with which, in the states that the last simulations came
to, every slot comes as often as in training in each cell of each partition. The next round shows whether that holds
where these biases lead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from marsbench.fitting import spread_periods
from marsbench.learning.balance import PARTITIONS, SINCE_OPEN_S, TOKENS, Edges, shape
from marsbench.learning.layouts import TouchLayout
from marsbench.learning.noisy_session import NoisySession
from marsbench.learning.order_players import OrderMaker
from marsbench.learning.raking import Draws, apart, rake
from marsbench.learning.token_files import TokenFiles, Windows
from marsbench.learning.tokeniser import Tokeniser
from marsbench.market.rules import MINUTE
from marsbench.simulation.contracts import Artifact, Rows, Session, SessionGenerator, Start
from marsbench.simulation.randomness import Streams
from marsbench.simulation.rollout import simulate
from marsbench.simulation.runaway import busiest
from marsbench.simulation.training_starts import clocks_within, start_within

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MINUTES = (5, 10, 20)
"""Of the simulations of each third of the rounds."""
ROWS = 240
"""Simulations side by side."""
EVERY_MINUTES = 10
"""Starts may lie so far apart."""
PERIODS = 24
"""Of each instrument, which starts are taken from."""
KEPT = 3
"""Rounds whose simulations count together."""
DRAWS = 250_000
"""Of each field and round every so-manieth draw counts, so that at least so many are left, less than twice as many."""
WINDOWS, LENGTH = 8192, 128
"""Training orders that say how often what should come: windows, and orders in each."""


class Wanted:
    """What training does: edges of partitions, and counts ``[cells, slots]`` by field."""

    def __init__(self, files: TokenFiles, tokeniser: Tokeniser) -> None:
        length = min(LENGTH, max(p.rows for p in files.parts) - 1)
        windows = Windows(files, length, 0)
        batch = windows.batch(0, min(WINDOWS, windows.per_epoch))
        group = np.repeat(batch["group"], length)
        features = batch["features"][:, 1:].reshape(len(group), -1)
        tokens = batch["tokens"][:, 1:].reshape(len(group), -1).astype(np.int64)
        layout = cast(TouchLayout, tokeniser.layout)
        opened = layout.scaler.column("seconds_since_open", SINCE_OPEN_S)
        self.edges = Edges.fit(features, group, opened)
        self.counts: dict[str, Floats] = {}
        for field in PARTITIONS:
            cells = self.edges.cells(field, features, group, tokens)
            self.counts[field] = np.zeros(shape(field, len(opened)))
            np.add.at(self.counts[field], (cells, tokens[:, TOKENS[field], None]), 1.0)


class _Recording(NoisySession):
    """Keeps what is drawn from."""

    kept: Mapping[str, list[Draws]]

    def _weighed(self, field: str, rows: Rows, logits: Floats, possible: NDArray[np.bool_], drawn: Ints) -> Floats:
        plain = np.where(possible, logits, -np.inf).astype(np.float32)
        self.kept[field].append(Draws(self._cells(field, rows, drawn).astype(np.int32), plain))
        return super()._weighed(field, rows, logits, possible, drawn)


class _Inside(SessionGenerator):
    """Opens recording sessions of a maker."""

    name = "balancing"

    def __init__(self, maker: OrderMaker, tokeniser: Tokeniser, context: int) -> None:
        self.maker, self.tokeniser, self.context = maker, tokeniser, context
        self.kept: dict[str, list[Draws]] = {field: [] for field in PARTITIONS}

    def fit(self, data: Any, folder: Path, *, seed: int, budget: Any) -> Artifact:
        raise TypeError("a maker that is being balanced is not fitted")

    def load(self, artifact: Artifact) -> None:
        raise TypeError("a maker that is being balanced is not loaded")

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        streams = Streams.of(key, [s.uid for s in starts], rollouts)
        session = _Recording(self.maker, self.tokeniser, starts, rollouts, streams, context=self.context)
        session.kept = self.kept
        return session

    def draws(self) -> dict[str, Draws]:
        """What was drawn from by field, thinned."""
        out = {}
        for field, parts in self.kept.items():
            whole = Draws.joined(parts)
            step = max(len(whole.cells) // DRAWS, 1)
            out[field] = Draws(whole.cells[::step], whole.logits[::step])
        return out


def long_enough(dataset: Dataset, periods: Sequence[Period]) -> list[Period]:
    """Periods that last so long on the clock that the longest simulations have room.

    Raises
    ------
    ValueError
        If there are none.
    """
    least = EVERY_MINUTES + max(MINUTES)
    found = [p for p in periods if p.end_ns - p.start_ns >= least * MINUTE]
    if not found:
        raise ValueError(
            f"{dataset.name}: no training period lasts {least} minutes, as fitting biases in simulations needs: give "
            "more data, or train with rounds=0"
        )
    return found


def round_starts(dataset: Dataset, periods: Sequence[Period], number: int, minutes: int, *, rounds: int) -> list[Start]:
    """Starts of a round, evenly over times and days of training; each round uses other days where there are enough."""
    by_name: dict[str, list[Period]] = {}
    for period in spread_periods(long_enough(dataset, periods), PERIODS):
        by_name.setdefault(period.instrument, []).append(period)
    starts = []
    for own in by_name.values():
        days = [dataset.trajectory(p) for p in own[number % min(rounds, len(own)) :: rounds]]
        every = [(day, clock) for day in days for clock in clocks_within(day, minutes=minutes, every=EVERY_MINUTES)[1:]]
        most = min(max(ROWS // len(by_name), 1), len(every))
        starts += [start_within(*every[i]) for i in np.linspace(0, len(every) - 1, most).round().astype(int)]
    return starts


def _simulated(inside: _Inside, starts: Sequence[Start], minutes: int, key: int) -> dict[str, Draws]:
    """What was drawn in simulations from these starts.

    Raises
    ------
    ValueError
        If nothing was.
    """
    most = busiest(start.history for start in starts)
    for rules in dict.fromkeys(start.rules for start in starts):
        own = [start for start in starts if start.rules == rules]
        simulate(inside, own, max(ROWS // len(starts), 1), minutes * MINUTE, key=key, most_orders=most)
    if not inside.kept["type"]:
        raise ValueError(f"no order came in {minutes} minutes of simulations: the maker has learned nothing")
    return inside.draws()


def balance(
    maker: OrderMaker,
    tokeniser: Tokeniser,
    files: TokenFiles,
    starts: Callable[[int, int], Sequence[Start]],
    *,
    rounds: int,
    context: int,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, list[float]]:
    """Fit the biases of a maker in place.

    Parameters
    ----------
    files
        Of training.
    starts
        Gives starts of a round by its number and the minutes of its simulations.

    Returns
    -------
    dict
        By field and round, how far frequencies were off before its correction (``raking.apart``).

    Raises
    ------
    Runaway
        If a simulation sends far more orders than came before any of its round's starts.
    ValueError
        If nothing comes in the simulations of a round.
    """
    wanted = Wanted(files, tokeniser)
    biases = {field: np.zeros(counts.shape) for field, counts in wanted.counts.items()}
    lately: deque[dict[str, Draws]] = deque(maxlen=KEPT)
    found: dict[str, list[float]] = {field: [] for field in PARTITIONS}
    maker.balance.put(wanted.edges, biases)
    for number in range(rounds):
        minutes = MINUTES[number * len(MINUTES) // rounds]
        lately.append(_simulated(_Inside(maker, tokeniser, context), starts(number, minutes), minutes, seed + number))
        for field, own in found.items():
            own.append(apart(lately[-1][field], wanted.counts[field], biases[field]))
            together = Draws.joined(draws[field] for draws in lately)
            biases[field] = rake(together, wanted.counts[field], biases[field])
        maker.balance.put(wanted.edges, biases)
        text = ", ".join(f"{field} {own[-1]:.3f}" for field, own in found.items())
        say(f"balance, round {number + 1} of {rounds}: over {minutes} minutes frequencies were off by {text}")
    return found
