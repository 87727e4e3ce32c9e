"""MLflow gets the same facts as the result files, and can never lose one."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from example_results import failed, result
from marsbench import results, tracking
from marsbench.tracking import Store, only_writer, track
from toys import cli, free_port, run

pytestmark = pytest.mark.usefixtures("third_party")


@pytest.fixture
def folder(tmp_path: Path, store_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder with an empty store, and no server set."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    made = tmp_path / "results"
    made.mkdir()
    shutil.copy(store_template, made / "mlflow.db")
    return made


def put(folder: Path, made: results.Result) -> Path:
    """Write a result where it belongs."""
    where = {"dataset": made.dataset["name"], "task": made.task["label"], "generator": made.generator["label"]}
    return results.write(made, results.result_path(folder, **where, seed=made.seed))


def runs(store: Store, role: str = "unit") -> list[Any]:
    """Runs of the store, oldest first."""
    found = store.client.search_runs([store.experiment], filter_string=f"tags.`marsbench.role` = '{role}'")
    return sorted(found, key=lambda r: r.info.run_name)


def test_a_run_logs_the_same_facts_to_the_default_store(market: Path, folder: Path) -> None:
    (path,) = run(market, folder, track=True).paths
    made = results.read(path)
    store = Store(folder)
    (unit,), (parent,) = runs(store), runs(store, "suite")
    assert unit.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert unit.info.status == "FINISHED"
    for key, score in made.scores.items():
        assert unit.data.metrics.get(key) == score.value  # absent where there is no value
        assert unit.data.metrics.get(f"{key}_ci_low") == score.ci_low  # absent where there is no interval
        assert unit.data.metrics.get(f"{key}_ci_high") == score.ci_high
    assert unit.data.metrics["cost.orders"] == made.cost["orders"]
    assert unit.data.params["generator.parameters.lots"] == "1"
    assert unit.data.params["dataset.content_hash"] == made.dataset["content_hash"]
    assert unit.data.params["command"] == made.command
    (data,) = unit.inputs.dataset_inputs
    assert data.dataset.name == "toy-market"
    assert made.dataset["content_hash"].startswith(data.dataset.digest)
    losses = store.client.get_metric_history(unit.info.run_id, "training.loss")
    assert [(m.step, m.value) for m in losses] == [(0, 3.0), (10, 2.0), (20, 1.5)]
    assert store.client.get_metric_history(unit.info.run_id, "system/cpu_utilization_percentage")
    kept = folder / "mlartifacts" / unit.info.run_id / "artifacts"
    assert (kept / "result.json").read_bytes() == path.read_bytes()
    assert (kept / "figures" / "toy-flow" / "ratio.png").read_bytes().startswith(b"\x89PNG")
    assert (kept / "tables" / "toy-flow,side=1" / "by_start.json").exists()


def test_uploading_again_changes_nothing_and_a_changed_result_is_a_new_run(folder: Path) -> None:
    path = put(folder, result("alpha"))
    put(folder, failed("beta"))
    first, second = track(folder), track(folder)
    assert (len(first.uploaded), len(first.present)) == (2, 0)
    assert (len(second.uploaded), len(second.present)) == (0, 2)
    store = Store(folder)
    assert [(r.data.tags["marsbench.generator"], r.info.status) for r in runs(store)] == [
        ("alpha", "FINISHED"),
        ("beta", "FAILED"),
    ]
    assert len(runs(store, "suite")) == 1
    put(folder, result("alpha", level=0.9))
    assert track(folder).uploaded == [path]
    assert len(runs(store)) == 3


def test_an_upload_that_was_cut_off_is_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(folder, result("alpha"))

    def cut(*_: Any) -> None:
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_log", cut)
        assert track(folder).failed == {path: "ConnectionError: gone"}
    assert track(folder).uploaded == [path]
    (unit,) = runs(Store(folder))
    assert unit.data.tags["marsbench.result_hash"] == results.read(path).content_hash()


def test_a_damaged_result_is_reported_and_the_others_are_uploaded(folder: Path) -> None:
    bad, good = put(folder, result("alpha")), put(folder, result("beta"))
    bad.write_text("{")
    report = track(folder)
    assert report.uploaded == [good]
    assert "damaged result file" in report.failed[bad]


def test_a_real_server_gets_everything(
    server: str, market: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    (path,) = run(market, folder, track=True).paths
    store = Store(folder)
    assert store.uri == server
    (unit,) = runs(store)
    assert unit.data.metrics["toy.price.ask"] == results.read(path).scores["toy.price.ask"].value
    names = {f.path for f in store.client.list_artifacts(unit.info.run_id)}
    assert names == {"figures", "tables", "result.json"}
    assert not (folder / "mlartifacts").exists()
    assert track(folder).present == [path]


def test_a_server_that_is_down_costs_no_result_and_track_uploads_later(
    server: str, market: Path, folder: Path, tmp_path: Path
) -> None:
    down = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
    arguments = ["-g", "toy-walk", "-t", "toy", "-d", market, "--seeds", 7, 8, "--results", folder]
    began = time.monotonic()
    done = cli("run", *arguments, cwd=tmp_path, **down)
    assert time.monotonic() - began < 60
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("MLflow: logging to") == 1
    assert "`marsbench track` uploads them later" in done.stderr
    assert "Traceback" not in done.stderr
    paths = list(results.paths(folder))
    assert [results.read(p).status for p in paths] == ["done", "done"]
    late = cli("track", "--results", folder, cwd=tmp_path, **down)
    assert late.returncode == 1
    assert "cannot be used" in late.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", server)
        assert track(folder).uploaded == paths


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for one in taken:
            one.close()


def test_a_server_that_never_answers_does_not_hang_the_run(
    silent: str, market: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", silent)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    began = time.monotonic()
    report = run(market, folder, track=True)
    assert time.monotonic() - began < 30
    assert [results.read(p).status for p in report.done] == ["done"]
    assert capsys.readouterr().err.count("MLflow: logging to") == 1


def test_a_broken_store_is_reported_once_and_loses_nothing(
    market: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "mlflow.db").write_bytes(b"this is no database" * 100)
    report = run(market, folder, track=True, seeds=[0, 1])
    assert len(report.done) == 2
    assert capsys.readouterr().err.count("MLflow: logging to") == 1


def test_there_is_only_one_writer(folder: Path) -> None:
    put(folder, result("alpha"))
    with only_writer(folder / "cache"), pytest.raises(RuntimeError, match="another process is writing to MLflow"):
        track(folder)
    assert len(track(folder).uploaded) == 1


def test_without_tracking_mlflow_is_never_imported(market: Path, tmp_path: Path) -> None:
    done = cli(
        "run", "-g", "toy-walk", "-t", "toy", "-d", market, "--no-track", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1"
    )
    assert done.returncode == 0
    assert "mlflow" not in {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not (tmp_path / "results" / "mlflow.db").exists()


def test_patience_with_servers_is_low_unless_the_user_says_otherwise(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    Store(folder)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
    assert tracking.EXPERIMENT == "marsbench"
