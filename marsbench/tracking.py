"""MLflow as a sink of the results: the JSON is always written first, and a lost server loses nothing.

One parent run per suite, one nested run per unit. A unit that is there already, by the hash of its
result, is not logged again, so that uploading later (``marsbench track``) is safe to repeat.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from marsbench import figures, results
from marsbench.files import exclusive, pretty
from marsbench.results import Result

EXPERIMENT = "marsbench"
BATCH = 900
"""Entities per request; MLflow takes 1,000."""

_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Unless the user has set them: MLflow's own settings would wait for minutes on a server that is gone."""


@dataclass
class TrackReport:
    """What uploading came to."""

    uploaded: list[Path] = field(default_factory=list)
    present: list[Path] = field(default_factory=list)
    failed: dict[Path, str] = field(default_factory=dict)
    uri: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "uri": self.uri,
            "uploaded": [str(p) for p in self.uploaded],
            "present": [str(p) for p in self.present],
            "failed": {str(p): why for p, why in self.failed.items()},
        }


def tracking_uri(folder: str | Path) -> str:
    """``MLFLOW_TRACKING_URI``, or a SQLite store in the results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(folder).resolve() / 'mlflow.db'}"


class Store:
    """The MLflow store of a results folder. Not for more than one thread."""

    def __init__(self, folder: str | Path) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        for noisy in ("alembic", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self.folder = Path(folder)
        self.uri = tracking_uri(folder)
        if self.uri.startswith("sqlite:"):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(tracking_uri=self.uri)
        self.experiment = self._experiment()

    def _experiment(self) -> str:
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        own = "MLFLOW_TRACKING_URI" not in os.environ  # a server keeps artifacts where it was told to
        location = (self.folder.resolve() / "mlartifacts").as_uri() if own else None
        return str(self.client.create_experiment(EXPERIMENT, artifact_location=location))

    def _runs(self, **tags: str) -> list[Any]:
        wanted = " and ".join(f"tags.`marsbench.{k}` = '{v}'" for k, v in tags.items())
        return list(self.client.search_runs([self.experiment], filter_string=wanted, max_results=100))

    def parent(self, result: Result) -> str:
        """The run of the suite that a result belongs to; made where it is missing."""
        suite = result.suite["id"] or "none"
        found = self._runs(role="suite", suite_id=suite)
        if found:
            return str(found[0].info.run_id)
        tags = {"marsbench.role": "suite", "marsbench.suite_id": suite}
        run = self.client.create_run(
            self.experiment, start_time=_ms(result.started), tags=tags, run_name=f"suite {result.suite['name']}"
        )
        self.client.log_param(run.info.run_id, "command", result.command[:6000])
        self.client.set_terminated(run.info.run_id, end_time=_ms(result.finished))
        return str(run.info.run_id)

    def upload(self, path: Path) -> bool:
        """Log one result; False where it is there already."""
        result = results.read(path)
        identity = result.content_hash()
        if self._runs(result_hash=identity):
            return False
        for half in self._runs(upload_of=identity):  # an upload that was cut off
            self.client.delete_run(half.info.run_id)
        parent = self.parent(result)
        tags = {
            "mlflow.parentRunId": parent,
            "mlflow.note.content": f"{result.generator['summary']}\n\n`{result.command}`",
            "marsbench.role": "unit",
            "marsbench.status": result.status,
            "marsbench.generator": result.generator["label"],
            "marsbench.task": result.task["label"],
            "marsbench.dataset": result.dataset["name"],
            "marsbench.upload_of": identity,
        }
        run = self.client.create_run(self.experiment, start_time=_ms(result.started), tags=tags, run_name=result.unit)
        self._log(str(run.info.run_id), result, path)
        # The tag comes last: a run without it was cut off and is made again.
        self.client.set_tag(run.info.run_id, "marsbench.result_hash", identity)
        status = "FAILED" if result.status == "failed" else "FINISHED"
        self.client.set_terminated(run.info.run_id, status=status, end_time=_ms(result.finished))
        return True

    def _log(self, run_id: str, result: Result, path: Path) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

        params = [Param(key, value) for key, value in _params(result).items()]
        for i in range(0, len(params), 90):
            self.client.log_batch(run_id, params=params[i : i + 90])
        metrics = [Metric(*values) for values in _metrics(result)]
        for i in range(0, len(metrics), BATCH):
            self.client.log_batch(run_id, metrics=metrics[i : i + BATCH])
        data = result.dataset
        dataset = Dataset(
            name=data["name"],
            digest=data["content_hash"][:36],
            source_type="marsbench",
            source=json.dumps({"name": data["name"], "version": data["version"]}),
            profile=json.dumps({k: data[k] for k in ("version", "content_hash", "single_day", "summary")}),
        )
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", "test")])])
        with TemporaryDirectory() as scratch:
            for name, image in figures.render(result, self.folder / "cache" / "figures").items():
                file = Path(scratch, "figures", f"{name}.png")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(image)
            for label, outcome in result.outcomes.items():
                for name, table in outcome.tables.items():
                    file = Path(scratch, "tables", label, f"{name}.json")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text(pretty(table))
            Path(scratch, "result.json").write_bytes(path.read_bytes())
            self.client.log_artifacts(run_id, scratch)


def _ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def flat(values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from flat(value, f"{prefix}.{key}")
    elif isinstance(values, list):
        yield prefix, json.dumps(values)
    else:
        yield prefix, values


def _params(result: Result) -> dict[str, str]:
    """Everything that was set, as text."""
    whole = result.to_dict()
    parts = ("generator", "task", "dataset", "seed", "limit", "artifact", "floors", "command", "environment", "reason")
    rows = (row for part in parts for row in flat(whole[part], part))
    return {key: str(value)[:6000] for key, value in rows if value is not None and value != ""}


def _metrics(result: Result) -> Iterator[tuple[str, float, int, int]]:
    """Every number, as (key, value, timestamp in ms, step)."""
    whole, when = result.to_dict(), _ms(result.finished)
    suffixes = {"value": "", "ci_low": "_ci_low", "ci_high": "_ci_high", "floor": "_floor", "ceiling": "_ceiling"}
    for score in whole["scores"]:
        for name, suffix in {**suffixes, "normalised": "_normalised"}.items():
            if score[name] is not None:
                yield score["key"] + suffix, score[name], when, 0
    for key, value in whole["cost"].items():
        if isinstance(value, (int, float)):
            yield f"cost.{key}", value, when, 0
    for key, value in whole["cost"].get("notes", {}).items():
        yield f"notes.{key}", value, when, 0
    for curve, points in whole["training"].items():
        for step, value in zip(points["step"], points["value"], strict=True):
            yield f"training.{curve}", value, when, int(step)
    yield from _system_metrics(whole["cost"].get("samples"))


def _system_metrics(samples: dict[str, Any] | None) -> Iterator[tuple[str, float, int, int]]:
    """Under the names by which MLflow's own page finds them."""
    if samples is None:
        return
    for step, seconds in enumerate(samples["time_s"]):
        when = int((samples["began_unix_s"] + seconds) * 1000)
        yield "system/cpu_utilization_percentage", samples["cpu_percent"][step], when, step
        yield "system/process_memory_usage_megabytes", samples["memory_bytes"][step] / 1e6, when, step


def only_writer(folder: Path) -> AbstractContextManager[None]:
    """Hold the results folder's tracking lock; without such locks the tags still prevent doubles.

    Raises
    ------
    Busy
        On entering, if another process is uploading.
    """
    refusal = "another process is writing to MLflow; run `marsbench track` when it is done"
    return exclusive(folder / "track.lock", refusal)


def track(folder: str | Path, paths: Iterable[Path] | None = None) -> TrackReport:
    """Upload every result of a folder that is not in the store yet.

    Raises
    ------
    RuntimeError
        If the store cannot be reached, or another process is uploading.
    """
    folder = Path(folder)
    report = TrackReport(uri=tracking_uri(folder))
    with only_writer(folder / "cache"):
        try:
            store = Store(folder)
        except Exception as error:
            raise RuntimeError(f"MLflow store {report.uri} cannot be used: {first_line(error)}") from error
        for path in results.paths(folder) if paths is None else paths:
            try:
                (report.uploaded if store.upload(path) else report.present).append(path)
            except Exception as error:  # noqa: BLE001 - the store and the figures may raise anything; each is reported
                report.failed[path] = first_line(error)
    return report


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"


class Tracker:
    """Uploads results behind the run's back, in one thread, in order; a failure is reported once.

    Use as a context manager; leaving it waits for what is under way.
    """

    def __init__(self, folder: str | Path, *, enabled: bool, say: Callable[[str], None]) -> None:
        self._folder = Path(folder)
        self._enabled = enabled
        self._say = say
        self._queue: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True, name="marsbench-tracker")

    def __enter__(self) -> Self:
        if self._enabled:
            self._thread.start()
        return self

    def log(self, path: Path) -> None:
        """Put a result in line."""
        self._queue.put(path)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._enabled:
            return
        self._queue.put(None)
        self._thread.join(timeout=None if error is None else 5.0)

    def _work(self) -> None:
        try:
            with only_writer(self._folder / "cache"):
                store: Store | None = None
                while (path := self._queue.get()) is not None:
                    store = store or Store(self._folder)
                    store.upload(path)
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the results are safe
            self._say(
                f"MLflow: logging to {tracking_uri(self._folder)} stopped ({first_line(error)}). Results are saved; "
                "`marsbench track` uploads them later"
            )
