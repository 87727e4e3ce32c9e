"""One MLflow run for one training: its settings, its losses by step while it goes on, and the trained model.

Whatever the store does, training goes on and its artifact is safe. Like every writer of a results
folder it takes the tracking lock, for a moment at each point; while another process holds it, points wait.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from marsbench.files import Busy, write_atomic
from marsbench.tracking import BATCH, Store, first_line, flat, only_writer, tracking_uri

if TYPE_CHECKING:
    from marsbench.data.catalogue import Dataset
    from marsbench.simulation.contracts import Artifact

PATIENCE_S = 60.0
"""So long the end of a training waits for another writer."""


class TrainingRun:
    """The MLflow run of a training; continued where ``scratch`` remembers one.

    Parameters
    ----------
    folder
        Results folder.
    scratch
        Folder of the training, where the identity of the run survives an interruption.
    facts
        What is logged as parameters, once training is under way.
    """

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        *,
        name: str,
        dataset: Dataset,
        facts: Callable[[], Mapping[str, Any]],
        enabled: bool,
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._note = folder, scratch / "mlflow.json"
        self._name, self._dataset, self._facts = name, dataset, facts
        self._enabled, self._say = enabled, say
        self._store: Store | None = None
        self._run = ""
        self._waiting: list[tuple[str, float, int, int]] = []
        self._step = 0

    def point(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values of one point of the curves, as ``training.<curve>``."""
        now = int(time.time() * 1000)
        self._waiting += [(f"training.{k}", float(v), now, step) for k, v in values.items() if math.isfinite(v)]
        self._step = step
        self._try(self._send, patience_s=0.0)

    def finish(self, artifact: Artifact) -> None:
        """Log the trained model and end the run."""

        def send() -> None:
            store = self._send()
            self._log_model(store, artifact)
            store.client.set_terminated(self._run, status="FINISHED")

        self._try(send, patience_s=PATIENCE_S)

    def stop(self, status: Literal["FAILED", "KILLED"], reason: str) -> None:
        """End the run without a model; a killed one is continued when training is."""

        def send() -> None:
            store = self._send()
            store.client.set_tag(self._run, "marsbench.reason", reason[:5000])
            store.client.set_terminated(self._run, status=status)

        self._try(send, patience_s=0.0)

    def _try(self, send: Callable[[], Any], *, patience_s: float) -> None:
        """Send, if the store lets us; after a failure nothing is tried again."""
        if not self._enabled:
            return
        until = time.monotonic() + patience_s
        try:
            while not self._sent(send):
                if time.monotonic() >= until:
                    return
                time.sleep(1.0)
        except Exception as error:  # noqa: BLE001 - whatever the store raises, training must not be lost
            self._enabled = False
            self._say(
                f"MLflow: logging this training to {tracking_uri(self._folder)} stopped ({first_line(error)}). "
                "Training is not affected; its losses also lie in training.json of the artifact"
            )

    def _sent(self, send: Callable[[], Any]) -> bool:
        try:
            with only_writer(self._folder / "cache"):
                send()
        except Busy:
            return False
        return True

    def _send(self) -> Store:
        """Everything that waits; opens the run the first time."""
        from mlflow.entities import Metric

        store = self._store = self._store or Store(self._folder)
        self._run = self._run or self._continued(store) or self._begun(store)
        for i in range(0, len(self._waiting), BATCH):
            store.client.log_batch(self._run, metrics=[Metric(*row) for row in self._waiting[i : i + BATCH]])
        self._waiting = []
        return store

    def _continued(self, store: Store) -> str:
        """The run of this training before it was interrupted, under way again; empty where there is none."""
        if not self._note.exists():
            return ""
        note = json.loads(self._note.read_text())
        if note["uri"] != store.uri:
            return ""
        store.client.update_run(note["run"], status="RUNNING")
        return str(note["run"])

    def _begun(self, store: Store) -> str:
        from mlflow.entities import Dataset as MlflowDataset
        from mlflow.entities import DatasetInput, InputTag, Param

        run = store.client.create_run(store.experiment, tags={"marsbench.role": "training"}, run_name=self._name)
        number = str(run.info.run_id)
        texts = {key: str(value)[:6000] for key, value in flat(dict(self._facts()), "training") if value is not None}
        params = [Param(key, text) for key, text in texts.items() if text]
        for i in range(0, len(params), 90):
            store.client.log_batch(number, params=params[i : i + 90])
        data = self._dataset
        source = json.dumps({"name": data.name, "version": data.version})
        dataset = MlflowDataset(data.name, data.content_hash[:36], "marsbench", source)
        tags = [InputTag("mlflow.data.context", "training")]
        store.client.log_inputs(number, datasets=[DatasetInput(dataset, tags)])
        write_atomic(self._note, json.dumps({"uri": store.uri, "run": number}))
        return number

    def _log_model(self, store: Store, artifact: Artifact) -> None:
        """The folder of the artifact as a logged model of the run."""
        from mlflow.entities import LoggedModelOutput

        client = store.client
        model = client.create_logged_model(
            store.experiment,
            name=re.sub(r"[^A-Za-z0-9_-]+", "-", artifact.generator),
            source_run_id=self._run,
            params={"seed": str(artifact.seed), "key": artifact.key, "content_hash": artifact.content_hash},
            model_type="marsbench",
        )
        client.log_model_artifacts(model.model_id, str(artifact.folder))
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(self._run, models=[LoggedModelOutput(model.model_id, self._step)])
        client.set_tag(self._run, "marsbench.artifact_hash", artifact.content_hash)
