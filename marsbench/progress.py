"""Progress bars on standard error: none where that is not a terminal."""

from __future__ import annotations

import sys
from typing import Any

_worker = False


def in_worker() -> None:
    """From now on this process draws no bars: they would run into those of the others."""
    global _worker
    _worker = True


def bar(iterable: Any = None, **options: Any) -> Any:
    """A tqdm bar, silent where standard error is not a terminal and in worker processes."""
    from tqdm import tqdm

    return tqdm(iterable, disable=_worker or not sys.stderr.isatty(), leave=False, dynamic_ncols=True, **options)


def say(text: str) -> None:
    """One line on standard error that does not break a bar."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)
