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
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from marsbench.fitting import spread_periods
from marsbench.learning.balance import PARTITIONS, SINCE_OPEN_S, TOKENS, Edges, shape
from marsbench.learning.layouts import TouchLayout
from marsbench.learning.noisy_session import NoisySession
from marsbench.learning.order_players import OrderMaker
from marsbench.learning.order_stream import STATE
from marsbench.learning.raking import Draws, apart, rake
from marsbench.learning.token_files import TokenFiles, Windows
from marsbench.learning.tokeniser import Tokeniser
from marsbench.market.rules import MINUTE
from marsbench.parallel import in_processes
from marsbench.simulation.contracts import Artifact, Rows, Session, SessionGenerator, Start
from marsbench.simulation.randomness import Streams
from marsbench.simulation.rollout import simulate
from marsbench.simulation.runaway import busiest
from marsbench.simulation.training_starts import clocks_within, start_within

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Stage(NamedTuple):
    """The simulations of some of the rounds."""

    minutes: int
    rows: int
    """Side by side."""


STAGES = (Stage(5, 240), Stage(20, 120), Stage(80, 60))
"""Of each third of the rounds. A drift that short simulations do not show leads long ones far away, and long ones are
not worth their time before the short ones are right."""
LEAST_MINUTES = 20
"""The last stage is shorter where training periods are, but not shorter than this."""
PARTS = 8
"""Simulations are spread over processes in so many parts."""
EVERY_MINUTES = 10
"""Starts may lie so far apart, and the first one so far from the beginning of a period."""
GOLDEN = 0.5 * (5**0.5 - 1)
PERIODS = 24
"""Of each instrument, which starts are taken from."""
KEPT = 3
"""Rounds whose simulations count together."""
DRAWS = 250_000
"""So many draws of each field and round count at most, chosen at random."""
WINDOWS, LENGTH = 8192, 128
"""Training orders that say how often what should come: windows, and orders in each."""


class Wanted:
    """What training does: edges of partitions, and counts ``[cells, slots]`` by field.

    Orders of the first minutes of a session, before any simulation begins, do not count.

    Raises
    ------
    ValueError
        If there are no others.
    """

    def __init__(self, files: TokenFiles, tokeniser: Tokeniser) -> None:
        length = min(LENGTH, max(p.rows for p in files.parts) - 1)
        windows = Windows(files, length, 0)
        batch = windows.batch(0, min(WINDOWS, windows.per_epoch))
        group = np.repeat(batch["group"], length)
        features = batch["features"][:, 1:].reshape(len(group), -1)
        tokens = batch["tokens"][:, 1:].reshape(len(group), -1).astype(np.int64)
        layout = cast(TouchLayout, tokeniser.layout)
        opened = layout.scaler.column("seconds_since_open", SINCE_OPEN_S)
        since = features[:, STATE.index("seconds_since_open")].astype(np.float32)
        later = since > layout.scaler.column("seconds_since_open", (EVERY_MINUTES * 60.0,))[group, 0]
        if not later.any():
            raise ValueError(f"no training order comes later than {EVERY_MINUTES} minutes after the open")
        features, group, tokens = features[later], group[later], tokens[later]
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

    def draws(self, most: int, rng: np.random.Generator) -> dict[str, Draws]:
        """What was drawn from, at most so much of it, by field; fields that nothing was drawn of are left out."""
        out = {}
        for field, parts in self.kept.items():
            if parts:
                whole = Draws.joined(parts)
                some = np.sort(rng.permutation(len(whole.cells))[:most])
                out[field] = Draws(whole.cells[some], whole.logits[some])
        return out


def stages_for(dataset: Dataset, periods: Sequence[Period]) -> tuple[Stage, ...]:
    """The stages, no longer than the longest period has room for.

    Raises
    ------
    ValueError
        If there is no room for ``LEAST_MINUTES``.
    """
    longest = max((p.end_ns - p.start_ns for p in periods), default=0) // MINUTE
    if longest < EVERY_MINUTES + LEAST_MINUTES:
        raise ValueError(
            f"{dataset.name}: no training period lasts {EVERY_MINUTES + LEAST_MINUTES} minutes, as fitting biases in "
            "simulations needs: give more data, or train with rounds=0"
        )
    return tuple(stage._replace(minutes=min(stage.minutes, longest - EVERY_MINUTES)) for stage in STAGES)


def round_starts(dataset: Dataset, periods: Sequence[Period], number: int, stage: Stage, *, rounds: int) -> list[Start]:
    """Starts of a round, spread over times and days of training; each round uses others where there are enough.

    Raises
    ------
    ValueError
        If none has so many minutes of trading after it (periods are long enough on the clock, but lunch is in them).
    """
    room = (EVERY_MINUTES + stage.minutes) * MINUTE
    by_name: dict[str, list[Period]] = {}
    for period in spread_periods([p for p in periods if p.end_ns - p.start_ns >= room], PERIODS):
        by_name.setdefault(period.instrument, []).append(period)
    starts = []
    for at, own in enumerate(by_name.values()):
        days = [dataset.trajectory(p) for p in own[number % min(rounds, len(own)) :: rounds]]
        every = [
            (day, clock) for day in days for clock in clocks_within(day, minutes=stage.minutes, every=EVERY_MINUTES)[1:]
        ]
        most = min(max(stage.rows // len(by_name), 1), len(every))
        shift = (at + number) * GOLDEN % 1.0  # instruments with a start each do not all begin at the same time
        starts += [start_within(*every[int((k + shift) * len(every) / most)]) for k in range(most)]
    if not starts:
        raise ValueError(
            f"{dataset.name}: nowhere in training do {stage.minutes} minutes of trading follow the first "
            f"{EVERY_MINUTES}: give more data, or train with rounds=0"
        )
    return starts


def _simulated(inside: _Inside, starts: Sequence[Start], stage: Stage, key: int) -> dict[str, Draws]:
    """What was drawn in simulations from these starts.

    Raises
    ------
    ValueError
        If nothing was.
    """
    rollouts, most = max(stage.rows // len(starts), 1), busiest(start.history for start in starts)
    calls = []
    for rules in dict.fromkeys(start.rules for start in starts):
        own = [start for start in starts if start.rules == rules]
        calls += [(inside, own[part::PARTS], rollouts, stage.minutes, key, part, most) for part in range(PARTS)]
    found: dict[str, list[Draws]] = {field: [] for field in PARTITIONS}
    for draws in in_processes(-1, _part, [call for call in calls if call[1]]):
        for field, drawn in draws.items():
            found[field].append(drawn)
    if not found["type"]:
        raise ValueError(f"no order came in {stage.minutes} minutes of simulations: the maker has learned nothing")
    return {field: Draws.joined(parts) for field, parts in found.items()}


def _part(
    inside: _Inside, starts: list[Start], rollouts: int, minutes: int, key: int, part: int, most: Mapping[str, int]
) -> dict[str, Draws]:
    """Those of a part of the starts."""
    simulate(inside, starts, rollouts, minutes * MINUTE, key=key, most_orders=most)
    return inside.draws(DRAWS // PARTS, np.random.default_rng([key, part]))


def balance(
    maker: OrderMaker,
    tokeniser: Tokeniser,
    files: TokenFiles,
    starts: Callable[[int, Stage], Sequence[Start]],
    stages: Sequence[Stage],
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
        Gives starts of a round by its number and stage.
    stages
        Of equal shares of the rounds.

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
        stage = stages[number * len(stages) // rounds]
        inside = _Inside(maker, tokeniser, context)
        lately.append(_simulated(inside, starts(number, stage), stage, seed + number))
        for field, own in found.items():
            own.append(apart(lately[-1][field], wanted.counts[field], biases[field]))
            together = Draws.joined(draws[field] for draws in lately)
            biases[field] = rake(together, wanted.counts[field], biases[field])
        maker.balance.put(wanted.edges, biases)
        text = ", ".join(f"{field} {own[-1]:.3f}" for field, own in found.items())
        say(f"balance, round {number + 1} of {rounds}: over {stage.minutes} minutes frequencies were off by {text}")
    return found
