"""What ``marsbench validate`` holds a generator of price paths to; the tests run it over all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marsbench.simulation.contracts import PathGenerator, Start
from marsbench.simulation.validate import Check, Validation

Floats = NDArray[np.float64]

FARTHEST = 0.2
"""Largest log return of a first minute that is still believed to be a price in ticks."""


def validate_paths(
    generator: PathGenerator, starts: Sequence[Start], *, minutes: int = 25, rollouts: int = 2, key: int = 1
) -> Validation:
    """Hold a loaded generator to the contract of price paths, on real starts.

    Checks: an array of the shape that was asked for; prices finite and above 0; they depart from the mid price of the
    start, in ticks; the same key gives the same paths and another key others; rollouts of a start differ; a path
    depends neither on which other starts are asked for nor on their order.
    """

    def run(asked: Sequence[Start] = starts, k: int = key) -> Floats:
        return np.asarray(generator.paths(asked, rollouts, minutes, key=k))

    base, wanted = run(), (len(starts), rollouts, minutes)
    shape = Check("an array of starts x rollouts x minutes", base.shape == wanted, f"{base.dtype} {list(base.shape)}")
    if not shape.passed or not np.issubdtype(base.dtype, np.floating):
        return Validation(generator.name, (Check(shape.name, False, shape.found),))
    again, other = run(), run(k=key + 1)
    alone = np.concatenate([run([start]) for start in starts])
    backwards = run(starts[::-1])[::-1]
    return Validation(
        generator.name,
        (
            shape,
            _sound(base),
            _departs(base, starts),
            Check("the same key gives the same paths", _same(base, again), _differ(base, again)),
            Check("another key gives other paths", not _same(base, other), _differ(base, other)),
            _rollouts(base),
            Check("a start's paths do not depend on the others", _same(base, alone), _differ(base, alone)),
            Check("nor on their order", _same(base, backwards), _differ(base, backwards)),
        ),
    )


def _same(one: Floats, two: Floats) -> bool:
    return one.shape == two.shape and bool(np.array_equal(one, two))


def _differ(one: Floats, two: Floats) -> str:
    if one.shape != two.shape:
        return f"shape {list(two.shape)}"
    return f"{int((one != two).any(axis=-1).sum())} of {one.shape[0] * one.shape[1]} differ"


def _sound(paths: Floats) -> Check:
    bad = int((~(np.isfinite(paths) & (paths > 0))).sum())
    return Check("prices are finite and above 0", bad == 0, f"{bad} of {paths.size} are not")


def _departs(paths: Floats, starts: Sequence[Start]) -> Check:
    mids = np.array([s.mid_ticks for s in starts])
    with np.errstate(invalid="ignore", divide="ignore"):
        far = np.abs(np.log(paths[..., 0] / mids[:, None]))
    worst = float(far.max()) if np.isfinite(far).all() else np.inf
    name = f"the first minute moves the mid of the start, in ticks, by less than {FARTHEST:.0%}"
    return Check(name, worst < FARTHEST, f"at most {worst:.3%}")


def _rollouts(paths: Floats) -> Check:
    alike = sum(len(np.unique(own, axis=0)) < len(own) for own in paths)
    return Check("rollouts of a start differ", alike == 0, f"{alike} of {len(paths)} starts have equal ones")
