"""``hawkes``: order flow as a multivariate Hawkes process, fitted by maximum likelihood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Artifact, Budget, Session, SessionGenerator, Start
from marsbench.simulation.randomness import Streams

from .fitting import Model, Settings, calibrate, load, save
from .session import HawkesSession, Tables, excited_by


class HawkesFlow(SessionGenerator):
    """Sixteen types of events that excite each other: a mutually exciting process of limit, market and cancel orders.

    On each side: limit orders inside the spread, at the touch, near and far behind it; orders that trade; cancels at
    the touch, near and far. Near ends at the median distance of orders behind the touch in training. Intensities are
    ``mu_i s(t)`` plus kernels that are sums of exponentials with given rates (Bacry, Mastromatteo, Muzy 2015, section
    2; Ogata 1981, 1988 for the likelihood and the residuals); order flow in types by their place in the book follows
    Lu and Abergel (2018). Each instrument is fitted by itself.

    Otherwise than there: Lu and Abergel fit decay rates too and have at most two types of each order by whether it
    moves the price, here rates are given and types go by distance. A type that the book makes impossible (nothing to
    cancel, nothing to trade with, no room inside the spread) has intensity 0 while that lasts: its events are thinned
    away, the fit counts only the time when it was possible, and ``notes`` tells how many events were lost. Beyond that
    intensities do not depend on the book, so queues and spread wander as the flow lets them. Orders have no size in
    the intensity: an agent's order counts once, however large, and not at all where it rests further away than
    99% of training's limit orders. Sizes and distances are drawn from training given the type, independent of the
    past; a limit order inside the spread draws its distance from the opposite best among those that fit, one at the
    touch or behind its distance from its own best. Training cancels parts of orders too, here a cancel takes a whole
    order of the market's. Events at equal times excite each other in their order. A period of training starts with
    nothing before it; a simulation with its starting sequence.

    Parameters
    ----------
    events
        The likelihood takes the latest so many events of an instrument; season, sizes and distances all of training.
    fast_s, slow_s, decays
        Memories (1 / decay rate): so many, in equal ratios from the first to the second, seconds.
    season_minutes
        Width of the bins of the intraday baseline.
    symmetric
        Impose that the two sides are mirror images in their intensities (never in sizes and distances).
    """

    name = "hawkes"
    version = 1
    training_days = 10
    reacts = True
    by_default = False
    summary = "mutually exciting limit, market and cancel flow by place in the book, maximum likelihood"
    source = (
        "Bacry, Mastromatteo, Muzy (2015), Hawkes processes in finance; Lu, Abergel (2018), High-dimensional Hawkes "
        "processes for limit order books; Ogata (1988), Statistical models for earthquake occurrences"
    )

    def __init__(
        self,
        events: int = 100_000,
        fast_s: float = 0.1,
        slow_s: float = 60.0,
        decays: int = 3,
        season_minutes: float = 15.0,
        symmetric: bool = True,
    ) -> None:
        if events < 1 or decays < 1 or not 0 < fast_s <= slow_s or season_minutes <= 0:
            raise ValueError(
                "hawkes takes events >= 1, decays >= 1, 0 < fast_s <= slow_s and season_minutes > 0; got "
                f"events={events}, decays={decays}, fast_s={fast_s}, slow_s={slow_s}, season_minutes={season_minutes}"
            )
        self.options = {
            "events": events,
            "fast_s": fast_s,
            "slow_s": slow_s,
            "decays": decays,
            "season_minutes": season_minutes,
            "symmetric": symmetric,
        }
        rates = tuple(1.0 / np.geomspace(fast_s, slow_s, decays))
        self.settings = Settings(events, rates, season_minutes, symmetric)
        self.models: dict[str, Model] = {}

    def parameters(self) -> Mapping[str, Any]:
        return self.options

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        del budget
        by_instrument: dict[str, list[Trajectory]] = {}
        for period in data:
            by_instrument.setdefault(period.instrument, []).append(period)
        save({name: calibrate(periods, self.settings) for name, periods in by_instrument.items()}, Path(folder))
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data)

    def load(self, artifact: Artifact) -> None:
        self.publish(load(artifact.folder))

    def publish(self, models: Mapping[str, Model]) -> None:
        """Use given models by instrument instead of fitted ones."""
        self.models = dict(models)

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        missing = {s.instrument for s in starts} - set(self.models)
        if missing:
            raise ValueError(f"hawkes was not fitted on {sorted(missing)}; it knows {sorted(self.models)}")
        names = sorted({s.instrument for s in starts})
        kinds = np.repeat([names.index(s.instrument) for s in starts], rollouts).astype(np.int64)
        excited = np.stack([excited_by(s, self.models[s.instrument]) for s in starts])
        streams = Streams.of(key, [s.uid for s in starts], rollouts)
        return HawkesSession(Tables([self.models[n] for n in names]), kinds, streams, starts, excited)
