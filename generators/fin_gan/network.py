"""The networks of FIN-GAN: three makers of return series, and the critic that all of them face."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from .sizes import BESIDE, CHANNELS, FIRST, HIDDEN, KERNELS, NOISE, STRETCH, check

MADE_SLOPE, CRITIC_SLOPE = 0.3, 0.2
"""Of leaky rectifiers below 0."""
CRITIC_KERNEL = 10
INITIAL = 0.05
"""First weights of the MLP are uniform within these bounds."""


class Perceptron(nn.Module):
    """Noise ``[n, 100]`` -> 128 -> 2048 -> series ``[n, length]`` in (-1, 1), tanh throughout."""

    def __init__(self, length: int) -> None:
        super().__init__()
        sizes = (NOISE, FIRST, HIDDEN, length)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.uniform_(layer.weight, -INITIAL, INITIAL)
            nn.init.zeros_(layer.bias)

    def forward(self, noise: Tensor) -> Tensor:
        for layer in self.layers:
            noise = torch.tanh(layer(noise))
        return noise


class Upsampled(nn.Module):
    """First layer ``[n, 128]`` -> series ``[n, length]`` in (-1, 1): six times doubled in length and convolved."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.places = length // STRETCH
        widths = (FIRST // self.places, *[CHANNELS] * len(KERNELS))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(a, b, kernel) for a, b, kernel in zip(widths, widths[1:], KERNELS, strict=False)
        )
        self.beside = nn.ModuleList(nn.Conv1d(CHANNELS, CHANNELS, kernel) for kernel in BESIDE)
        self.norms = nn.ModuleList(nn.BatchNorm1d(CHANNELS, eps=1e-3, momentum=0.01) for _ in KERNELS)
        self.last = nn.Conv1d(CHANNELS, 1, 1)
        _glorot(self)

    def forward(self, first: Tensor) -> Tensor:
        x = first.reshape(len(first), -1, self.places)
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = _same(convolution, x.repeat_interleave(2, dim=2))
            if i == len(KERNELS) - 1:
                x = x + sum(_same(other, x) for other in self.beside)
            x = nn.functional.leaky_relu(norm(x), MADE_SLOPE)
        return torch.tanh(self.last(x)).squeeze(1)


class Convolutional(nn.Module):
    """Noise ``[n, 100]`` -> 128 -> series ``[n, length]`` in (-1, 1), by convolutions (``cnn``), or the product of
    that with a perceptron on the same 128 (``mlp-cnn``)."""

    def __init__(self, length: int, product: bool) -> None:
        super().__init__()
        self.first = nn.Linear(NOISE, FIRST)
        self.factor = nn.Linear(FIRST, length) if product else None
        _glorot(self)
        self.upsampled = Upsampled(length)

    def forward(self, noise: Tensor) -> Tensor:
        first = self.first(noise)
        series: Tensor = self.upsampled(first)
        return series if self.factor is None else series * torch.tanh(self.factor(first))


class Critic(nn.Module):
    """Series ``[n, length]`` -> logits ``[n]``: three convolutions of ten minutes, a layer of 32, dropout."""

    def __init__(self, length: int) -> None:
        super().__init__()
        widths = (1, 64, 128, 128)
        self.convolutions = nn.ModuleList(nn.Conv1d(a, b, CRITIC_KERNEL) for a, b in itertools.pairwise(widths))
        self.hidden = nn.Linear(widths[-1] * length, 32)
        self.dropout = nn.Dropout(0.5)
        self.last = nn.Linear(32, 1)
        _glorot(self)

    def forward(self, series: Tensor) -> Tensor:
        x = series.unsqueeze(1)
        for convolution in self.convolutions:
            x = nn.functional.leaky_relu(_same(convolution, x), CRITIC_SLOPE)
        x = self.dropout(nn.functional.leaky_relu(self.hidden(x.flatten(1)), CRITIC_SLOPE))
        logits: Tensor = self.last(x)
        return logits.squeeze(1)


def maker(architecture: str, length: int) -> nn.Module:
    """The maker of an architecture, with its first weights."""
    check(architecture, length)
    return Perceptron(length) if architecture == "mlp" else Convolutional(length, product=architecture == "mlp-cnn")


def _same(convolution: nn.Module, x: Tensor) -> Tensor:
    """A convolution ``[n, channels, length]`` that keeps the length: zeros on both sides, one more behind if odd."""
    assert isinstance(convolution, nn.Conv1d)
    zeros = convolution.kernel_size[0] - 1
    out: Tensor = convolution(nn.functional.pad(x, (zeros // 2, zeros - zeros // 2)))
    return out


def _glorot(module: nn.Module) -> None:
    """First weights as in Keras: Glorot's uniform ones, no bias."""
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv1d)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
