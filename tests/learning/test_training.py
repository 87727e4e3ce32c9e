"""The training loop: known answers, exact resuming, several processes, and how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from marsbench.learning.monitor import MARGIN_STEPS, MOST_SKIPPED, Monitor
from marsbench.learning.states import load_state
from marsbench.learning.training import Diverged, TrainingPlan, TrainingResult, train

SCRIPT = Path(tiny.__file__)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run(model: Any, scratch: Path | None = None, plan: TrainingPlan = tiny.PLAN, **options: Any) -> TrainingResult:
    settings: dict[str, Any] = {"batches": tiny.MarkovBatches(), "validation": tiny.held_out(), "seed": 3}
    return train(model, plan=plan, scratch=scratch, **{"say": lambda text: None, **settings, **options})


def script(*arguments: object) -> list[str]:
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the script comes to when nobody interferes."""
    out = tmp_path_factory.mktemp("whole") / "out.json"
    done = subprocess.run(script(out), capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    values: dict[str, Any] = json.loads(out.read_text())
    return values


def test_a_model_approaches_the_entropy_rate_of_a_known_source_and_never_beats_it() -> None:
    plan = TrainingPlan(
        steps=300, batch_size=32, learning_rate=2e-2, min_learning_rate_ratio=0.01, weight_decay=0.0, warm_up_steps=20,
        validate_every=50, checkpoint_every=300,
    )  # fmt: skip
    validation = tiny.held_out(batches=16, size=64)
    result = run(tiny.model(dropout=0.0), plan=plan, validation=validation)
    tokens = [(b["tokens"].ravel(), b["next"].ravel()) for b in validation]
    surprise = np.concatenate([-np.log(tiny.transition()[a, b]) for a, b in tokens])
    noise = surprise.std() / np.sqrt(len(surprise))
    assert abs(surprise.mean() - tiny.entropy_rate()) < 4 * noise
    assert result.best["total"] == pytest.approx(result.best["side"] + result.best["which"])
    assert surprise.mean() - 0.002 < result.best["total"] < surprise.mean() + 0.02
    assert result.best["total"] > tiny.entropy_rate() - 4 * noise
    assert result.tokens == 300 * 32 * tiny.LENGTH


def test_curves_have_a_point_at_the_start_and_every_so_many_steps(tmp_path: Path) -> None:
    points: list[tuple[int, Mapping[str, float]]] = []
    plan = replace(tiny.PLAN, steps=50)
    result = run(tiny.model(), plan=plan, on_point=lambda step, values: points.append((step, dict(values))))
    assert result.curves["validation.total"]["step"] == [0, 20, 40, 50]
    assert result.curves["train.side"]["step"] == [20, 40, 50]
    assert [step for step, _ in points] == [0, 20, 40, 50]
    assert points[-1][1]["validation.total"] == result.curves["validation.total"]["value"][-1]
    assert points[-1][1]["learning_rate"] == pytest.approx(plan.learning_rate * plan.min_learning_rate_ratio)
    assert points[-1][1]["tokens"] == 50 * 8 * tiny.LENGTH
    assert json.loads(result.write_curves(tmp_path).read_text()) == result.curves


def test_training_twice_gives_the_same_weights_and_leaves_the_random_numbers_of_others_alone() -> None:
    one, two = tiny.model(), tiny.model()
    before = torch.get_rng_state()
    run(one)
    assert torch.equal(torch.get_rng_state(), before)
    run(two)
    assert tiny.fingerprint(one) == tiny.fingerprint(two)
    run(three := tiny.model(), seed=4)  # dropout draws differently
    assert tiny.fingerprint(three) != tiny.fingerprint(one)


def test_the_weights_of_the_best_validation_loss_are_kept() -> None:
    class Forgetful(tiny.MarkovBatches):
        """After 30 steps, tokens that follow no law."""

        def batch(self, step: int, size: int) -> dict[str, np.ndarray]:
            found = super().batch(step, size)
            noise = np.random.default_rng(step).integers(tiny.STATES, size=found["next"].shape)
            return found if step < 30 else {**found, "next": noise}

    trained = tiny.model()
    result = run(trained, batches=Forgetful(), plan=replace(tiny.PLAN, validate_every=10))
    assert 0 < result.best_step <= 30
    values = result.curves["validation.total"]["value"]
    assert result.best["total"] == min(values) < values[-1]
    with torch.no_grad():
        losses = [sum(trained.losses({k: torch.tensor(v) for k, v in b.items()}).values()) for b in tiny.held_out()]
    assert float(sum(losses) / 2) == pytest.approx(result.best["total"], abs=1e-5)


def test_training_ends_early_when_validation_has_long_not_been_better(tmp_path: Path) -> None:
    class Wrong(tiny.MarkovBatches):
        """From the beginning, tokens that follow no law and one of them twice as often."""

        def batch(self, step: int, size: int) -> dict[str, np.ndarray]:
            found = super().batch(step, size)
            noise = np.random.default_rng(step).integers(-1, tiny.STATES, size=found["next"].shape)
            return found if step < 20 else {**found, "next": np.maximum(noise, 0)}

    plan, said = replace(tiny.PLAN, validate_every=5, checkpoint_every=1000, patience=3), list[str]()
    result = run(one := tiny.model(), tmp_path, plan, batches=Wrong(), say=said.append)
    points = result.curves["validation.total"]["step"]
    assert result.steps == points[-1] == result.best_step + 15 < plan.steps
    assert f"training ends at step {result.steps} of {plan.steps}: validation has long not been better" in said
    again = run(two := tiny.model(), tmp_path, plan, batches=_Never())  # its state is an end
    assert again.curves == result.curves
    assert tiny.fingerprint(one) == tiny.fingerprint(two)


def test_without_validation_data_the_last_weights_are_kept() -> None:
    result = run(tiny.model(), validation=[])
    assert (result.best_step, result.best) == (60, {})
    assert set(result.curves) == {"train.side", "train.which", "train.total"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_and_continued_equals_uninterrupted_bit_for_bit(
    number: signal.Signals, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    out, scratch = tmp_path / "out.json", tmp_path / "scratch"
    process = subprocess.Popen(
        script(out, "--scratch", scratch, "--wait", 0.03), env=environment(), stderr=subprocess.PIPE, text=True
    )
    _wait(lambda: any((scratch / "states").glob("step-*15")), process)
    time.sleep(0.2)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert not out.exists()
    if number != signal.SIGKILL:
        assert "training interrupted at step" in said
    done = subprocess.run(script(out, "--scratch", scratch), capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    step = int(re.search(r"goes on after step (\d+) of 60", done.stderr)[1])  # type: ignore[index]
    assert 15 <= step < 60
    found = json.loads(out.read_text())
    assert [found[k] for k in ("weights", "curves", "best_step")] == [
        uninterrupted[k] for k in ("weights", "curves", "best_step")
    ]


def _wait(there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if there():
            return
        assert process.poll() is None
        time.sleep(0.05)
    raise AssertionError("it never came")


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_give_the_losses_of_one(accumulate: int, tmp_path: Path) -> None:
    one = run(tiny.model(dropout=0.0))
    out = tmp_path / "out.json"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", SCRIPT]
    done = subprocess.run(
        [sys.executable, *map(str, launch), str(out), "--dropout", "0", "--accumulate", str(accumulate)],
        capture_output=True, text=True, env=environment(), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["processes"] == 2
    assert found["curves"].keys() == one.curves.keys()
    for name, curve in one.curves.items():
        np.testing.assert_allclose(found["curves"][name]["value"], curve["value"], atol=1e-5)


def test_micro_batches_change_only_rounding() -> None:
    one = run(tiny.model(dropout=0.0))
    four = run(tiny.model(dropout=0.0), plan=replace(tiny.PLAN, accumulate=4))
    np.testing.assert_allclose(
        one.curves["train.total"]["value"], four.curves["train.total"]["value"], rtol=0, atol=1e-5
    )


def test_half_precision_learns_too_and_can_follow_full_precision_in_one_process() -> None:
    full = run(tiny.model(dropout=0.0))
    half = run(tiny.model(dropout=0.0), plan=replace(tiny.PLAN, precision="bf16"))
    assert half.best["total"] == pytest.approx(full.best["total"], abs=0.05)
    assert half.best["total"] != full.best["total"]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="here float16 works")
def test_float16_without_an_accelerator_is_refused() -> None:
    with pytest.raises(ValueError, match="precision 'fp16' needs an accelerator"):
        run(tiny.model(), plan=replace(tiny.PLAN, precision="fp16"))


def states(scratch: Path) -> list[Path]:
    return sorted((scratch / "states").glob("step-*"))


def test_a_damaged_last_state_falls_back_to_the_one_before_it(tmp_path: Path) -> None:
    whole = run(one := tiny.model(), tmp_path)
    assert [p.name for p in states(tmp_path)] == ["step-000000045", "step-000000060"]
    file = states(tmp_path)[-1] / "state.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    said: list[str] = []
    again = run(two := tiny.model(), tmp_path, say=said.append)
    assert "step-000000060 is damaged, going back to the one before it" in said[0]
    assert "goes on after step 45" in said[1]
    assert again.curves == whole.curves
    assert tiny.fingerprint(one) == tiny.fingerprint(two)


def test_where_every_state_is_damaged_training_begins_anew(tmp_path: Path) -> None:
    run(one := tiny.model(), tmp_path)
    for folder in states(tmp_path):
        (folder / "state.pt").write_bytes(b"")
    said: list[str] = []
    run(two := tiny.model(), tmp_path, say=said.append)
    assert sum("is damaged" in text for text in said) == 2
    assert tiny.fingerprint(one) == tiny.fingerprint(two)


def test_a_state_that_was_never_finished_is_not_mistaken_for_one(tmp_path: Path) -> None:
    run(tiny.model(), tmp_path)
    half = tmp_path / "states" / ".step-000000099.1.tmp"
    half.mkdir()
    state = load_state(tmp_path / "states", print)
    assert state is not None
    assert state["step"] == 60
    assert not half.exists()


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = run(one := tiny.model(), tmp_path)
    second = run(two := tiny.model(), tmp_path, batches=_Never())
    assert second.curves == first.curves
    assert tiny.fingerprint(one) == tiny.fingerprint(two)


class _Never(tiny.MarkovBatches):
    def batch(self, step: int, size: int) -> dict[str, np.ndarray]:
        raise AssertionError("nothing is left to learn")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"plan": replace(tiny.PLAN, learning_rate=0.5)}, r"plan\.learning_rate was 0\.01 and is 0\.5"),
        ({"batches": tiny.MarkovBatches(seed=5)}, r"data\.seed was 0 and is 5"),
        ({"seed": 4}, r"seed was 3 and is 4"),
        ({"validation": tiny.held_out(1)}, r"validation\.batches was 2 and is 1"),
        ({"model": tiny.Tiny(width=4)}, r"model\.tensors was"),
    ],
)
def test_the_state_of_another_training_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    plan = replace(tiny.PLAN, steps=10, checkpoint_every=5)
    run(tiny.model(), tmp_path, plan=plan)
    if "plan" in changes:
        changes = {"plan": replace(plan, learning_rate=0.5)}
    with pytest.raises(ValueError, match=said):
        run(**{"model": tiny.model(), "scratch": tmp_path, "plan": plan, **changes})


class _Scripted(nn.Module):
    """Loses what it is told to."""

    def __init__(self, loss: Callable[[int], float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.loss, self.step = loss, 0

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.step += 1
        return {"price": self.weight * 0 + self.loss(self.step), "type": self.weight**2}


def test_a_loss_that_is_not_finite_stops_training_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"step 17 of 60: losses total nan, price nan, type 0 nats.*lower learning_rate"):
        run(_Scripted(lambda step: float("nan") if step == 17 else 2.0), tmp_path, validation=[])
    assert [p.name for p in states(tmp_path)] == ["step-000000015"]


def test_a_gradient_that_is_not_finite_stops_training() -> None:
    class Steep(_Scripted):
        def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {"price": torch.sqrt(self.weight**2)}

    with pytest.raises(Diverged, match=r"step 1 of 60: .*gradient norm nan"):
        run(Steep(lambda step: 0.0), validation=[])


def test_a_loss_that_stays_far_above_its_beginning_stops_training() -> None:
    plan = replace(tiny.PLAN, steps=300, validate_every=300)
    with pytest.raises(Diverged, match=rf"step {30 + MARGIN_STEPS} of 300.*it began at 2 nats"):
        run(_Scripted(lambda step: 2.0 if step <= 30 else 3.5), plan=plan, validation=[])
    run(_Scripted(lambda step: 2.0 if step <= 30 or step % 50 == 0 else 3.5), plan=plan, validation=[])


def test_fp16_may_look_for_its_scale_but_not_for_ever() -> None:
    plan = replace(tiny.PLAN, precision="fp16")
    monitor = Monitor()
    for step in range(1, MOST_SKIPPED + 1):
        monitor.observe(step, {"price": 1.0}, float("inf"), plan)
    with pytest.raises(Diverged, match="found no scale"):
        monitor.observe(MOST_SKIPPED + 1, {"price": 1.0}, float("inf"), plan)


def test_the_learning_rate_rises_linearly_and_falls_by_a_cosine() -> None:
    plan = TrainingPlan(steps=101, batch_size=1, learning_rate=2.0, min_learning_rate_ratio=0.1, warm_up_steps=10)
    rates = [plan.learning_rate_at(step) for step in range(101)]
    np.testing.assert_allclose(rates[:10], 0.2 * np.arange(1, 11))
    assert rates[10] == max(rates) == 2.0
    assert rates[55] == pytest.approx(2.0 * 0.55)
    assert rates[100] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("steps", 0, "at least 1"),
        ("accumulate", 3, "a multiple of 3"),
        ("learning_rate", float("nan"), "a positive number"),
        ("min_learning_rate_ratio", 1.5, "from 0 to 1"),
        ("warm_up_steps", 60, "from 0 to below 60"),
        ("betas", (0.9, 1.0), "two from 0 to below 1"),
        ("precision", "fp8", "one of no, bf16, fp16"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=allowed):
        replace(tiny.PLAN, **{field: value})


def test_only_weight_matrices_decay() -> None:
    plan = replace(tiny.PLAN, steps=1, warm_up_steps=0, learning_rate=0.1, weight_decay=0.5, clip_norm=1e-30)
    before = tiny.model().state_dict()
    run(trained := tiny.model(), plan=plan, validation=[])
    for name, after in trained.state_dict().items():
        decays = after.ndim == 2 and name != "embed.weight"
        expected = before[name] * (0.95 if decays else 1.0)
        torch.testing.assert_close(after, expected, msg=name)


def test_a_batch_of_the_wrong_size_is_refused() -> None:
    class Short(tiny.MarkovBatches):
        def batch(self, step: int, size: int) -> dict[str, np.ndarray]:
            return super().batch(step, size - 1)

    with pytest.raises(ValueError, match="batch of step 0: tokens has 7 rows; give 8"):
        run(tiny.model(), batches=Short())
