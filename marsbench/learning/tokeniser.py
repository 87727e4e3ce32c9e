"""What turns a market into the numbers of an order model and back: token bins and the features of a layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from marsbench.files import pretty, write_atomic
from marsbench.learning.bins import Bins
from marsbench.learning.layouts import LAYOUTS, Layout
from marsbench.learning.order_stream import OrderStream
from marsbench.learning.token_files import Content
from marsbench.learning.vocabulary import CROSSES, FIELDS, TAKES, Vocabulary, interval_coordinates, price_coordinates
from marsbench.market.orders import Kind

BINS, LAYOUT, REPORT = "bins.json", "layout.json", "information_lost.json"


@dataclass(frozen=True)
class Tokeniser:
    """Token bins and a layout, both fitted on training data."""

    vocabulary: Vocabulary
    layout: Layout

    @classmethod
    def fit(cls, streams: Sequence[OrderStream], layout: str, *, data_hash: str = "") -> Self:
        """From training streams; each instrument is a group of its own."""
        kind = LAYOUTS[layout]
        vocabulary = Vocabulary.fit(streams, prices=kind.prices, intervals=kind.intervals, data_hash=data_hash)
        numbered = [(vocabulary.number(s.instrument), s) for s in streams]
        return cls(vocabulary, kind.fit(numbered, len(vocabulary.names)))

    def content(self, name: str, stream: OrderStream) -> Content:
        """Tokens and features of a stream, as token files take them."""
        group = self.vocabulary.number(stream.instrument)
        features = self.layout.features(stream.states, stream.books, group)
        return name, group, self.vocabulary.tokens(stream), features

    def save(self, folder: Path) -> None:
        """Write ``bins.json`` and ``layout.json``."""
        self.vocabulary.save(folder / BINS)
        write_atomic(folder / LAYOUT, json.dumps({"name": self.layout.name, **self.layout.to_dict()}) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises
        ------
        ValueError
            If a file is damaged.
        """
        path = folder / LAYOUT
        try:
            values: Mapping[str, Any] = json.loads(path.read_text())
            layout = LAYOUTS[values["name"]].from_dict(values)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: damaged layout ({error!r}); train again or restore it") from error
        return cls(Vocabulary.load(folder / BINS), layout)


def information_lost(vocabulary: Vocabulary, streams: Iterable[OrderStream]) -> dict[str, dict[str, dict[str, float]]]:
    """What the bins lose, by group and quantity: prices and volumes of new orders and cancels, intervals.

    ``values`` distinct ones in the streams; ``bits`` entropy of the token; ``bits_lost`` entropy of the value given
    its token (of intervals, which hardly repeat, after rounding to 1/16 of an octave); ``exact`` share of values that
    are alone in their bin; ``error_sd`` root mean square difference between a value and one drawn for its token,
    in standard deviations of the value (of prices: of the distance from the quote that they count from).
    """
    samples: dict[str, dict[str, list[Any]]] = {}
    for stream in streams:
        cancel = stream.kind == Kind.CANCEL
        where = price_coordinates(
            vocabulary.prices, stream.kind, stream.side, stream.price_ticks, stream.quotes_ticks, stream.ioc
        )
        own = samples.setdefault(vocabulary.groups[stream.instrument], {})
        for name, values in {
            "new_price": where[~cancel],
            "cancel_price": where[cancel],
            "new_volume": stream.size_shares[~cancel],
            "cancel_volume": stream.size_shares[cancel],
            "interval": interval_coordinates(vocabulary.intervals, stream.interval_ns, stream.tempo_ns),
        }.items():
            own.setdefault(name, []).append(values)
    return {
        group: {name: _lost(name, getattr(vocabulary.bins[group], name), np.concatenate(v)) for name, v in own.items()}
        for group, own in samples.items()
    }


def _lost(name: str, bins: Bins, values: Any) -> dict[str, float]:
    tokens = bins.encode(values)
    told = values
    if name == "interval":
        told = np.round(np.log2(np.maximum(values, 1)) * 16).astype(np.int64)
    joint = _entropy(np.unique(np.stack([tokens, told], 1), axis=0, return_counts=True)[1])
    of_token = _entropy(np.bincount(tokens))
    alone = np.array([len(v) == 1 for v in bins.values])
    drawn = bins.decode(tokens, np.random.default_rng(0).random(len(values)))
    distance = values - np.select([values >= TAKES, values >= CROSSES], [TAKES, CROSSES]) if "price" in name else values
    spread = float(distance.std())
    return {
        "values": float(len(np.unique(values))),
        "bits": of_token,
        "bits_lost": joint - of_token,
        "exact": float(alone[tokens].mean()),
        "error_sd": float(np.sqrt(np.mean((drawn - values) ** 2.0)) / spread) if spread else 0.0,
    }


def _entropy(counts: Any) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


def write_report(folder: Path, lost: Mapping[str, Any]) -> None:
    """Keep the report beside the bins."""
    write_atomic(folder / REPORT, pretty({"fields": list(FIELDS), "groups": lost}) + "\n")
