"""What the GANs make of sources that are known, over three seeds of training: distances and mode coverage.

    python tests/gan_known_answers.py -o results/gan-known-answers.md

Orders come from a first-order Markov chain (``tests/generators/markov_orders.py``): the distance is the total variation
between the frequencies of types that follow one another. Returns come from GARCH(1, 1): the distance is that of
clustering (``generators/fin_gan/distances.py``). The control is the source in random order, which keeps every marginal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent / "generators"))

import test_fin_gan as returns
import test_order_gans as orders

from marsbench.files import markdown_table, write_atomic
from marsbench.generators.fin_gan import training
from marsbench.generators.fin_gan.distances import coverage, distances
from marsbench.learning.order_players import order_coverage

SEEDS = (0, 1, 2)
Row = tuple[str, str, str, str, str, str]


def of_orders() -> Iterator[Row]:
    """Rows of the generators of orders."""
    source = orders.chain(np.random.default_rng(77), 2000, 25)
    control = orders.apart(orders.pairs(orders.shuffled(source)), orders.pairs(source))
    for name in orders.MODELS:
        for seed in SEEDS:
            made = orders.generated(orders.learned(name, seed))
            distance = orders.apart(orders.pairs(made), orders.pairs(source))
            covered = order_coverage(torch.as_tensor(made), torch.as_tensor(source))
            yield name, "Markov orders", str(seed), f"{distance:.3f}", f"{control:.3f}", f"{covered:.3f}"


def of_returns() -> Iterator[Row]:
    """Rows of ``fin-gan``; the smaller coverage, of classes of returns or of windows by their volatility."""
    training.POINTS = 8
    source = returns.garch_source()
    shuffled = distances(source.shuffled, source.judged)
    for seed in SEEDS:
        model, _ = training.learn(source.train, source.held, returns.GARCH, seed=seed, say=lambda _: None)
        made = model.judged()
        found = float(distances(made, source.judged)["clustering"])
        covered = min(coverage(made, source.judged).values())
        control = float(shuffled["clustering"])
        yield "fin-gan", "GARCH returns", str(seed), f"{found:.3f}", f"{control:.3f}", f"{covered:.3f}"


def main() -> None:
    """Train, and print or write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="write the page there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    head: Row = ("generator", "source", "seed", "distance", "of the source in random order", "mode coverage")
    rows = [*of_orders(), *of_returns()]
    page = [
        "# GANs on sources that are known", " ".join((__doc__ or "").split("\n\n")[2].split()).replace("``", "`"),
        "Mode coverage: share of the source in classes that are made at least a quarter as often; of returns, classes "
        "of single ones or of windows by their volatility, whichever share is smaller.", markdown_table(head, rows),
        "Made by `python tests/gan_known_answers.py -o results/gan-known-answers.md`.",
    ]  # fmt: skip
    text = "\n\n".join(page) + "\n"
    if options.output is None:
        print(text)
    else:
        print(write_atomic(options.output, text))


if __name__ == "__main__":
    main()
