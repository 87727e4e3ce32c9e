"""Base of generators of single orders that are trained against a critic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from marsbench.learning.order_generator import OrderByOrder
from marsbench.simulation.contracts import Session, Start, Work
from marsbench.simulation.randomness import Streams

if TYPE_CHECKING:
    from torch import nn

    from marsbench.data.catalogue import Dataset, Period
    from marsbench.learning.plan import Rivalry, TrainingPlan
    from marsbench.learning.token_data import Prepared
    from marsbench.learning.training import TrainingResult

LARGEST_RISE = 1e4
"""The sum of the players' losses has no meaning, but beyond this they have lost each other."""


class OrderGan(OrderByOrder):
    """Subclasses say what the network is; it has a ``maker``, ``sample`` and ``coverage``."""

    of_the_data = ("maker.balance.",)
    limits = (
        *OrderByOrder.limits,
        "It was not trained for likelihood: rare orders may be missing altogether (see mode_coverage in config.json).",
    )

    def rivalry(self) -> Rivalry:
        """How its players learn, from its options."""
        from marsbench.learning.plan import Rivalry

        return Rivalry(critic_steps=self.options["critic_steps"], penalty=self.options["penalty"])

    @property
    def balanced(self) -> str:
        """What a card says about the biases."""
        if self.options["rounds"] == 0:
            return "no biases"
        return f"biases fitted in {self.options['rounds']} rounds of its own simulations"

    def plan(self) -> TrainingPlan:
        from marsbench.learning.plan import TrainingPlan

        every = max(min(self.steps // 20, 250), 1)
        return TrainingPlan(
            steps=self.steps,
            batch_size=self.options["batch"],
            learning_rate=self.options["learning_rate"],
            min_learning_rate_ratio=0.1,
            warm_up_steps=0,
            weight_decay=0.0,
            betas=(0.0, 0.9),
            clip_norm=1e3,
            largest_rise=LARGEST_RISE,
            validate_every=every,
            checkpoint_every=every,
        )

    def check(self, dataset: Dataset, periods: Sequence[Period]) -> None:
        from marsbench.learning.balancing import stages_for

        if self.options["rounds"]:
            stages_for(dataset, periods)

    def checked(self, result: TrainingResult) -> None:
        from marsbench.learning.adversarial import check_learned

        check_learned(result)

    def finish(
        self, model: nn.Module, dataset: Dataset, periods: Sequence[Period], prepared: Prepared, seed: int, work: Work
    ) -> Mapping[str, Any]:
        """Biases of the maker, and how far frequencies in simulations were off before each round."""
        from marsbench.learning.balancing import balance, round_starts, stages_for

        network: Any = model
        rounds = self.options["rounds"]
        if rounds == 0:
            return {}
        found = balance(
            network.maker, prepared.tokeniser, prepared.train, partial(round_starts, dataset, periods, rounds=rounds),
            stages_for(dataset, periods), rounds=rounds, context=self.options["context"], seed=seed, say=work.say,
        )  # fmt: skip
        return {"balance": found}

    def facts(self, model: nn.Module, held: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Mode coverage, biases left out: share of held-out orders whose type and price are made a quarter as often."""
        import torch

        network: Any = model
        with torch.no_grad():
            parts = [network.coverage({k: torch.as_tensor(v) for k, v in batch.items()}) for batch in held]
        return {"mode_coverage": sum(parts) / len(parts)}

    def session(self, starts: Sequence[Start], rollouts: int, streams: Streams) -> Session:
        from marsbench.learning.noisy_session import NoisySession

        return NoisySession(
            self.model.maker, self.tokeniser, starts, rollouts, streams, context=self.options["context"]
        )
