"""``marsbench train``: what is missing is trained, what was interrupted goes on, and runs find the artifact."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from marsbench import fitting, registry, results, runner
from marsbench.data.catalogue import Period, open_dataset
from marsbench.files import Busy
from marsbench.fitting import LeakError, NotTrained, fitted, training_command, training_key
from marsbench.learning.monitor import Diverged
from marsbench.simulation.contracts import REPORT, Artifact, Trained
from marsbench.train import TrainReport, train
from toys import cli, command, environment, free_port

pytestmark = pytest.mark.usefixtures("third_party")


@pytest.fixture
def data(market: Path, tmp_path: Path) -> Path:
    """A copy of the small data set, of which no other test has made floors."""
    folder = tmp_path / "toy-market"
    shutil.copytree(market, folder, ignore=shutil.ignore_patterns("floors"))
    return folder


@pytest.fixture
def folder(tmp_path: Path, store_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder with an empty MLflow store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "results").mkdir()
    shutil.copy(store_template, tmp_path / "results" / "mlflow.db")
    return tmp_path / "results"


def trained(data: Path, folder: Path, generator: str = "toy-learner", **options: Any) -> TrainReport:
    return train(generator, str(data), results=folder, **{"track": False, "say": lambda text: None, **options})


def run(data: Path, folder: Path, *generators: str, **options: Any) -> list[results.Result]:
    report = runner.run(
        list(generators) or None, tasks=["toy"], datasets=[str(data)], results=folder, track=False, **options
    )
    return [results.read(path) for path in report.paths]


def learner(**parameters: Any) -> Trained:
    made = registry.generator("toy-learner", **parameters)
    assert isinstance(made, Trained)
    return made


def test_training_leaves_the_artifact_where_a_run_finds_it(data: Path, folder: Path) -> None:
    report = trained(data, folder)
    key = training_key(learner(), open_dataset(data), 0)
    assert report.trained
    assert report.artifact.folder == folder / "cache" / "artifacts" / key
    assert (report.artifact.key, report.artifact.dataset_hash) == (key, open_dataset(data).content_hash)
    assert not (folder / "cache" / "training" / key).exists()
    assert "marsbench train toy-learner -d" in (report.artifact.folder / "README.md").read_text()
    (result,) = run(data, folder, "toy-learner")
    assert result.status == "done", result.reason
    assert result.artifact is not None
    assert result.artifact["content_hash"] == report.artifact.content_hash
    assert list(result.training["validation.total"]["step"]) == [0, 5, 10, 15, 20]


def test_weights_outlive_a_version_of_what_is_done_with_them(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, dataset = learner(), open_dataset(data)
    key = training_key(made, dataset, 0)
    monkeypatch.setattr(type(made), "version", made.version + 1)
    assert training_key(made, dataset, 0) == key
    monkeypatch.setattr(type(made), "training_version", made.training_version + 1)
    assert training_key(made, dataset, 0) != key


def test_what_is_trained_is_not_trained_again_unless_asked(data: Path, folder: Path) -> None:
    first = trained(data, folder)
    said: list[str] = []
    second = trained(data, folder, say=said.append)
    assert (second.trained, second.artifact) == (False, first.artifact)
    assert "is trained already" in said[-1]
    third = trained(data, folder, fresh=True)
    assert third.trained
    assert third.artifact == first.artifact


def test_a_generator_that_is_not_trained_fails_with_the_command_that_trains_it(data: Path, folder: Path) -> None:
    (result,) = run(data, folder, "toy-learner,steps=30")
    assert result.status == "failed"
    assert result.reason is not None
    assert "generator 'toy-learner' has not been trained on data set 'toy-market'" in result.reason
    assert f"marsbench train toy-learner,steps=30 -d {os.path.relpath(data)}" in result.reason
    with pytest.raises(NotTrained, match="marsbench train toy-learner"):
        runner.validate("toy-learner", str(data), results=folder)
    trained(data, folder, "toy-learner,steps=30")
    (result,) = run(data, folder, "toy-learner,steps=30")
    assert result.status == "done", result.reason


def test_one_that_nobody_named_is_not_applicable_until_it_is_trained(
    data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "toy-learner" not in {r.generator["name"] for r in run(data, folder, limit=1)}
    monkeypatch.setattr(registry.lookup("generators", "toy-learner"), "by_default", True)
    (result,) = (r for r in run(data, folder, limit=1) if r.generator["name"] == "toy-learner")
    assert result.status == "not-applicable"
    assert "train it (this can take hours): marsbench train" in str(result.reason)
    (result,) = run(data, folder, "toy-learner", limit=1)
    assert result.status == "failed"
    trained(data, folder)
    (result,) = (r for r in run(data, folder, limit=1) if r.generator["name"] == "toy-learner")
    assert result.status == "done", result.reason


def test_a_result_is_outdated_when_the_weights_are_others(data: Path, folder: Path) -> None:
    made = trained(data, folder).artifact
    run(data, folder, "toy-learner")
    card = made.folder / "README.md"
    card.write_text(card.read_text() + "Another one.\n")
    made.resealed(made.folder)
    report = runner.run(["toy-learner"], tasks=["toy"], datasets=[str(data)], results=folder, track=False)
    assert (len(report.done), len(report.kept)) == (1, 0)
    shutil.rmtree(made.folder)  # a result whose weights are gone stays
    report = runner.run(["toy-learner"], tasks=["toy"], datasets=[str(data)], results=folder, track=False)
    assert (len(report.done), len(report.kept)) == (0, 1)


def test_parameters_that_do_not_change_the_weights_share_them(data: Path, folder: Path) -> None:
    artifact = trained(data, folder).artifact
    found = fitted(learner(lots=7), open_dataset(data), 0, artifact.folder.parent, fresh=False, stored=False, say=print)
    assert found == artifact
    assert training_key(learner(steps=9), open_dataset(data), 0) != artifact.key


@pytest.fixture
def shipped(data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package's folder of checkpoints, with one that was trained with seed 5; our own cache is empty."""
    target = tmp_path / "checkpoints" / "small"
    report = trained(data, folder, seed=5, ship=target)
    assert report.shipped == target
    shutil.rmtree(folder / "cache")
    monkeypatch.setattr(registry.lookup("generators", "toy-learner"), "checkpoints", target.parent)
    return target


def test_a_shipped_artifact_serves_runs_of_every_seed(shipped: Path, data: Path, folder: Path) -> None:
    found = run(data, folder, "toy-learner", seeds=[0, 1], limit=1)
    assert [r.status for r in found] == ["done", "done"]
    assert [r.artifact["seed"] for r in found if r.artifact] == [5, 5]
    assert Artifact.read(shipped).content_hash == (found[0].artifact or {})["content_hash"]
    assert json.loads((shipped / "config.json").read_text())["stored"] == "float16"
    assert "float16, largest rounding error" in (shipped / "README.md").read_text()


def test_a_shipped_artifact_is_what_training_with_its_seed_would_come_to(
    shipped: Path, data: Path, folder: Path
) -> None:
    assert not trained(data, folder, seed=5).trained
    assert trained(data, folder, seed=6).trained


def test_a_shipped_artifact_of_another_recipe_or_data_set_is_not_used(
    shipped: Path, data: Path, market: Path, folder: Path, tmp_path: Path
) -> None:
    from markets import two_days
    from marsbench.data.catalogue import write_dataset

    cache = folder / "cache" / "artifacts"
    with pytest.raises(NotTrained):
        fitted(learner(steps=9), open_dataset(data), 0, cache, fresh=False, stored=False, say=print)
    days = two_days(2, 45)
    periods = [
        Period(d.instrument, d.date, d.start_ns, d.end_ns, s) for d, s in zip(days, ("train", "test"), strict=True)
    ]
    (tmp_path / "other").mkdir()
    write_dataset(tmp_path / "other", days, periods, name="other", version=1, summary="another")
    with pytest.raises(NotTrained, match="on data set 'other'"):
        fitted(learner(), open_dataset(tmp_path / "other"), 0, cache, fresh=False, stored=False, say=print)


def test_a_damaged_artifact_is_told_and_not_used(data: Path, folder: Path) -> None:
    artifact = trained(data, folder).artifact
    (artifact.folder / "config.json").write_text("{}")
    said: list[str] = []
    with pytest.raises(NotTrained):
        fitted(learner(), open_dataset(data), 0, artifact.folder.parent, fresh=False, stored=False, say=said.append)
    assert "damaged and not used" in said[0]
    assert trained(data, folder).trained


def test_what_is_shipped_takes_the_place_of_what_it_was_made_from(data: Path, folder: Path, tmp_path: Path) -> None:
    """So that results here are of the weights that everybody has."""
    whole = trained(data, folder).artifact
    report = trained(data, folder, ship=tmp_path / "model")
    assert report.artifact.folder == whole.folder
    assert report.artifact.content_hash == Artifact.read(tmp_path / "model").content_hash != whole.content_hash
    assert (run(data, folder, "toy-learner", limit=1)[0].artifact or {})["content_hash"] == report.artifact.content_hash


def test_a_fit_in_passing_can_be_shipped_and_then_serves_runs_of_every_seed(
    data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls, target = registry.lookup("generators", "toy-walk"), tmp_path / "checkpoints" / "walk"
    plain, said = cls.fit, []

    def fit(self: Any, data: Any, folder: Path, *, seed: int, budget: Any) -> Artifact:
        (folder / REPORT).write_text("## How it went\n\nWell.\n")
        return replace(plain(self, data, folder, seed=seed, budget=budget), notes=("it only walks.",))

    monkeypatch.setattr(cls, "fit", fit)
    first = trained(data, folder, "toy-walk", seed=3, ship=target, say=said.append)
    assert first.trained
    assert "toy-walk fitted on toy-market: it only walks." in said
    assert not trained(data, folder, "toy-walk", seed=3).trained
    card = (target / "README.md").read_text()
    assert "marsbench train toy-walk -d" in card
    assert "--seed 3" in card
    assert card.endswith("Well.\n")
    assert open_dataset(data).content_hash in card
    shutil.rmtree(folder / "cache")
    monkeypatch.setattr(cls, "checkpoints", target.parent)
    found = run(data, folder, "toy-walk", seeds=[0, 1], limit=1)
    assert [(r.artifact or {})["seed"] for r in found] == [3, 3]
    assert {(r.artifact or {})["content_hash"] for r in found} == {Artifact.read(target).content_hash}
    other = run(data, folder, "toy-walk,lots=2", limit=1)[0]
    assert (other.artifact or {})["seed"] == 0, "of other parameters nothing is shipped"
    again = trained(data, folder, "toy-walk", seed=0)
    assert again.trained
    assert again.artifact.seed == 0


def test_a_result_of_a_fit_is_made_again_when_another_one_is_shipped(
    data: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(data, folder, "toy-walk", limit=1)[0]
    trained(data, folder, "toy-walk", seed=7, ship=tmp_path / "checkpoints" / "walk")
    shutil.rmtree(folder / "cache")
    monkeypatch.setattr(registry.lookup("generators", "toy-walk"), "checkpoints", tmp_path / "checkpoints")
    after = run(data, folder, "toy-walk", limit=1)[0]
    assert (before.artifact or {})["seed"] == 0
    assert (after.artifact or {})["seed"] == 7
    assert run(data, folder, "toy-walk", limit=1)[0] == after


def test_shipping_does_not_replace_what_is_no_artifact(data: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no artifact; name a new folder"):
        trained(data, folder, ship=tmp_path / "precious")
    trained(data, folder, ship=tmp_path / "new" / "model")
    trained(data, folder, ship=tmp_path / "new" / "model")


def test_a_validation_period_inside_a_test_period_is_a_leak(
    data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marsbench.data.catalogue import Dataset

    honest = Dataset.split
    leak = [replace(p, split="validation") for p in open_dataset(data).split("test")]
    monkeypatch.setattr(Dataset, "split", lambda self, name: leak if name == "validation" else honest(self, name))
    with pytest.raises(LeakError, match="overlaps the test period"):
        trained(data, folder)


def test_what_was_trained_on_a_test_period_is_not_used(data: Path, folder: Path) -> None:
    artifact = trained(data, folder).artifact
    peek = tuple(t.replace("2024-01-02", "2024-01-03") for t in artifact.trained_on)
    replace(artifact, trained_on=peek).seal()
    with pytest.raises(LeakError, match="overlaps the test period"):
        fitted(learner(), open_dataset(data), 0, artifact.folder.parent, fresh=False, stored=False, say=print)


def test_the_folder_must_be_sealed_with_the_key(data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Artifact.write
    monkeypatch.setattr(Artifact, "write", lambda *words, **named: honest(*words, **{**named, "key": ""}))
    with pytest.raises(ValueError, match=r"must seal the folder it was given with Artifact.write\(..., dataset_hash"):
        trained(data, folder)
    assert not list((folder / "cache" / "artifacts").iterdir())


def test_only_one_process_trains_the_same(data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(self: Any, dataset: Any, folder: Path, *, seed: int, work: Any) -> Artifact:
        with pytest.raises(Busy, match="another process is training 'toy-learner'"):
            trained(data, work.scratch.parents[2])
        raise RuntimeError("seen")

    monkeypatch.setattr(registry.lookup("generators", "toy-learner"), "train", second)
    with pytest.raises(RuntimeError, match="seen"):
        trained(data, folder)


def test_a_generator_that_has_nothing_to_learn_is_refused(data: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="'reference' has nothing to learn"):
        trained(data, folder, "reference")
    with pytest.raises(TypeError, match="is not fitted in passing"):
        learner().fit([], folder, seed=0, budget=None)  # type: ignore[call-arg, arg-type]


def test_the_command_names_only_what_differs_from_the_defaults(data: Path) -> None:
    dataset = open_dataset(data)
    assert training_command(learner(), dataset).startswith("marsbench train toy-learner -d ")
    assert "toy-learner,lots=3,steps=9 " in training_command(learner(steps=9, lots=3), dataset)


def test_an_artifact_of_before_is_still_read(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("1")
    made = Artifact.write(tmp_path, generator="old", version=1, seed=0, data=[])
    head = json.loads((tmp_path / "artifact.json").read_text())
    assert set(head) == {"generator", "version", "seed", "trained_on", "data_hash", "content_hash"}
    assert Artifact.read(tmp_path) == made
    assert fitting.facts(made) is not None


# The command line, as real processes.


def test_divergence_is_told_with_exit_code_1_and_leaves_no_artifact(data: Path, folder: Path, tmp_path: Path) -> None:
    done = cli("train", "toy-learner,broken=true", "-d", data, "--results", folder, "--no-track", cwd=tmp_path)
    assert done.returncode == 1
    assert "training diverged at step 1 of 20: losses total nan" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((folder / "cache" / "artifacts").iterdir())
    with pytest.raises(Diverged):
        trained(data, folder, "toy-learner,broken=true")


@pytest.mark.slow
def test_killed_and_continued_leaves_the_artifact_of_an_uninterrupted_training(
    data: Path, folder: Path, tmp_path: Path
) -> None:
    options = ("train", "toy-learner,steps=40", "-d", data, "--no-track")
    whole = trained(data, tmp_path / "whole", "toy-learner,steps=40").artifact
    process = subprocess.Popen(
        command(*options, "--results", folder), cwd=tmp_path, env=environment(TOY_STEP_S="0.1"),
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    states = folder / "cache" / "training" / whole.key / "states"
    for _ in range(600):
        if any(states.glob("step-*")):
            break
        time.sleep(0.05)
    process.kill()
    process.wait(30)
    done = cli(*options, "--results", folder, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "training goes on after step" in done.stderr
    report = json.loads(done.stdout)
    left = Path(report["artifact"])
    for name in ("model.safetensors", "training.json"):
        assert (left / name).read_bytes() == (whole.folder / name).read_bytes()
    assert not states.exists()


@pytest.mark.slow
def test_several_processes_leave_one_artifact(data: Path, folder: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    words = ["marsbench.cli", "train", "toy-learner", "-d", data, "--results", folder, "--no-track"]
    done = subprocess.run(
        [*launch, *map(str, words)], cwd=tmp_path, env=environment(OMP_NUM_THREADS="1"), capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("toy-learner on toy-market, seed 0") == 1
    one = trained(data, tmp_path / "one").artifact
    assert [p.name for p in (folder / "cache" / "artifacts").iterdir()] == [one.key]
    curves = [
        json.loads((each / "training.json").read_text())["validation.total"]["value"]
        for each in (one.folder, folder / "cache" / "artifacts" / one.key)
    ]
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)


def test_listing_and_help_do_not_wait_for_torch(tmp_path: Path) -> None:
    for words in (["--help"], ["train", "--help"], ["list", "generators", "--json"]):
        done = cli(*words, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
        assert done.returncode == 0
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
        assert not imported & {"torch", "accelerate", "safetensors"}
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["toy-learner"]["trained"]
    assert not rows["toy-learner"]["by_default"]
    assert not rows["bootstrap"]["trained"]
    assert rows["bootstrap"]["by_default"]


# MLflow


def runs(folder: Path) -> list[Any]:
    from marsbench.tracking import Store

    store = Store(folder)
    return list(store.client.search_runs([store.experiment], filter_string="tags.`marsbench.role` = 'training'"))


def test_a_training_is_one_mlflow_run_with_its_losses_and_its_model(data: Path, folder: Path) -> None:
    from marsbench.tracking import Store

    made = trained(data, folder, track=True).artifact
    (found,) = runs(folder)
    client = Store(folder).client
    assert found.info.status == "FINISHED"
    assert found.data.params["training.generator.parameters.steps"] == "20"
    assert found.data.params["training.key"] == made.key
    points = client.get_metric_history(found.info.run_id, "training.validation.total")
    assert [p.step for p in points] == [0, 5, 10, 15, 20]
    assert found.data.metrics["training.tokens"] == 20 * 4 * 16
    assert found.inputs.dataset_inputs[0].dataset.digest == made.dataset_hash[:36]
    (output,) = found.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, str(model.status), model.params["key"]) == ("toy-learner", "READY", made.key)
    files = {file.path for file in client.list_logged_model_artifacts(model.model_id)}
    assert {"model.safetensors", "config.json", "README.md", "artifact.json"} <= files


def test_an_interrupted_training_continues_its_mlflow_run(
    data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marsbench.learning import training

    honest, asked = training._Run.asked, [True]
    monkeypatch.setattr(training._Run, "asked", lambda self, stop: self.step == 7 and asked.pop() if asked else False)
    with pytest.raises(KeyboardInterrupt):
        trained(data, folder, track=True)
    (found,) = runs(folder)
    assert found.info.status == "KILLED"
    monkeypatch.setattr(training._Run, "asked", honest)
    trained(data, folder, track=True)
    (found,) = runs(folder)
    assert found.info.status == "FINISHED"


def test_a_diverged_training_is_a_failed_mlflow_run(data: Path, folder: Path) -> None:
    with pytest.raises(Diverged):
        trained(data, folder, "toy-learner,broken=true", track=True)
    (found,) = runs(folder)
    assert found.info.status == "FAILED"
    assert "diverged" in found.data.tags["marsbench.reason"]


def test_a_server_that_is_gone_is_told_once_and_training_goes_on(
    data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said: list[str] = []
    report = trained(data, folder, track=True, say=said.append)
    assert report.trained
    assert len([text for text in said if "MLflow: logging this training" in text]) == 1


def test_while_another_process_writes_to_mlflow_points_wait(
    data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marsbench import track_training
    from marsbench.tracking import only_writer

    monkeypatch.setattr(track_training, "PATIENCE_S", 0.0)
    with only_writer(folder / "cache"):
        assert trained(data, folder, track=True).trained
    assert not runs(folder)
