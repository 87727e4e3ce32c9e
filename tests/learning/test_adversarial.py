"""Two players: what is made approaches a known source, each learns from its own loss alone, and resuming is exact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from marsbench.learning.adversarial import (
    Adversarial,
    check_learned,
    mode_coverage,
    one_hot_draw,
    overlap_distance,
)
from marsbench.learning.monitor import Diverged
from marsbench.learning.plan import Rivalry, TrainingPlan
from marsbench.learning.training import TrainingResult, train

SHARES = np.array([0.55, 0.3, 0.12, 0.03])
PLAN = TrainingPlan(
    steps=300, batch_size=128, learning_rate=5e-3, min_learning_rate_ratio=1.0, warm_up_steps=0, weight_decay=0.0,
    betas=(0.5, 0.9), largest_rise=1e3, validate_every=50, checkpoint_every=70,
)  # fmt: skip


class Draws:
    """A source of four classes, by step."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def batch(self, step: int, size: int) -> dict[str, Any]:
        return {"class": np.random.default_rng([self.seed, step]).choice(4, (size, 1), p=SHARES)}

    def describe(self) -> Mapping[str, Any]:
        return {"source": "four classes", "seed": self.seed}


class Dice(Adversarial):
    """Makes one of four classes from noise."""

    def __init__(self, rivalry: Rivalry) -> None:
        super().__init__(rivalry)
        self.maker = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 4))
        self.critic = nn.Sequential(nn.Linear(4, 16), nn.SiLU(), nn.Linear(16, 1))

    def make(self, batch: dict[str, Tensor]) -> Tensor:
        return one_hot_draw(self.maker(torch.randn(len(batch["class"]), 4)), 1.0)

    def real(self, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.one_hot(batch["class"][:, 0], 4).float()

    def distances(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        noise = torch.randn(4096, 4, generator=torch.Generator().manual_seed(0))
        made = torch.multinomial(self.maker(noise).softmax(1), 1, generator=torch.Generator().manual_seed(1))
        return {"class": overlap_distance(made, batch["class"], 4)}


def held_out() -> list[dict[str, Any]]:
    return [Draws(99).batch(0, 4096)]


def dice(rivalry: Rivalry, seed: int = 0) -> Dice:
    torch.manual_seed(seed)
    return Dice(rivalry)


def learned(rivalry: Rivalry, seed: int = 0, **more: Any) -> tuple[Dice, TrainingResult]:
    model = dice(rivalry, seed)
    return model, train(model, Draws(), held_out(), replace(PLAN, **more.pop("plan", {})), seed=seed, **more)


@pytest.mark.parametrize("loss", ["wasserstein", "cross-entropy"])
def test_what_is_made_approaches_the_source(loss: Any) -> None:
    _, result = learned(Rivalry(loss=loss, critic_steps=2, penalty=1.0))
    curve = result.curves["validation.class"]["value"]
    assert curve[0] > 0.2
    assert min(curve) < 0.08
    check_learned(result)


def test_the_maker_moves_only_in_every_so_many_steps_and_the_critic_in_all() -> None:
    moves = []
    model = dice(Rivalry(critic_steps=3, penalty=1.0))
    for step in range(1, 7):
        model.train()
        for weight in model.parameters():
            weight.grad = None
        losses = model.losses({"class": torch.as_tensor(Draws().batch(step, 16)["class"])})
        torch.stack(tuple(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        moves.append(all(w.grad is not None for w in model.maker.parameters()))
        assert all(w.grad is not None for w in model.critic.parameters())
    assert moves == [False, False, True, False, False, True]


def test_each_loss_reaches_its_own_player_alone() -> None:
    batch = {"class": torch.as_tensor(Draws().batch(0, 64)["class"])}
    found = {}
    for name in ("critic", "maker"):
        model = dice(Rivalry(critic_steps=1, penalty=0.0)).train()
        torch.manual_seed(5)
        model.losses(batch)[name].backward()  # type: ignore[no-untyped-call]
        found[name] = [n for n, w in model.named_parameters() if w.grad is not None]
    assert all(n.startswith("critic.") for n in found["critic"])
    assert all(n.startswith("maker.") for n in found["maker"])


def test_the_penalty_is_zero_where_the_critic_has_slope_one() -> None:
    model = dice(Rivalry())
    model.critic = nn.Linear(4, 1, bias=False)
    model.critic.weight.data = torch.tensor([[0.6, 0.8, 0.0, 0.0]])
    real, made = torch.eye(4), torch.eye(4).flip(0)
    assert model._steepness(real, made, ()).item() == pytest.approx(0.0, abs=1e-10)
    model.critic.weight.data *= 3
    assert model._steepness(real, made, ()).item() == pytest.approx(4.0, rel=1e-5)


def test_players_have_their_own_pace() -> None:
    rivalry = Rivalry(loss="cross-entropy", critic_steps=1, critic_rate=0.05, critic_betas=(0.1, 0.999))
    model = dice(rivalry)
    before = {n: w.detach().clone() for n, w in model.named_parameters()}
    train(model, Draws(), [], replace(PLAN, steps=1, validate_every=1), seed=0)
    moved = {n: float((w.detach() - before[n]).abs().max()) for n, w in model.named_parameters()}
    assert moved["maker.2.bias"] == pytest.approx(PLAN.learning_rate, rel=0.05)
    assert moved["critic.2.weight"] == pytest.approx(0.05 * PLAN.learning_rate, rel=0.05)


def test_continued_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    rivalry = Rivalry(critic_steps=3, penalty=1.0)
    whole, of_whole = learned(rivalry, plan={"steps": 140})

    def stop(step: int, values: Mapping[str, float]) -> None:
        if step == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learned(rivalry, scratch=tmp_path, on_point=stop, plan={"steps": 140})
    continued, of_continued = learned(rivalry, scratch=tmp_path, plan={"steps": 140})
    assert of_continued.curves == of_whole.curves
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), continued.state_dict().values(), strict=True)
    )


def test_training_that_never_gets_better_is_reported() -> None:
    _, result = learned(Rivalry(), plan={"steps": 20, "validate_every": 10})
    curve: dict[str, list[float]] = {"step": [0, 10, 20], "value": [0.2, 0.5, 0.9]}
    with pytest.raises(Diverged, match=r"never below that of untrained weights, 0\.2 \(it ended at 0\.9\)"):
        check_learned(replace(result, best_step=0, curves={"validation.total": curve}))


def test_one_hot_draws_are_exact_and_carry_a_gradient() -> None:
    torch.manual_seed(0)
    logits = torch.log(torch.tensor(SHARES)).float().expand(200_000, 4).clone().requires_grad_()
    drawn = one_hot_draw(logits, 0.5)
    assert torch.equal(drawn.detach().round(), drawn.detach().round().clamp(0, 1))
    assert drawn.mean(0).tolist() == pytest.approx(SHARES.tolist(), abs=0.005)
    (drawn * torch.arange(4)).sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(logits.grad.abs().sum()) > 0


def test_distances_and_coverage_by_hand() -> None:
    made, real = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 2])
    assert float(overlap_distance(made, real, 4)) == pytest.approx(0.5)
    assert mode_coverage(made, real, 4) == pytest.approx(0.75)
    assert mode_coverage(real, real, 4) == 1.0


@pytest.mark.parametrize("wrong", [{"loss": "hinge"}, {"critic_steps": 0}, {"penalty": -1.0}, {"critic_rate": 0.0}])
def test_a_rivalry_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(wrong)))):
        Rivalry(**wrong)
