"""Work on several processes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def in_processes(
    jobs: int, work: Callable[..., Any], calls: Iterable[tuple[Any, ...]], *, ordered: bool = True
) -> Iterator[Any]:
    """What ``work`` gives for each call's arguments, in their order or as they are done.

    A process that has grown large is replaced by a fresh one, which loses nothing.

    Parameters
    ----------
    jobs
        Processes at a time, -1 for all cores.
    """
    from joblib import Parallel, delayed

    how = "generator" if ordered else "generator_unordered"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
        yield from Parallel(n_jobs=jobs, backend="loky", return_as=how)(delayed(work)(*call) for call in calls)
