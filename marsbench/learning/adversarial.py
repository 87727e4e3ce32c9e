"""Two players that train against each other in the one training loop: what makes data, and what tells them apart.

A model of this kind is a ``Trainable`` like any other. In training its losses are those of the two players; each
reaches the weights of its own player alone, and the maker's comes with a gradient only in every ``critic_steps``-th
step, so that the optimiser leaves it alone in the others. In evaluation its losses are distances between what it
makes and held-out data, by which the weights are chosen: the loss of a player says nothing about how good it is.

``wasserstein`` is the critic of Arjovsky et al. (2017) with the gradient penalty of Gulrajani et al. (2017), equation
3; ``cross-entropy`` the discriminator and the non-saturating loss of Goodfellow et al. (2014), section 3. Otherwise
than there, where both players move in one step they do so from the weights before it, not one after the other.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from marsbench.learning.contracts import Player
from marsbench.learning.monitor import TOTAL, Diverged
from marsbench.learning.plan import Rivalry
from marsbench.learning.training import TrainingResult


class Adversarial(nn.Module):
    """A maker and its critic. Subclasses set ``maker`` and ``critic`` and say what is made and how it is judged.

    What is made and what is real are tensors of one shape ``[n, ...]``; the critic judges them with whatever
    ``given`` returns, which it may make with weights of its own.
    """

    maker: nn.Module
    critic: nn.Module
    updates: Tensor
    """Steps of training so far."""
    unit = "apart"
    """What the sum of the distances is in."""

    def __init__(self, rivalry: Rivalry) -> None:
        super().__init__()
        self.rivalry = rivalry
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def make(self, batch: dict[str, Tensor]) -> Tensor:
        """Data like those of a batch, with a gradient for the maker, ``[n, ...]``."""

    @abstractmethod
    def real(self, batch: dict[str, Tensor]) -> Tensor:
        """The data of a batch in the same form."""

    @abstractmethod
    def distances(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """How far what is made lies from held-out data, by name; all that is random comes from a fixed seed."""

    def given(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """What the critic is told beside, ``[n, ...]`` each."""
        del batch
        return ()

    def players(self) -> tuple[Player, ...]:
        """The weights by player, for the optimiser."""
        how = self.rivalry
        return (
            Player(tuple(self.maker.parameters()), 1.0, how.maker_betas),
            Player(tuple(self.critic.parameters()), how.critic_rate, how.critic_betas),
        )

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """In training those of ``critic`` and ``maker``, in evaluation the distances."""
        if not self.training:
            return self.distances(batch)
        self.updates += 1
        moves = int(self.updates) % self.rivalry.critic_steps == 0
        given, real = self.given(batch), self.real(batch)
        with torch.set_grad_enabled(moves):
            made = self.make(batch)
            frozen = {name: weight.detach() for name, weight in self.critic.named_parameters()}
            judged = torch.func.functional_call(self.critic, frozen, (made, *(g.detach() for g in given)))
            maker = self._maker_loss(judged)
        return {"critic": self._critic_loss(real, made.detach(), given), "maker": maker}

    def _maker_loss(self, judged: Tensor) -> Tensor:
        if self.rivalry.loss == "wasserstein":
            return -judged.mean()
        return functional.binary_cross_entropy_with_logits(judged, torch.ones_like(judged))

    def _critic_loss(self, real: Tensor, made: Tensor, given: tuple[Tensor, ...]) -> Tensor:
        of_real, of_made = self.critic(real, *given), self.critic(made, *given)
        if self.rivalry.loss == "cross-entropy":
            ones, zeros = torch.ones_like(of_real), torch.zeros_like(of_made)
            cross = functional.binary_cross_entropy_with_logits
            return (cross(of_real, ones) + cross(of_made, zeros)) / 2
        out: Tensor = of_made.mean() - of_real.mean()
        if self.rivalry.penalty:
            out = out + self.rivalry.penalty * self._steepness(real, made, given)
        return out

    def _steepness(self, real: Tensor, made: Tensor, given: tuple[Tensor, ...]) -> Tensor:
        """Mean squared distance from 1 of the gradient's norm at points between real and made."""
        share = torch.rand([len(real)] + [1] * (real.ndim - 1), device=real.device, dtype=real.dtype)
        between = (share * real + (1 - share) * made).requires_grad_()
        judged = self.critic(between, *given)
        (slope,) = torch.autograd.grad(judged.sum(), between, create_graph=True)
        out: Tensor = ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
        return out


def one_hot_draw(logits: Tensor, temperature: float) -> Tensor:
    """One-hot draws ``[..., n]`` from logits with the gradient of their relaxation.

    Straight-through Gumbel-softmax (Jang, Gu, Poole 2017; Maddison, Mnih, Teh 2017): the draw is exact, the gradient
    that of a softmax at this temperature of logits plus Gumbel noise.
    """
    return functional.gumbel_softmax(logits.float(), tau=temperature, hard=True, dim=-1)


def overlap_distance(made: Tensor, real: Tensor, classes: int) -> Tensor:
    """Total variation between the frequencies of integer classes ``[n]`` and ``[m]``: 0 alike, 1 apart."""
    of_made = torch.bincount(made.flatten(), minlength=classes).double() / max(made.numel(), 1)
    of_real = torch.bincount(real.flatten(), minlength=classes).double() / max(real.numel(), 1)
    return ((of_made - of_real).abs().sum() / 2).float()


def mode_coverage(made: Tensor, real: Tensor, classes: int, share: float = 0.25) -> float:
    """Share of real data ``[m]`` in classes that come at least ``share`` times as often among those made ``[n]``."""
    of_made = torch.bincount(made.flatten(), minlength=classes).double() / max(made.numel(), 1)
    of_real = torch.bincount(real.flatten(), minlength=classes).double() / max(real.numel(), 1)
    return float(of_real[of_made >= share * of_real].sum())


def check_learned(result: TrainingResult) -> None:
    """Make sure that training came to something: players can chase each other for ever.

    Raises
    ------
    Diverged
        If nothing that was made in training was nearer to held-out data than what untrained weights make.
    """
    curve = result.curves.get(f"validation.{TOTAL}")
    if curve is None or result.best_step > 0:
        return
    raise Diverged(
        f"training diverged: in {result.steps} steps the distance to held-out data was never below that of untrained "
        f"weights, {curve['value'][0]:.4g} (it ended at {curve['value'][-1]:.4g}). Try a lower learning_rate, more "
        "critic_steps, or more training data"
    )
