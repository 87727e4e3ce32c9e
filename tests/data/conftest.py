"""Where the public sample files of real exchanges lie, for tests that can do more with them than with our own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_file() -> Callable[[str], Path]:
    """Path of a public sample file; skips the test where it is not there."""

    def find(name: str) -> Path:
        home = os.environ.get("MARSBENCH_DATA")
        folder = Path(home) if home else Path(__file__).resolve().parents[2].parent / "shared" / "data"
        path = folder / name
        if not path.exists():
            pytest.skip(f"{name} is not in {folder} (set MARSBENCH_DATA to the folder with the public sample files)")
        return path

    return find
