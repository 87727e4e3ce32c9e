"""``chiarella``: fundamentalists, chartists and noise traders in an order-driven market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marsbench.market.trajectory import Trajectory
from marsbench.simulation.contracts import Artifact, Budget, Session, SessionGenerator, Start

from .calibration import Settings, calibrate
from .model import Model, load, save
from .report import notes_of, write_report
from .session import ChiarellaSession, Past, log_mids


class Chiarella(SessionGenerator):
    """Agents who expect a return from fundamentals, trend and noise, and order what maximises their utility.

    After Chiarella, Iori and Perello (2009; arXiv:0711.3581), section 2. Agents are chosen one at a time. An agent
    weighs its components with g1, g2 and n, exponential with means sigma_1, sigma_2 and 1; its horizon is tau (1 + g1)
    / (1 + g2), its risk aversion alpha (1 + g1) / (1 + g2). The expected return over the horizon is ``x = (g1
    ln(fundamental / p) + g2 trend + n noise) / (g1 + g2 + n)``, the expected price ``p_hat = p exp(x)``. Under
    constant absolute risk aversion it wants to hold ``pi(p) = ln(p_hat / p) / (alpha V p)`` shares, V being the
    variance of past returns. It draws its price evenly between p_m, where buying ``pi(p_m) - S`` takes all its cash,
    and ``p_M = p_hat``; below p*, where ``pi(p*) = S``, it buys, above it sells, ``|pi(p) - S|`` shares; where the
    price crosses the opposite quote, the demand at that quote, and what does not trade rests at the price that was
    drawn. Agents of others are met through the book: their orders move mid, quotes and queues, and with them
    expectations and lifetimes.

    Otherwise than there:

    - Time. Agents come by a Poisson clock whose rate follows the season of the training days, instead of one a step.
      The price is the mid. Past returns are those of the mid in steps of ten seconds; trend and variance are
      exponentially weighted, with the memory among nine octaves that is nearest to the agent's horizon. The trend is
      the mid over its average.
    - Lifetimes. An order does not expire after its agent's horizon, but at a rate by its distance from the opposite
      quote, as estimated from training and in season; within a level the newest goes first, as a whole.
    - Agents have no memory: weights, stock S and cash C (uniform up to one largest value) are drawn when an agent is
      chosen, instead of kept for 5000 of them. Nobody sells more than its stock or buys for more than its cash, at the
      opposite quote either.
    - Sizes. Largest stocks are drawn from the sizes of training's orders, so scaled that an order has their mean
      between quotes of training's mean spread, and risk aversion falls with wealth; sizes are rounded to lots, at
      least one. Prices are rounded to the agent's advantage.
    - Expectations count from a market that pays for risk: p_hat is raised by half of what separates p_M from p_m, so
      that agents without an opinion quote evenly around the mid. Otherwise the price sinks until it pays.
    - Fundamental value: a geometric random walk from the mid of the start, with the volatility of five-minute returns
      in training. The time in which fundamentalists expect it to be reached is their own horizon.
    - Bounds: horizons and risk aversions within a factor of 16 of tau and alpha, expected returns within 20%, V within
      a factor of 4 of training's: quotes widen with V and V with quotes, and without the last bound a volatile market
      would become ever more so. ``notes`` tells how often it held.

    Arrivals, season, sizes, lifetimes, the variance and the fundamental volatility are estimated directly. Noise,
    width of the quoting range (alpha V wealth), sigma_1, sigma_2 and tau are found by the simulated method of moments:
    nine moments (``moments.py``) of training windows against those of simulations from windows of training, all with
    the same random numbers. The published parameters, converted (``published``), are the first candidate, then come
    Sobol points in a wide box, then narrowing boxes around the best and damped Gauss-Newton steps from it. Weights are
    inverse variances over blocks of training days, with a floor, and no covariances: ten days are too few for those of
    nine moments. So J ranks candidates; it is no test of the model. The artifact's ``models.json`` says what was
    found, with the moments of both, J and the budget; a fit that lies at a bound of the search, or comes no nearer than
    the published parameters, says so.

    Parameters
    ----------
    simulations
        So many candidates are simulated.
    starts
        Training windows that each is simulated from, for every instrument.
    minutes
        Length of a window.
    season_minutes
        Width of the bins of the intraday activity.
    """

    name = "chiarella"
    version = 1
    checkpoints = Path(__file__).parent / "checkpoints"
    training_days = 10
    reacts = True
    summary = "fundamentalists, chartists and noise traders in an order book, simulated method of moments"
    source = (
        "Chiarella, Iori, Perello (2009), The impact of heterogeneous trading rules on the limit order book and order "
        "flows"
    )

    def __init__(
        self, simulations: int = 120, starts: int = 16, minutes: int = 15, season_minutes: float = 15.0
    ) -> None:
        if simulations < 1 or starts < 1 or minutes < 6 or season_minutes <= 0:
            raise ValueError(
                "chiarella takes simulations >= 1, starts >= 1, minutes >= 6 and season_minutes > 0; got "
                f"simulations={simulations}, starts={starts}, minutes={minutes}, season_minutes={season_minutes}"
            )
        self.settings = Settings(simulations, starts, minutes, season_minutes)
        self.models: dict[str, Model] = {}

    def parameters(self) -> Mapping[str, Any]:
        return vars(self.settings)

    def fit(self, data: Sequence[Trajectory], folder: Path, *, seed: int, budget: Budget) -> Artifact:
        del budget
        by_instrument: dict[str, list[Trajectory]] = {}
        for period in data:
            by_instrument.setdefault(period.instrument, []).append(period)
        models = calibrate(by_instrument, self.settings, seed=seed)
        save(models, Path(folder))
        write_report(models, Path(folder))
        notes = notes_of(models)
        return Artifact.write(folder, generator=self.name, version=self.version, seed=seed, data=data, notes=notes)

    def load(self, artifact: Artifact) -> None:
        self.publish(load(artifact.folder))

    @classmethod
    def of(cls, models: Mapping[str, Model]) -> Chiarella:
        """A generator with given models by instrument."""
        made = cls()
        made.publish(models)
        return made

    def publish(self, models: Mapping[str, Model]) -> None:
        """Use given models by instrument instead of fitted ones."""
        self.models = dict(models)

    def open(self, starts: Sequence[Start], rollouts: int, *, key: int, control: Any = None) -> Session:
        missing = {s.instrument for s in starts} - set(self.models)
        if missing:
            raise ValueError(f"chiarella was not fitted on {sorted(missing)}; it knows {sorted(self.models)}")
        models = [self.models[s.instrument] for s in starts]
        pasts = [Past(log_mids(s), m) for s, m in zip(starts, models, strict=True)]
        return ChiarellaSession(models, starts, pasts, rollouts, key)
