"""How often ``compare`` tells two generators apart that are the same: its type-I error.

    python tests/null_comparison.py --seeds 1000 --units 24 --shift 1

Two generators are drawn from one law: days with a level of their own that they share with replay
(which is what pairing meets), minutes that depend on each other within a day. Scores are split-half overlaps of
six quantities that share the day, in two groups, so they are as far from plain means as real ones.

Both generators may be as good as replay (``--shift 0``) or equally wrong (shifted by so many standard
deviations). Where they are as good as replay the test is conservative: every bin of an overlap then
sits on the kink of ``|p - q|``, whose variance is 1 - 2 / pi of what a jackknife sees.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from example_results import result
from marsbench.comparison import compare
from marsbench.metrics._scoring import Units, split_score
from marsbench.results import Result
from marsbench.scores import Score
from marsbench.stats.histogram import Bins
from marsbench.stats.overlap import overlap
from marsbench.stats.splits import split_half

QUANTITIES, MINUTES, SPLITS, FLOOR = 6, 50, 8, 0.2


def draw(rng: np.random.Generator, level: np.ndarray) -> np.ndarray:
    """``[C, M, Q]``: quantities around the level of their day, first-order autoregressive."""
    noise = rng.standard_normal((len(level), MINUTES, QUANTITIES))
    out = np.empty_like(noise)
    out[:, 0] = noise[:, 0]
    for m in range(1, MINUTES):
        out[:, m] = 0.5 * out[:, m - 1] + np.sqrt(0.75) * noise[:, m]
    return np.asarray(out + level[:, None, :])


def generator(label: str, replay: np.ndarray, simulated: np.ndarray, seed: int) -> Result:
    """The result of one generator, scored by split-half overlap."""
    units = Units(np.arange(len(replay)), np.zeros(len(replay), np.int64), "days")
    rng = np.random.default_rng(seed)
    scores: list[Score] = []
    for q in range(QUANTITIES):
        bins = Bins.frozen(replay[:, None, :, q], 20)
        truth, own = (bins.count_clusters(x[:, None, :, q], units.label, units.count)[0] for x in (replay, simulated))

        def compared(a: Any, b: Any, k: int, truth: Any = truth, own: Any = own) -> Any:
            del k
            target = b @ truth
            return overlap(a @ own, target), overlap(a @ truth, target), np.full(len(a), np.nan)

        found = split_half(compared, units.stratum, SPLITS, rng)
        made = split_score(
            found, f"similarity.q{q}", group=("distributions", "facts")[q % 2], direction="higher", floor=FLOOR,
            shuffled=False, n=replay[..., 0].size, units=units, missing="",
        )  # fmt: skip
        scores.append(made)
    return result(label, scores=tuple(scores))


def p_values(seed: int, units: int, shift: float) -> dict[str, list[float]]:
    """p of the overall, adjusted p of the groups and of the scores."""
    rng = np.random.default_rng(seed)
    level = 0.7 * rng.standard_normal((units, QUANTITIES)) + 0.5 * rng.standard_normal((units, 1))
    replay, a, b = (draw(rng, level) for _ in range(3))
    a, b = a + shift, b + shift
    found = compare([generator("a", replay, a, seed), generator("b", replay, b, seed)], "a", "b")
    out: dict[str, list[float]] = {"overall": [], "group": [], "score": []}
    for line in found.differences:
        assert line.p_adjusted is not None, line
        out[line.level].append(line.p_adjusted)
    return out


def false_alarms(seeds: Iterable[int], *, units: int, shift: float = 0.0) -> dict[str, int]:
    """Level -> number of seeds with at least one difference called significant at 5%."""
    found = [p_values(seed, units, shift) for seed in seeds]
    return {level: sum(min(p[level]) < 0.05 for p in found) for level in ("overall", "group", "score")}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--units", type=int, nargs="+", default=[24])
    parser.add_argument("--shift", type=float, default=0.0, help="how wrong both are, in standard deviations")
    options = parser.parse_args(arguments)
    for units in options.units:
        for level, count in false_alarms(range(options.seeds), units=units, shift=options.shift).items():
            low, high = stats.binomtest(count, options.seeds).proportion_ci(method="exact")
            what = f"{units} units, shift {options.shift:g}, {level}"
            print(f"{what}: {count / options.seeds:.1%} [{low:.1%}, {high:.1%}] of {options.seeds}", flush=True)


if __name__ == "__main__":
    main()
