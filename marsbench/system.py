"""What a result says about the machine: versions, hardware, time and memory used."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import psutil

import marsbench

PACKAGES = ("numpy", "scipy", "numba", "pandas", "pyarrow", "statsmodels", "arch", "joblib", "torch")
SAMPLES = 40
"""At most so many samples of the machine's use are kept per unit."""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _accelerators() -> list[str]:
    torch = sys.modules.get("torch")  # asked only where something has already imported it: it costs seconds
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


@cache
def _repository() -> dict[str, Any] | None:
    """Commit of our own checkout, None for an installed package."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "pyproject.toml").exists() or not (root / ".git").exists():
        return None
    try:
        ask = ["git", "-C", str(root)]
        commit = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        state = subprocess.run(
            [*ask, "status", "--porcelain", "--untracked-files=no", "--", ":!results"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "modified": bool(state.stdout.strip())}


def environment() -> dict[str, Any]:
    """Versions and hardware, without anything that names the machine or its user."""
    return {
        "marsbench": marsbench.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {p: v for p in PACKAGES if (v := _version(p))},
        "repository": _repository(),
        "hardware": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "accelerators": _accelerators(),
        },
    }


def cpu_seconds() -> float:
    """CPU time of this process so far, all threads."""
    used = os.times()
    return used.user + used.system


class Meter:
    """Samples CPU and memory of this process and its children while a block runs.

    Use as a context manager; ``report()`` gives wall seconds, CPU seconds (ours, plus what the
    caller adds for worker processes), the highest memory seen, and up to ``SAMPLES`` samples.
    """

    def __init__(self, *, every_s: float = 0.5) -> None:
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="marsbench-meter")
        self._samples: list[tuple[float, float, int]] = []
        self._wall = self._cpu = 0.0

    def __enter__(self) -> Self:
        self._begin, self._begin_cpu, self._began = time.perf_counter(), cpu_seconds(), time.time()
        self._samples.append((0.0, 0.0, _tree_bytes()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._samples.append((time.perf_counter() - self._begin, psutil.cpu_percent(), _tree_bytes()))
        self._wall = time.perf_counter() - self._begin
        self._cpu = cpu_seconds() - self._begin_cpu

    def _watch(self) -> None:
        psutil.cpu_percent()
        while not self._stop.wait(self._every_s):
            self._samples.append((time.perf_counter() - self._begin, psutil.cpu_percent(), _tree_bytes()))

    def report(self) -> dict[str, Any]:
        """Facts for ``Result.cost``."""
        step = max(1, -(-len(self._samples) // SAMPLES))
        kept = self._samples[::step]
        return {
            "wall_s": self._wall,
            "cpu_s": self._cpu,
            "peak_memory_bytes": max(s[2] for s in self._samples),
            "samples": {
                "began_unix_s": round(self._began),
                "time_s": [s[0] for s in kept],
                "cpu_percent": [s[1] for s in kept],
                "memory_bytes": [s[2] for s in kept],
            },
        }


def _tree_bytes() -> int:
    """Resident memory of this process and its children."""
    total = 0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        try:
            total += int(process.memory_info().rss)
        except psutil.Error:  # ended between listing and asking
            continue
    return total
