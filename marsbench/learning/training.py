"""Trains a model: AdamW, warm-up and cosine, over Hugging Face Accelerate, with exact resuming.

What is trained and what it learns from are two small contracts, ``Trainable`` and ``Batches``. Every
batch and every random number is a pure function of (seed, step), so a run that was killed at any moment
and continued gives the same weights, bit for bit, as one that was not (same machine, same number of
threads and processes). Several processes (``accelerate launch``, ``torchrun``) share each global batch
and differ from one process only by rounding.
"""

from __future__ import annotations

import json
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from marsbench import progress
from marsbench.files import write_atomic
from marsbench.learning.contracts import Arrays, Batches, OnPoint, Player, Trainable, count_orders
from marsbench.learning.feed import batches_from, stopping
from marsbench.learning.monitor import TOTAL, Curves, Diverged, Monitor
from marsbench.learning.plan import Precision, TrainingPlan
from marsbench.learning.processes import accelerator_for, is_main_process, leave, main_process_first
from marsbench.learning.states import check_same, identity_of, load_state, save_state

__all__ = [
    "Arrays",
    "Batches",
    "Diverged",
    "OnPoint",
    "Player",
    "Precision",
    "Trainable",
    "TrainingPlan",
    "TrainingResult",
    "is_main_process",
    "leave",
    "main_process_first",
    "train",
]

CURVES = "training.json"
"""File of the losses by step in an artifact."""
FLUSH_STEPS = 10
"""Losses are fetched from the device, and looked at, every so many steps."""


@dataclass(frozen=True)
class TrainingResult:
    """What training came to."""

    steps: int
    best_step: int
    """The step whose weights the model holds now: the best on validation data, or the last without any."""
    best: Mapping[str, float]
    """Validation losses at ``best_step`` by field, and ``total``; empty without validation data."""
    curves: Curves
    """``train.<field>``, ``train.total``, ``validation.<field>`` and ``validation.total`` by step, in nats."""
    tokens: int
    """Orders seen, repetitions counted."""
    seconds: float
    """Time spent, over all interruptions."""
    processes: int
    device: str

    def facts(self) -> dict[str, Any]:
        """What a model card says of the training itself, as fields of ``Card``."""
        hardware = f"{self.processes} process(es) on {self.device}, {torch.get_num_threads()} threads, "
        return {
            "steps": self.steps,
            "best_step": self.best_step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "hardware": hardware + platform.machine(),
            "losses": self.best,
        }

    def write_curves(self, folder: Path) -> Path:
        """Write ``training.json`` as ``marsbench.fitting.training_curves`` reads it; returns its path."""
        return write_atomic(folder / CURVES, json.dumps(self.curves))


def train(
    model: Trainable,
    batches: Batches,
    validation: Sequence[Arrays],
    plan: TrainingPlan,
    *,
    seed: int,
    scratch: Path | None = None,
    say: Callable[[str], None] = progress.say,
    on_point: OnPoint | None = None,
) -> TrainingResult:
    """Train ``model`` in place; afterwards it holds, on the CPU, the weights of the best validation loss.

    Parameters
    ----------
    model
        With its initial weights; where a state is in ``scratch``, that goes on instead.
    validation
        The batches on which the weights are chosen, of any sizes; empty: the last weights are kept.
    seed
        Of what the model draws while training (dropout).
    scratch
        Folder for states, shared by all processes; None: an interrupted run is lost.
    on_point
        Called every ``validate_every`` steps with the values of the curves, and with ``gradient_norm``,
        ``learning_rate``, ``tokens`` and ``tokens_per_s``.

    Raises
    ------
    Diverged
        If a loss or gradient is not finite, or the loss stays far above where it began.
    ValueError
        If ``scratch`` holds the state of another plan, model, data or seed, the batch size does not divide by
        processes and micro-batches, or several processes train players.
    KeyboardInterrupt
        After the state was saved, on an interrupt or SIGTERM.
    """
    run = _Run(model, batches, validation, plan, seed, scratch, say, on_point)
    devices = [run.accelerator.device] if run.accelerator.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        run.resume()
        run.loop()
    return run.finish()


class _Losses(nn.Module):
    """Calls ``losses`` through ``forward``, where parallel training and mixed precision listen."""

    def __init__(self, model: Trainable, compiled: bool) -> None:
        super().__init__()
        self.model = cast(nn.Module, model)
        self.call: Callable[[dict[str, Tensor]], dict[str, Tensor]] = (
            torch.compile(model.losses) if compiled else model.losses
        )

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.call(batch)


class _Run:
    """A training run under way."""

    def __init__(
        self,
        model: Trainable,
        batches: Batches,
        validation: Sequence[Arrays],
        plan: TrainingPlan,
        seed: int,
        scratch: Path | None,
        say: Callable[[str], None],
        on_point: OnPoint | None,
    ) -> None:
        self.plan, self.seed, self.validation = plan, seed, validation
        self.accelerator = accelerator_for(plan)
        self.states = scratch / "states" if scratch else None
        main = bool(self.accelerator.is_main_process)
        self.say: Callable[[str], None] = say if main else (lambda text: None)
        self.on_point = on_point if main else None
        self.module = cast(nn.Module, model)
        if hasattr(model, "players") and self.accelerator.num_processes > 1:
            raise ValueError("players that train against each other do so in one process; start one")
        self.identity = identity_of(self.module, batches, validation, plan, seed)
        self.losses = _Losses(model, plan.compile)
        self.optimizer = torch.optim.AdamW(_groups(self.module, plan), lr=plan.learning_rate, betas=plan.betas)
        self.parallel, self.stepper = self.accelerator.prepare(self.losses, self.optimizer)
        self.batches = batches
        self.monitor = Monitor(unit=str(getattr(model, "unit", "nats")))
        self.fields: list[str] = []
        self.pending: list[Tensor] = []
        self.step = 0
        self.best_step = 0
        self.best: dict[str, Tensor] = {}
        self.tokens, self.seconds, self.began = 0, 0.0, time.monotonic()
        self.timed, self.norm = (0, 0.0), 0.0

    def resume(self) -> None:
        """Go on from the newest whole state, where there is one.

        Raises
        ------
        ValueError
            If it is of another training.
        """
        if self.states is None:
            return
        with self.accelerator.main_process_first():
            state = load_state(self.states, self.say)
        if state is None:
            return
        check_same(state["identity"], self.identity, self.states)
        if state["processes"] != self.accelerator.num_processes:
            self.say(
                f"going on with {self.accelerator.num_processes} processes instead of {state['processes']}: the result "
                "will differ by rounding, and in what dropout draws"
            )
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.monitor = Monitor(**state["monitor"])
        self.step, self.best_step, self.best = state["step"], state["best_step"], state["best"]
        self.tokens, self.seconds = state["tokens"], state["seconds"]
        self.say(f"training goes on after step {self.step} of {self.plan.steps}")

    def save(self) -> None:
        """Leave a state on disk."""
        if self.states is None:
            return
        self.flush()
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = {
                "identity": self.identity,
                "processes": self.accelerator.num_processes,
                "model": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler is not None else None,
                "monitor": self.monitor.state(),
                "step": self.step,
                "best_step": self.best_step,
                "best": self.best,
                "tokens": self.tokens,
                "seconds": self.spent(),
            }
            save_state(self.states, self.step, state)
        self.accelerator.wait_for_everyone()

    def spent(self) -> float:
        """Seconds of training so far, earlier sessions included."""
        return self.seconds + time.monotonic() - self.began

    def loop(self) -> None:
        """Do all the steps that are left."""
        plan, saved = self.plan, self.step
        if self.step == 0:
            self.point()
        if self.hopeless():  # an earlier session came to its end so
            return
        bar = progress.bar(total=plan.steps, initial=self.step, desc="training", unit="step")
        with bar, batches_from(self.batches, self.step, plan) as feed, stopping() as stop:
            self.timed = (self.tokens, time.monotonic())
            for batch in feed:
                self.update(batch)
                bar.update()
                last = self.step == plan.steps
                if self.step % FLUSH_STEPS == 0 and self.flush():
                    bar.set_postfix_str(self.pace())
                if last or self.step % plan.validate_every == 0:
                    self.point()
                ends = last or self.hopeless()
                if ends or self.step % plan.checkpoint_every == 0:
                    self.save()
                    saved = self.step
                if ends and not last:
                    self.say(f"training ends at step {self.step} of {plan.steps}: validation has long not been better")
                    break
                if self.asked(stop) and not last:
                    if saved != self.step:
                        self.save()
                    kept = f"saved; the same command goes on after step {self.step}" if self.states else "lost"
                    self.say(f"training interrupted at step {self.step} of {plan.steps}: {kept}")
                    raise KeyboardInterrupt

    def hopeless(self) -> bool:
        """Whether the last points have all been no better than the best one."""
        points = self.monitor.curves.get(f"validation.{TOTAL}")
        if self.plan.patience is None or points is None:
            return False
        return sum(step > self.best_step for step in points["step"]) >= self.plan.patience

    def asked(self, stop: threading.Event) -> bool:
        """Whether any process was asked to stop; several processes agree on it every few steps."""
        if self.accelerator.num_processes == 1:
            return stop.is_set()
        if self.step % FLUSH_STEPS:
            return False
        return self.shared_sum([float(stop.is_set())])[0] > 0

    def shared_sum(self, values: list[float]) -> list[float]:
        """The sums of values over all processes."""
        if self.accelerator.num_processes == 1:
            return values
        local = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        sums: list[float] = cast(Tensor, self.accelerator.reduce(local, "sum")).tolist()
        return sums

    def update(self, batch: Arrays) -> None:
        """One step: losses and gradients of this process's micro-batches, clipping, AdamW."""
        plan, accelerator = self.plan, self.accelerator
        torch.manual_seed(_step_seed(self.seed, self.step, accelerator.process_index))
        for group in self.optimizer.param_groups:
            group["lr"] = plan.learning_rate_at(self.step) * group["rate"]
        self.parallel.train()
        means: dict[str, Tensor] = {}
        parts = self.micro_batches(batch)
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            with nullcontext() if last else accelerator.no_sync(self.parallel):
                found = self.parallel(part)
                total = torch.stack(tuple(found.values())).sum()
                accelerator.backward(total / len(parts))
            for name, value in found.items():
                means[name] = means.get(name, 0) + value.detach() / len(parts)
        norm = cast(Tensor, accelerator.clip_grad_norm_(self.module.parameters(), plan.clip_norm))
        self.stepper.step()
        self.stepper.zero_grad(set_to_none=True)
        self.fields = list(means)
        self.pending.append(torch.stack([*means.values(), norm.detach().to(total.device)]).float())
        self.step += 1
        self.tokens += count_orders(batch)

    def micro_batches(self, batch: Arrays) -> list[dict[str, Tensor]]:
        """This process's share of a global batch, in equal parts on the device."""
        plan, accelerator = self.plan, self.accelerator
        rows = plan.batch_size // (accelerator.num_processes * plan.accumulate)
        first = accelerator.process_index * plan.accumulate
        return [
            self.tensors({k: v[i * rows : (i + 1) * rows] for k, v in batch.items()})
            for i in range(first, first + plan.accumulate)
        ]

    def tensors(self, batch: Arrays) -> dict[str, Tensor]:
        return {k: torch.tensor(v).to(self.accelerator.device) for k, v in batch.items()}

    def flush(self) -> bool:
        """Fetch the losses of the last steps and look at them; whether there were any.

        Raises
        ------
        Diverged
            If they say so.
        """
        if not self.pending:
            return False
        found = cast(Tensor, self.accelerator.reduce(torch.stack(self.pending), "mean")).tolist()
        self.pending = []
        for step, (*values, norm) in enumerate(found, self.step - len(found) + 1):
            self.monitor.observe(step, dict(zip(self.fields, values, strict=True)), norm, self.plan)
            self.norm = norm
        return True

    def point(self) -> None:
        """One point of the curves: train losses since the last, validation losses now; keeps the best weights."""
        self.flush()
        speed = self.speed()
        values = self.monitor.train_point(self.step)
        if found := self.validate():
            values |= self.monitor.add("validation", self.step, found)
            earlier = self.monitor.at("validation", self.best_step)
            if not self.best or found[TOTAL] < earlier[TOTAL]:
                self.best_step = self.step
                self.best = {k: v.detach().cpu().clone() for k, v in self.module.state_dict().items()}
        if not values:
            return
        self.say(self.line(values, speed))
        if self.on_point is not None:
            rate = self.plan.learning_rate_at(max(self.step - 1, 0))
            more = {"gradient_norm": self.norm, "learning_rate": rate, "tokens": self.tokens, "tokens_per_s": speed}
            self.on_point(self.step, values | (more if self.step else {}))
        self.timed = (self.tokens, time.monotonic())

    def validate(self) -> dict[str, float]:
        """Validation losses by field, and their total; empty without validation data."""
        sums: dict[str, float] = {}
        if not self.validation:
            return {}
        weight, first, processes = 0, self.accelerator.process_index, self.accelerator.num_processes
        self.parallel.eval()
        with torch.no_grad():
            for i in range(first, max(len(self.validation), first + 1), processes):
                batch = self.validation[i % len(self.validation)]  # a process without one names the fields all the same
                size = count_orders(batch) if i < len(self.validation) else 0
                weight += size
                found = self.losses(self.tensors(batch))
                for name, value in zip(found, torch.stack(tuple(found.values())).tolist(), strict=True):
                    sums[name] = sums.get(name, 0.0) + value * size
        *totals, whole = self.shared_sum([*sums.values(), float(weight)])
        means = {name: value / whole for name, value in zip(sums, totals, strict=True)}
        return {**means, TOTAL: sum(means.values())}

    def speed(self) -> float:
        """Orders per second since the last point."""
        tokens, when = self.timed
        return (self.tokens - tokens) / max(time.monotonic() - when, 1e-9)

    def pace(self) -> str:
        """What stands behind the bar."""
        mean = self.monitor.sums[TOTAL] / self.monitor.count
        return f"{mean:.4f} {self.monitor.unit}, {self.speed():,.0f} tokens/s"

    def line(self, values: Mapping[str, float], speed: float) -> str:
        """One line about a point."""
        losses = ", ".join(f"{k.split('.')[0]} {v:.4f}" for k, v in values.items() if k.endswith(f".{TOTAL}"))
        text = f"training step {self.step} of {self.plan.steps}: {losses} {self.monitor.unit}"
        if not self.step:
            return text
        left = self.spent() / self.step * (self.plan.steps - self.step)
        return f"{text}, {speed:,.0f} tokens/s, {_duration(left)} left"

    def finish(self) -> TrainingResult:
        """Put the best weights into the model, and say what came of it."""
        seconds = self.spent()
        if self.best:
            self.module.load_state_dict(self.best)
        else:
            self.best_step = self.step
        self.module.eval()
        self.module.to("cpu")
        return TrainingResult(
            steps=self.step,
            best_step=self.best_step,
            best=self.monitor.at("validation", self.best_step),
            curves=self.monitor.curves,
            tokens=self.tokens,
            seconds=seconds,
            processes=self.accelerator.num_processes,
            device=str(self.accelerator.device),
        )


def _groups(module: nn.Module, plan: TrainingPlan) -> list[dict[str, Any]]:
    """Of each player, parameters that decay (matrices that are no embeddings), and those that do not."""
    embeddings = {id(p) for m in module.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    groups = []
    for player in _players(module):
        own = [p for p in player.weights if p.requires_grad]
        decays = [p for p in own if p.ndim >= 2 and id(p) not in embeddings]
        chosen = {id(p) for p in decays}
        pace = {"rate": player.rate, "betas": player.betas or plan.betas}
        groups += [
            {"params": decays, "weight_decay": plan.weight_decay, **pace},
            {"params": [p for p in own if id(p) not in chosen], "weight_decay": 0.0, **pace},
        ]
    return [group for group in groups if group["params"]]


def _players(module: nn.Module) -> Sequence[Player]:
    if hasattr(module, "players"):
        return cast(Sequence[Player], cast(Any, module).players())
    return (Player(tuple(module.parameters())),)


def _step_seed(seed: int, step: int, process: int) -> int:
    """Seed of what the model draws in one step of one process."""
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> 1)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
