"""Fixtures of the runner's tests: a third party's plug-ins, a small data set, the real command line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from marsbench import registry, runner
from marsbench.data.catalogue import Period, write_dataset

THIRD_PARTY = Path(__file__).parent / "third_party"
UNIT = ("toy-market", "toy", "toy-walk", "0.json")


@pytest.fixture
def third_party(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The toy plug-in is installed."""
    monkeypatch.syspath_prepend(str(THIRD_PARTY))
    registry.table.cache_clear()
    yield
    registry.table.cache_clear()


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two instruments, a training day and a test day each."""
    from markets import two_days

    days = [day for profile in (0, 1) for day in two_days(profile, 45)]
    periods = [
        Period(d.instrument, d.date, d.start_ns, d.end_ns, "train" if d.date.endswith("02") else "test") for d in days
    ]
    folder = tmp_path_factory.mktemp("data") / "toy-market"
    folder.mkdir()
    write_dataset(folder, days, periods, name="toy-market", version=1, summary="two days of a toy")
    return folder


@pytest.fixture
def own_market(market: Path, tmp_path: Path) -> Path:
    """A copy of the data set in which no floors have been made yet."""
    folder = tmp_path / "data" / "toy-market"
    shutil.copytree(market, folder, ignore=shutil.ignore_patterns("floors"))
    return folder


def run(market: Path, results: Path, *generators: Any, **options: Any) -> runner.Report:
    """``runner.run`` on the toy task, without MLflow."""
    settings: dict[str, Any] = {"tasks": ["toy"], "datasets": [str(market)], "results": results, "track": False}
    return runner.run(list(generators) or ["toy-walk"], **{**settings, **options})


def environment(**more: str) -> dict[str, str]:
    """Environment of a process that has the toy plug-in installed and no tracking server."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    return {**clean, "PYTHONPATH": str(THIRD_PARTY), **more}


def interruptible() -> None:
    """Before a child begins: heed SIGINT, which a shell has its background jobs, and all of their children, ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command(*arguments: object) -> list[str]:
    """The real command line."""
    return [sys.executable, "-m", "marsbench.cli", *map(str, arguments)]


def cli(*arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the real command line to its end."""
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=300, check=False
    )


def scores_of(path: Path) -> str:
    """The part of a result that must be the same, byte for byte, however it came about."""
    values = json.loads(path.read_text())
    return json.dumps([values["scores"], values["tables"], values["artifact"], values["floors"]["hash"]])


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making one takes seconds, copying it does not."""
    from marsbench.tracking import Store

    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        store = Store(folder)
        store.client.rename_experiment(store.experiment, "template")
        store.client.delete_experiment(store.experiment)
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Iterator[str]:
    """A real ``mlflow server`` on loopback; gives its address."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(store_template, folder / "mlflow.db")
    address = f"http://127.0.0.1:{(port := free_port())}"
    arguments = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    arguments += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "a"),
    ]
    with open(folder / "log.txt", "w") as log:
        env = environment(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
        process = subprocess.Popen(arguments, stdout=log, stderr=log, env=env, start_new_session=True)
        try:
            _wait_for(address, process, folder / "log.txt")
            yield address
        finally:
            os.killpg(process.pid, 9)  # it takes ten seconds to leave when asked politely
            process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import urllib.request

    for _ in range(240):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{address}/health", timeout=1).read()
            return
        except OSError:
            time.sleep(0.25)
    raise RuntimeError(f"mlflow server did not come up:\n{log.read_text()[-2000:]}")
