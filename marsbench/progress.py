"""Progress bars on standard error: none where that is not a terminal."""

from __future__ import annotations

import sys
from typing import Any


def bar(iterable: Any = None, **options: Any) -> Any:
    """A tqdm bar, silent where standard error is not a terminal."""
    from tqdm import tqdm

    return tqdm(iterable, disable=not sys.stderr.isatty(), leave=False, dynamic_ncols=True, **options)


def say(text: str) -> None:
    """One line on standard error that does not break a bar."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)
