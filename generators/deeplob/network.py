"""The network of DeepLOB: convolutions over levels, an inception module over time, an LSTM, three logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW, COLUMNS = 100, 40
"""Book states that it looks at, and numbers of each: price and volume of ten levels a side."""
CHANNELS, BRANCH, MEMORY, CLASSES = 32, 64, 64, 3
DROPOUT = 0.2


def _over_time(inside: int, outside: int, steps: int) -> nn.Module:
    """A convolution over time that keeps its length, one more step ahead than behind where ``steps`` is even."""
    before, after = (steps - 1) // 2, steps // 2
    return nn.Sequential(
        nn.ZeroPad2d((0, 0, before, after)), nn.Conv2d(inside, outside, (steps, 1)), nn.LeakyReLU(0.01)
    )


def _over_levels(inside: int, width: int, stride: int) -> nn.Module:
    """Joins neighbouring columns, then looks at four steps twice."""
    return nn.Sequential(
        nn.Conv2d(inside, CHANNELS, (1, width), stride=(1, stride)),
        nn.LeakyReLU(0.01),
        _over_time(CHANNELS, CHANNELS, 4),
        _over_time(CHANNELS, CHANNELS, 4),
    )


class Network(nn.Module):
    """Windows ``[B, 100, 40]``, level by level (ask price, ask volume, bid price, bid volume), to logits ``[B, 3]``."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.Sequential(_over_levels(1, 2, 2), _over_levels(CHANNELS, 2, 2), _over_levels(CHANNELS, 10, 1))
        self.short = nn.Sequential(_over_time(CHANNELS, BRANCH, 1), _over_time(BRANCH, BRANCH, 3))
        self.long = nn.Sequential(_over_time(CHANNELS, BRANCH, 1), _over_time(BRANCH, BRANCH, 5))
        self.largest = nn.Sequential(nn.MaxPool2d((3, 1), 1, padding=(1, 0)), _over_time(CHANNELS, BRANCH, 1))
        self.dropout = nn.Dropout1d(DROPOUT)
        """Of whole channels, in training alone."""
        self.lstm = nn.LSTM(3 * BRANCH, MEMORY, batch_first=True)
        self.head = nn.Linear(MEMORY, CLASSES)

    def forward(self, windows: Tensor) -> Tensor:
        x = self.levels(windows[:, None])
        x = torch.cat([self.short(x), self.long(x), self.largest(x)], 1)[..., 0]  # [B, 192, 100]
        hidden, _ = self.lstm(self.dropout(x).transpose(1, 2))
        out: Tensor = self.head(hidden[:, -1])
        return out

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean nats per window. ``batch``: ``windows`` ``[B, 100, 40]``, ``classes`` ``[B]``."""
        logits = self(batch["windows"].float())
        return {"class": functional.cross_entropy(logits, batch["classes"].long())}
