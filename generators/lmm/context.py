"""What the ring of keys and values does beyond the context, measured on held-out orders.

In rollouts a kept order still carries what it once read in orders that are gone (see ``session``). The authors' public
code computes the window of the last ``context`` orders anew at every order. With one layer the two are the same. How
far they are apart in a trained model, says ``python -m marsbench.generators.lmm.context ARTIFACT TOKENS``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from marsbench.learning.checkpoints import load_config, load_model
from marsbench.learning.token_files import TokenFiles, Windows
from marsbench.learning.vocabulary import SIZES

from .llama import Ring
from .order_model import OrderModel
from .recipe import ModelConfig

SEQUENCES, POSITIONS = 32, 16
"""So many windows are computed anew."""
BATCH = 8
"""Windows at a time."""
FIELDS = ("interval", "type", "price", "volume")


def context_effect(
    model: OrderModel, files: TokenFiles, context: int, *, sequences: int, length: int, seed: int, positions: int
) -> dict[str, Any]:
    """Nats per order beyond the context with the ring and with windows computed anew, and how far the two are apart.

    Parameters
    ----------
    files
        Held-out orders.
    context
        Orders that the ring holds.
    sequences
        Stretches of ``context + length`` orders; fewer where the files hold fewer.
    length
        Orders beyond the context in each.
    seed
        Of the choice of stretches.
    positions
        At so many of these orders, evenly spread, the last among them, the two are compared.

    Returns
    -------
    dict
        ``ring_nats`` and ``recomputed_nats``, means over all compared orders; ``difference_nats``, the first minus the
        second (below 0: the ring is better), and its standard error over stretches, ``difference_se``;
        ``divergence_nats``, by field, the mean Kullback-Leibler divergence of the ring's distribution of the next
        order's field, given its true fields before that, from the recomputed one's; and what was compared. Empty
        where no two stretches are to be had.
    """
    if sum((p.rows - 1) // (context + length) for p in files.parts) < 2:
        return {}
    windows = Windows(files, context + length, seed)
    batch = {k: torch.as_tensor(v) for k, v in windows.batch(0, min(sequences, windows.per_epoch)).items()}
    batch = {k: v.to(model.order.kind.weight.device) for k, v in batch.items()}
    beyond = np.unique(np.linspace(length / positions, length, positions).round().astype(int))
    model.eval()
    with torch.inference_mode():
        nats, divergence = _compare(model, batch, context, [context - 1 + k for k in beyond.tolist()])
    difference = (nats[0] - nats[1]).mean(1)
    return {
        "context": context,
        "sequences": len(difference),
        "orders_beyond": length,
        "positions": len(beyond),
        "ring_nats": float(nats[0].mean()),
        "recomputed_nats": float(nats[1].mean()),
        "difference_nats": float(difference.mean()),
        "difference_se": float(difference.std() / len(difference) ** 0.5),
        "divergence_nats": dict(zip(FIELDS, divergence.mean((0, 1)).tolist(), strict=True)),
    }


def _compare(model: OrderModel, batch: dict[str, Tensor], context: int, at: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Nats ``[2, S, P]`` of the orders after those at ``at``, ring and recomputed; divergences ``[S, P, 4]``."""
    tokens, features = batch["tokens"].long(), batch["features"]
    beside = features[:, 1:] if model.after else features[:, :-1]
    x = model.embed(tokens[:, :-1], beside, batch["group"][:, None])  # [S, context + length, d]
    nats, divergences = [], []
    for position, ring in zip(at, _ring_states(model, x, context, at), strict=True):
        windows = x[:, position + 1 - context : position + 1]
        anew = torch.cat([model.decoder(part)[:, -1] for part in torch.split(windows, BATCH)])
        state, target = features[:, position + 1], tokens[:, position + 1]
        own, other = (next_order(model, hidden, state, target) for hidden in (ring, anew))
        nats.append(torch.stack([_nats(found, target) for found in (own, other)]))
        apart = [(q.exp() * (q - p)).sum(-1) for p, q in zip(own, other, strict=True)]
        divergences.append(torch.stack(apart, -1))
    return torch.stack(nats, -1).cpu().double(), torch.stack(divergences, 1).cpu().double()


def _ring_states(model: OrderModel, x: Tensor, context: int, at: Sequence[int]) -> list[Tensor]:
    """Hidden states ``[S, d]`` after the orders at ``at``, as in rollouts: one order after the other."""
    ring, rows = Ring(model.config.shape, len(x), context, like=x), np.arange(len(x))
    model.decoder(x[:, :context], ring=ring)
    found = []
    for t in range(context, at[-1] + 1):
        hidden = model.decoder.step(x[:, t], ring, rows)
        if t in at:
            found.append(hidden)
    return found


def next_order(model: OrderModel, hidden: Tensor, features: Tensor, target: Tensor) -> list[Tensor]:
    """Log probabilities ``[n, slots]`` of the next order's interval, type, price and volume, each given those before.

    ``hidden`` ``[n, d]`` of the decoder, ``features`` ``[n, F]`` right before the order ``target``, ``[n, 4]``.
    """
    types, price, _, interval = target.unbind(-1)
    if model.lm_head is not None:
        parts = [
            _joint(model.lm_head.weight, *part)
            for part in zip(torch.split(hidden, BATCH), torch.split(target, BATCH), strict=True)
        ]
        return [torch.cat(own) for own in zip(*parts, strict=True)]
    head = model.factorised
    assert head is not None
    context = head.context(hidden, features)
    logits = [head.interval_logits(context)]
    of_type, context = head.type_logits(context, interval)
    of_price, context = head.price_logits(context, types)
    logits += [of_type, of_price, head.volume_logits(context, types, price)]
    return [torch.log_softmax(found, -1) for found in logits]


def _joint(weight: Tensor, hidden: Tensor, target: Tensor) -> list[Tensor]:
    """The same of a joint head."""
    types, price, _, interval = target.unbind(-1)
    rows = torch.arange(len(hidden), device=hidden.device)
    table = functional.linear(hidden, weight).view(-1, *SIZES)
    given = table[rows, :, :, :, interval]
    sums = table.logsumexp((1, 2, 3)), given.logsumexp((2, 3)), given[rows, types].logsumexp(2)
    return [torch.log_softmax(found, -1) for found in (*sums, given[rows, types, price])]


def _nats(found: list[Tensor], target: Tensor) -> Tensor:
    """Cost ``[n]`` of whole orders."""
    order = target[:, [3, 0, 1, 2]]
    return -torch.stack([p.gather(1, order[:, i, None])[:, 0] for i, p in enumerate(found)]).sum(0)


def report(model: OrderModel, files: TokenFiles, context: int, seed: int) -> dict[str, Any]:
    """``context_effect`` over as many orders beyond the context as it holds, twice; seconds for small models."""
    return context_effect(
        model, files, context, sequences=SEQUENCES, length=2 * context, seed=seed, positions=POSITIONS
    )


def sentence(found: dict[str, Any]) -> str:
    """For a model card."""
    apart = sum(found["divergence_nats"].values())
    return (
        f"Beyond its {found['context']} orders of context it forgets the oldest without computing the others anew: "
        f"{found['difference_nats']:+.4f} nats per order (standard error {found['difference_se']:.4f}) against windows "
        f"computed anew, with next-order distributions {apart:.4f} nats apart."
    )


def _main() -> None:
    parser = argparse.ArgumentParser(description="What the ring of keys and values does beyond the context.")
    parser.add_argument("artifact", type=Path, help="folder of a trained order model")
    parser.add_argument("tokens", type=Path, help="folder of token files, or one with a folder 'validation' of them")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    config = load_config(given.artifact)
    model = OrderModel(ModelConfig.from_dict(config["model"]))
    load_model(given.artifact, model)
    held_out = given.tokens / "validation"
    files = TokenFiles(held_out if held_out.exists() else given.tokens)
    context = config["recipe"]["context"]
    found = report(model, files, context, given.seed)
    if not found:
        parser.exit(1, f"{files.folder}: no two stretches of {3 * context} orders of one period; nothing to compare\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    _main()
