"""Losses by step: the curves that training leaves behind, and the alarm when it diverges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from marsbench.learning.plan import TrainingPlan

Curves = dict[str, dict[str, list[float]]]
"""Curve name -> {"step": [...], "value": [...]}, as ``training.json`` holds them."""

TOTAL = "total"
"""Name of the sum over all fields."""
BEGINNING = 10
"""The loss that a run began with is the mean over so many steps."""
MARGIN_STEPS = 100
"""A loss above the beginning by the plan's ``largest_rise`` for so many steps in a row has diverged."""
MOST_SKIPPED = 50
"""So many steps in a row may be skipped while fp16 looks for its scale."""


class Diverged(RuntimeError):
    """Training came to losses that are not finite, or far above those that it began with."""


@dataclass
class Monitor:
    """What is known of the losses so far; a plain state that is saved with the weights."""

    curves: Curves = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    """Sum of each train loss over the steps since the last point."""
    count: int = 0
    beginning: float = 0.0
    """Mean total over the first steps."""
    above: int = 0
    skipped: int = 0
    unit: str = "nats"
    """What losses are in."""

    def observe(self, step: int, losses: Mapping[str, float], norm: float, plan: TrainingPlan) -> None:
        """Take note of the losses and the gradient's norm of update ``step`` (1 is the first).

        Raises
        ------
        Diverged
            Saying at which step, the values, and what to try.
        """
        total = sum(losses.values())
        values = ", ".join(f"{name} {value:.4g}" for name, value in {TOTAL: total, **losses}.items())
        where = f"at step {step} of {plan.steps}: losses {values} {self.unit}, gradient norm {norm:.4g}"
        overflow = plan.precision == "fp16" and not math.isfinite(norm)
        self.skipped = self.skipped + 1 if overflow else 0
        if not math.isfinite(total) or not (math.isfinite(norm) or overflow):
            raise Diverged(f"training diverged {where}; {self._began()}{_advice(plan)}")
        if self.skipped > MOST_SKIPPED:
            raise Diverged(f"training diverged: fp16 found no scale in {MOST_SKIPPED} steps, {where}; {_advice(plan)}")
        if step <= BEGINNING:
            self.beginning += (total - self.beginning) / step
        self.above = self.above + 1 if step > BEGINNING and total > self.beginning + plan.largest_rise else 0
        if self.above >= MARGIN_STEPS:
            raise Diverged(
                f"training diverged: {MARGIN_STEPS} steps in a row above its beginning by more than "
                f"{plan.largest_rise:g} {self.unit}, {where}; {self._began()}{_advice(plan)}"
            )
        for name, value in {**losses, TOTAL: total}.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def _began(self) -> str:
        return f"it began at {self.beginning:.4g} {self.unit}. " if self.beginning else ""

    def train_point(self, step: int) -> dict[str, float]:
        """The train losses averaged over the steps since the last point, added to the curves."""
        means = {name: value / self.count for name, value in self.sums.items()} if self.count else {}
        self.sums, self.count = {}, 0
        return self.add("train", step, means)

    def add(self, part: str, step: int, losses: Mapping[str, float]) -> dict[str, float]:
        """Add one point to the curves ``<part>.<field>``; returns the values by curve."""
        named = {f"{part}.{name}": float(value) for name, value in losses.items()}
        for name, value in named.items():
            curve = self.curves.setdefault(name, {"step": [], "value": []})
            curve["step"].append(step)
            curve["value"].append(value)
        return named

    def at(self, part: str, step: int) -> dict[str, float]:
        """The losses of one point of the curves by field; empty where there is none."""
        return {
            name.removeprefix(f"{part}."): curve["value"][curve["step"].index(step)]
            for name, curve in self.curves.items()
            if name.startswith(f"{part}.") and step in curve["step"]
        }

    def state(self) -> dict[str, Any]:
        """Plain values, from which ``Monitor(**state)`` goes on."""
        return asdict(self)


def _advice(plan: TrainingPlan) -> str:
    return (
        f"Try a lower learning_rate (now {plan.learning_rate:g}), more warm_up_steps (now {plan.warm_up_steps}), a "
        f"smaller clip_norm (now {plan.clip_norm:g}), or precision 'no' (now {plan.precision!r})"
    )
