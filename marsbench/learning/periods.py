"""The same work for each period of a data set, on all cores where there are many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from marsbench.parallel import in_processes
from marsbench.progress import bar

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset, Period

PARALLEL_FROM = 8
"""So many periods are spread over all cores; fewer are not worth the processes."""


def each_period(
    work: Callable[..., Any], dataset: Dataset, periods: Sequence[Period], *more: Any, what: str
) -> Iterator[Any]:
    """What ``work(dataset, period, *more)`` gives for each period, in order, behind a bar that says ``what``."""
    jobs = -1 if len(periods) >= PARALLEL_FROM else 1
    found = in_processes(jobs, work, ((dataset, p, *more) for p in periods))
    yield from bar(found, total=len(periods), desc=what, unit="day")
