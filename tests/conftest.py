"""What all tests share: the folder of tests is on the path, so that they can share helpers."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["toys"]
