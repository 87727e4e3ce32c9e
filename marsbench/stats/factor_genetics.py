"""A small genetic search for factors: typed templates whose genes are series, windows, weights, levels, transforms.

In the spirit of MarS (ICLR 2025, section 4.2), which bred factors from volumes and prices before the trade and had
experts refine them. Every template is known before the start and takes one value per start and side, so a population
is judged from sums over starts and sides, without going back to the metaorders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marsbench.stats.factor_search import JITTER, fold_labels, standardised

if TYPE_CHECKING:
    from marsbench.impact_runs import ImpactRuns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

WINDOWS = (1, 2, 3, 5, 10, 15, 20, 30)
"""Minutes before the start."""
DECAYS = (0.0, 0.1, 0.3, 1.0)
"""Weights fall by exp(-decay) with each minute, or level, further away."""
LEVELS = 10
SIGNED = ("return", "gap", "flow")
"""Series with a direction; ``gap`` is the log mid less that at the start."""
POSITIVE = ("square", "traded", "orders")


def _log_size(x: Floats) -> Floats:
    size = np.abs(x)
    known = size[np.isfinite(size)]
    return np.asarray(np.log(np.maximum(size, (0.01 * known.mean() if known.size else 0.0) + 1e-300)))


TRANSFORMS: Mapping[str, Callable[[Floats], Floats]] = {
    "identity": lambda x: x,
    "abs": np.abs,
    "root": lambda x: np.sign(x) * np.sqrt(np.abs(x)),
    "log": _log_size,
}
"""Of a sum or ratio; the logarithm is that of the size, no smaller than a hundredth of its mean."""
EVEN = ("abs", "log")
"""Transforms that forget the direction."""


@dataclass(frozen=True)
class Histories:
    """What was known at each of S starts."""

    series: Mapping[str, Floats]
    """``[S, B]`` each, the last column is the minute that ends at the start."""
    ask_shares: Floats
    """``[S, L]`` best level first."""
    bid_shares: Floats
    """``[S, L]``."""
    volume: Floats
    """``[S]`` shares that usually trade: the unit of depth."""

    @classmethod
    def of(cls, runs: ImpactRuns) -> Histories:
        """Of the starts of the evidence, in units of the volatility and volume of a minute."""
        minute = runs.window.sigma[:, None] / np.sqrt(runs.trading_minutes)
        shares = runs.window.shares[:, None] / runs.trading_minutes
        mids = np.log(runs.before.mids_ticks)
        steps = np.diff(mids, axis=1) / minute
        series = {
            "return": steps,
            "gap": (mids[:, :-1] - mids[:, -1:]) / minute,
            "square": steps**2,
            "flow": runs.before.signed_shares / shares,
            "traded": runs.before.traded_shares / shares,
            "orders": runs.before.orders,
        }
        return cls(series, runs.before.ask_shares, runs.before.bid_shares, runs.window.shares)


@dataclass(frozen=True)
class Template:
    """One candidate. Genes that its kind has no use for are left at their default."""

    kind: str
    """``window`` (weighted mean of a series), ``ratio`` (of a short window to a long one), ``imbalance`` or ``depth``
    (of levels of the book)."""
    series: str = ""
    window: int = 0
    long: int = 0
    """Minutes of the denominator of a ratio."""
    levels: int = 0
    decay: float = 0.0
    transform: str = "identity"
    sided: bool = False
    """Whether it is positive towards the agent's side."""

    def __str__(self) -> str:
        weights = f", weights exp(-{self.decay:g} k)" if self.decay else ""
        inside = {
            "window": f"mean of {self.series} over {self.window} min{weights}",
            "ratio": f"mean of {self.series} over {self.window} min / over {self.long} min",
            "imbalance": f"imbalance of {self.levels} levels{weights}",
            "depth": f"depth of {self.levels} levels{weights}",
        }[self.kind]
        inside = inside if self.transform == "identity" else f"{self.transform}({inside})"
        return f"side * {inside}" if self.sided else inside

    def values(self, histories: Histories) -> Floats:
        """``[S, 2]`` for sellers and buyers at each start; NaN where it does not exist."""
        with np.errstate(divide="ignore", invalid="ignore"):
            one = TRANSFORMS[self.transform](_inside(self, histories))
        return np.stack([-one if self.sided else one, one], axis=1)


def _inside(t: Template, h: Histories) -> Floats:
    if t.kind == "window":
        weights = np.exp(-t.decay * np.arange(t.window))[::-1]
        return np.asarray(h.series[t.series][:, -t.window :] @ weights / weights.sum())
    if t.kind == "ratio":
        short, long = (h.series[t.series][:, -k:].mean(axis=1) for k in (t.window, t.long))
        return np.asarray(short / long)
    weights = np.exp(-t.decay * np.arange(t.levels))
    ask, bid = (side[:, : t.levels] @ weights for side in (h.ask_shares, h.bid_shares))
    return np.asarray((ask - bid) / (ask + bid) if t.kind == "imbalance" else (ask + bid) / h.volume)


@dataclass(frozen=True)
class Grammar:
    """Which values each gene may take, given how far the histories reach."""

    minutes: int
    levels: int = LEVELS

    @property
    def windows(self) -> tuple[int, ...]:
        return tuple(w for w in WINDOWS if w <= self.minutes)

    def draw(self, rng: np.random.Generator) -> Template:
        """A random template."""
        kind = _pick(("window", "window", "ratio", "imbalance", "depth"), rng)
        return self.typed(Template(kind, **{name: self.gene(name, rng) for name in GENES}), rng)

    def gene(self, name: str, rng: np.random.Generator) -> Any:
        """A random value of one gene."""
        if name == "levels":
            return int(rng.integers(1, self.levels + 1))
        choices: dict[str, tuple[Any, ...]] = {
            "series": SIGNED + POSITIVE, "window": self.windows, "long": self.windows, "decay": DECAYS,
            "transform": tuple(TRANSFORMS), "sided": (False, True),
        }  # fmt: skip
        return _pick(choices[name], rng)

    def typed(self, t: Template, rng: np.random.Generator) -> Template:
        """The template with genes that its kind can use, and none that make no difference."""
        of_book = t.kind in ("imbalance", "depth")
        t = replace(t, series="", window=0, long=0) if of_book else replace(t, levels=0)
        if t.kind == "window":
            t = replace(t, long=0, decay=t.decay if t.window > 1 else 0.0)
        if t.kind == "ratio":
            longer = [w for w in self.windows if w > t.window]
            if not longer:
                return self.typed(replace(t, kind="window"), rng)
            series = t.series if t.series in POSITIVE else _pick(POSITIVE, rng)
            t = replace(t, series=series, decay=0.0, long=t.long if t.long in longer else _pick(longer, rng))
        directed = t.kind == "imbalance" or t.series in SIGNED
        if not directed and t.transform == "abs":
            t = replace(t, transform="identity")
        return t if directed and t.transform not in EVEN else replace(t, sided=False)

    def mutated(self, t: Template, rng: np.random.Generator) -> Template:
        """One gene redrawn, or, one time in five, another template."""
        if rng.random() < 0.2:
            return self.draw(rng)
        name = _pick(GENES, rng)
        return self.typed(replace(t, **{name: self.gene(name, rng)}), rng)

    def crossed(self, a: Template, b: Template, rng: np.random.Generator) -> Template:
        """Each gene from one parent or the other, of the kind of the first."""
        from_b: dict[str, Any] = {name: getattr(b, name) for name in GENES if rng.random() < 0.5}
        child = replace(a, **{k: v for k, v in from_b.items() if v or k in ("decay", "sided")})
        return self.typed(child, rng)


GENES = tuple(f.name for f in fields(Template) if f.name != "kind")


def _pick(choices: Any, rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]


@dataclass(frozen=True)
class Breeding:
    """How the search goes."""

    population: int = 40
    generations: int = 10
    elite: int = 4
    """Best templates that live on unchanged."""
    tournament: int = 3
    mutation: float = 0.5
    """Share of children that mutate."""
    folds: int = 5
    """Of the cross-validation that is the fitness."""


@dataclass(frozen=True)
class Found:
    """The fittest template."""

    template: Template
    fitness: float
    """Gain of R2 over the base, cross-validated over the clusters that it was bred on."""
    coefficients: Floats
    """``[4]`` of 1, standardised sqrt(Q/V), the standardised factor, and their product."""


@dataclass(frozen=True)
class GeneticSearch:
    """Breeds a factor on some clusters, as something to be validated (``factor_search.Search``)."""

    histories: Histories
    unit: Ints
    """``[N]`` start and side of each metaorder: 2 start, and 1 more where it buys."""
    size: Floats
    """``[N]`` standardised sqrt(Q/V)."""
    clusters: Ints
    """``[2 S]`` cluster of each unit; -1 where it has no metaorder."""
    sums: Floats
    """``[2 S, 6]`` over the metaorders of each unit: 1, size, size^2, impact, size x impact, impact^2."""
    breeding: Breeding = field(default_factory=Breeding)
    seen: dict[Template, Floats] = field(default_factory=dict, repr=False)
    """Values that were computed already, whatever the impact."""

    @classmethod
    def of(
        cls, histories: Histories, start: Ints, side: Ints, root_size: Floats, impact: Floats, clusters: Ints,
        breeding: Breeding | None = None,
    ) -> GeneticSearch:  # fmt: skip
        """Of N metaorders; ``clusters`` ``[N]`` are those of their starts."""
        unit = np.asarray(2 * start + (side > 0), np.int64)
        of_unit = np.full(2 * len(histories.volume), -1, np.int64)
        of_unit[unit] = clusters
        size = standardised(root_size)
        made = cls(histories, unit, size, of_unit, np.zeros((len(of_unit), 6)), breeding or Breeding())
        return made.with_impact(impact)

    def with_impact(self, impact: Floats) -> GeneticSearch:
        size, count = self.size, len(self.clusters)
        columns = (np.ones_like(size), size, size**2, impact, size * impact, impact**2)
        return replace(self, sums=np.stack([np.bincount(self.unit, c, count) for c in columns], axis=1))

    def values(self, template: Template) -> Floats:
        """``[2 S]`` standardised over the units with metaorders, 0 elsewhere; NaN throughout if any is missing."""
        if template not in self.seen:
            raw, used = template.values(self.histories).ravel(), self.clusters >= 0
            out = np.zeros_like(raw)
            out[used] = standardised(raw[used]) if np.isfinite(raw[used]).all() else np.nan
            self.seen[template] = out
        return self.seen[template]

    def products(self, values: Floats, labels: Ints, count: int) -> Floats:
        """``[P, K, 5, 5]`` products of 1, size, factor, size x factor and impact, by label of the unit.

        Parameters
        ----------
        values
            ``[P, 2 S]`` factors.
        labels
            ``[2 S]`` in 0 ... ``count`` - 1; others are left out.
        """
        groups = (labels[:, None] == np.arange(count)).astype(np.float64)  # [U, K]
        spread = (groups[:, :, None] * self.sums[:, None, :]).reshape(len(groups), -1)
        shape = (len(values), count, 6)
        plain = np.broadcast_to(spread.sum(axis=0).reshape(1, count, 6), shape)
        once, twice = ((v @ spread).reshape(shape) for v in (values, values**2))
        n, s, ss, y, sy, yy = range(6)
        upper = {
            (0, 0): plain[..., n], (0, 1): plain[..., s], (0, 2): once[..., n], (0, 3): once[..., s],
            (0, 4): plain[..., y], (1, 1): plain[..., ss], (1, 2): once[..., s], (1, 3): once[..., ss],
            (1, 4): plain[..., sy], (2, 2): twice[..., n], (2, 3): twice[..., s], (2, 4): once[..., y],
            (3, 3): twice[..., ss], (3, 4): once[..., sy], (4, 4): plain[..., yy],
        }  # fmt: skip
        out = np.empty((*shape[:2], 5, 5))
        for (i, j), sums in upper.items():
            out[..., i, j] = out[..., j, i] = sums
        return out

    def search(self, rng: np.random.Generator, train: Bools | None = None) -> Found:
        """Breed on the clusters of ``train`` ``[C]``, or on all.

        Raises
        ------
        ValueError
            If no template exists at every start.
        """
        count = int(self.clusters.max()) + 1
        inside = np.flatnonzero(np.ones(count, bool) if train is None else train)
        folds = self.breeding.folds
        of_cluster = np.full(count + 1, -1, np.int64)  # the last is that of units without metaorders
        of_cluster[inside] = fold_labels(len(inside), folds, rng)
        labels = of_cluster[self.clusters]
        grammar = Grammar(min(s.shape[1] for s in self.histories.series.values()), self.histories.ask_shares.shape[1])
        fitness: dict[Template, float] = {}

        def judge(templates: list[Template]) -> None:
            new = [t for t in dict.fromkeys(templates) if t not in fitness]
            if new:
                fitness.update(zip(new, self._fitness(new, labels, folds), strict=True))

        population = [grammar.draw(rng) for _ in range(self.breeding.population)]
        judge(population)
        for _ in range(self.breeding.generations):
            population = _bred(population, fitness, grammar, self.breeding, rng)
            judge(population)
        best = max(fitness, key=lambda t: fitness[t])
        if not np.isfinite(fitness[best]):
            raise ValueError("no template has a value at every start: histories have gaps even in the last minute")
        total = self.products(self.values(best)[None], np.where(labels >= 0, 0, -1), 1)[0, 0]
        return Found(best, fitness[best], _solved(total[None])[0])

    def _fitness(self, templates: list[Template], labels: Ints, folds: int) -> list[float]:
        values = np.stack([self.values(t) for t in templates])
        there = np.isfinite(values).all(axis=1) & values.any(axis=1)
        out = np.full(len(templates), -np.inf)
        if there.any():
            test = self.products(values[there], labels, folds)
            total = test.sum(axis=1, keepdims=True)
            base = [0, 1, 4]
            saved = _held_out(total - test, test, base) - _held_out(total - test, test, [0, 1, 2, 3, 4])
            n, y, yy = total[:, 0, 0, 0], total[:, 0, 0, 4], total[:, 0, 4, 4]
            out[there] = saved / (yy - y**2 / n)
        return [float(f) for f in out]

    def held_out(self, train: Bools, rng: np.random.Generator) -> Floats:
        found = self.search(rng, train)
        outside = np.flatnonzero(~train)
        number = np.full(len(train) + 1, -1, np.int64)
        number[outside] = np.arange(len(outside))
        test = self.products(self.values(found.template)[None], number[self.clusters], len(outside))[0]
        v = np.append(-found.coefficients, 1.0)
        return np.asarray(v @ test @ v)


def _bred(
    population: list[Template], fitness: Mapping[Template, float], grammar: Grammar, breeding: Breeding,
    rng: np.random.Generator,
) -> list[Template]:  # fmt: skip
    """The next generation: the elite, and children of winners of tournaments."""

    def winner() -> Template:
        rivals: list[Template] = [_pick(population, rng) for _ in range(breeding.tournament)]
        return max(rivals, key=lambda t: fitness[t])

    elite = sorted(dict.fromkeys(population), key=lambda t: -fitness[t])[: breeding.elite]
    children = []
    for _ in range(breeding.population - len(elite)):
        child = grammar.crossed(winner(), winner(), rng)
        children.append(grammar.mutated(child, rng) if rng.random() < breeding.mutation else child)
    return elite + children


def _solved(products: Floats) -> Floats:
    """``[..., K - 1]`` least squares from ``[..., K, K]`` products; the impact is last."""
    xx, size = products[..., :-1, :-1], products.shape[-1] - 1
    lift = JITTER * np.trace(xx, axis1=-2, axis2=-1)[..., None, None] * np.eye(size)
    return np.asarray(np.linalg.solve(xx + lift, products[..., :-1, -1:])[..., 0])


def _held_out(train: Floats, test: Floats, keep: list[int]) -> Floats:
    """``[P]`` squared errors over folds of ``[P, K, ...]`` products, on the columns kept."""
    at = np.ix_(range(train.shape[0]), range(train.shape[1]), keep, keep)
    fit = _solved(train[at])
    v = np.concatenate([-fit, np.ones((*fit.shape[:-1], 1))], axis=-1)
    return np.asarray(np.einsum("pki,pkij,pkj->p", v, test[at], v))
