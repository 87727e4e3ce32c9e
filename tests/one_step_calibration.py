"""What an order model says of the next order, against what came: ``python tests/one_step_calibration.py``.

Reads validation days of an instrument in windows of the model's context and prints, by quantiles of the tempo, the
spread and how much the mid moved lately: the share of cancels and of orders that trade, and the mean interval, as
predicted over found. What is wrong in a rollout and not here comes from how orders are drawn, not from what the model
learned.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from marsbench.data.catalogue import open_dataset
from marsbench.generators.lmm.order_model import OrderModel
from marsbench.generators.lmm.recipe import ModelConfig
from marsbench.learning.checkpoints import load_config, load_model
from marsbench.learning.order_heads import CANCEL
from marsbench.learning.order_stream import STATE, order_stream
from marsbench.learning.tokeniser import Tokeniser
from marsbench.learning.vocabulary import BEAT, CROSSES, SIZES

SHIPPED = Path(__file__).resolve().parents[1] / "generators" / "lmm" / "checkpoints" / "lmm-order-2m-reference"
BEFORE, TOGETHER = 64, 8
"""Orders of a window that only give context; windows in a batch."""
BY = ("tempo_ns", "spread", "moves_180s")
QUANTILES = (0, 0.1, 0.5, 0.9, 0.99, 1)


@torch.inference_mode()
def predicted(model: OrderModel, batch: dict[str, torch.Tensor], trades: Any, beats: Any) -> Any:
    """P(cancel), P(trade) given the interval, and the mean interval in units of the tempo, each ``[B, T]``."""
    head = model.factorised
    assert head is not None
    context = head.context(model.hidden(batch), batch["features"][:, 1:])
    interval = torch.softmax(head.interval_logits(context), -1) @ beats
    logits, given = head.type_logits(context, batch["tokens"][:, 1:, 3])
    types = torch.softmax(logits, -1)
    trade = torch.zeros_like(interval)
    for side in range(CANCEL):
        price, _ = head.price_logits(given, torch.full(interval.shape, side))
        trade += types[..., side] * (torch.softmax(price, -1) @ trades)
    return np.stack([x.numpy() for x in (types[..., CANCEL], trade, interval)], -1)


def read(model: OrderModel, tokeniser: Tokeniser, trajectory: Any, context: int) -> tuple[Any, Any, Any]:
    """Predictions and what came ``[n, 3]`` (cancel, trade, interval in seconds), and columns ``BY`` ``[n, 3]``."""
    stream = order_stream(trajectory)
    _, group, tokens, features = tokeniser.content("", stream)
    bins = tokeniser.vocabulary.bins[tokeniser.vocabulary.groups[stream.instrument]]
    trades, beats = torch.zeros(SIZES[1]), torch.zeros(SIZES[3])
    trades[: len(bins.new_price)] = torch.as_tensor((bins.new_price.lower >= CROSSES).astype(np.float32))
    values, cumulative = bins.interval.table
    beats[: len(bins.interval)] = torch.as_tensor((values * np.diff(cumulative, axis=1, prepend=0)).sum(axis=1) / BEAT)
    starts = np.arange(0, len(tokens) - context - 1, 2 * context)
    said, found, state = [], [], []
    for some in np.array_split(starts, max(len(starts) // TOGETHER, 1)):
        rows = some[:, None] + np.arange(context + 1)
        batch = {
            "tokens": torch.as_tensor(tokens[rows].astype(np.int64)),
            "features": torch.as_tensor(features[rows].astype(np.float32)),
            "group": torch.full((len(some),), group),
        }
        at = rows[:, 1 + BEFORE :].ravel()
        part = predicted(model, batch, trades, beats)[:, BEFORE:].reshape(-1, 3)
        part[:, 2] *= stream.tempo_ns[at] / 1e9
        cancel = stream.kind[at] == CANCEL
        trade = ~cancel & (trades.numpy()[tokens[at, 1]] > 0)
        said.append(part)
        found.append(np.stack([cancel, trade, stream.interval_ns[at] / 1e9], 1))
        state.append(stream.states[at][:, [STATE.index(name) for name in BY]])
    return np.concatenate(said), np.concatenate(found), np.concatenate(state)


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--model", type=Path, default=SHIPPED, help="folder of a trained factorised model, layout touch"
    )
    options.add_argument("--dataset", default="reference")
    options.add_argument("--instruments", nargs="+", default=["REF-A", "REF-D"])
    options.add_argument("--days", type=int, default=5)
    asked = options.parse_args()
    config, data = load_config(asked.model), open_dataset(asked.dataset)
    model, tokeniser = OrderModel(ModelConfig.from_dict(config["model"])), Tokeniser.load(asked.model)
    load_model(asked.model, model.eval())
    for name in asked.instruments:
        periods = [p for p in data.split("validation") if p.instrument == name][: asked.days]
        parts = [read(model, tokeniser, data.trajectory(p), config["recipe"]["context"]) for p in periods]
        said, found, state = (np.concatenate(x) for x in zip(*parts, strict=True))
        print(f"{name}: {len(said):,} orders of {len(periods)} days; predicted over found")
        for column, by in enumerate(BY):
            edges = np.quantile(state[:, column], QUANTILES)
            for low, high in pairwise(edges):
                at = (state[:, column] >= low) & (state[:, column] <= high)
                cancel, trade, interval = said[at].mean(axis=0) / found[at].mean(axis=0)
                print(
                    f"  {by} {low:9.3g} to {high:9.3g}: {at.sum():7,} orders, cancels {cancel:.3f}, "
                    f"trades {trade:.3f}, interval {interval:.3f}"
                )


if __name__ == "__main__":
    main()
