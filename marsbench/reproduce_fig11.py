"""MarS Figure 11: does an order model that sees the book lose less on held-out days than one that does not?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from marsbench.fitting import training_curves
from marsbench.reproduce import Made, Table, TrainedItem
from marsbench.simulation.contracts import Artifact

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WITH, WITHOUT = "order + book", "order"
_SPEC = "lmm-order-2m,layout=paper,tokens=2000000"
FIELDS = ("interval", "type", "price", "volume", "total")
CURVES, FINAL = "Validation loss by orders seen, nats per order", "Validation loss at the end, nats per order"


def _make(arms: Mapping[str, Sequence[Artifact]]) -> Made:
    paired = [(_config(a), _config(b)) for a, b in zip(arms[WITH], arms[WITHOUT], strict=True)]
    rows = []
    for field in FIELDS:
        ours = np.array([[pair[i]["validation"][field] for i in (0, 1)] for pair in paired])
        gain = ours[:, 1] - ours[:, 0]
        half = stats.t.ppf(0.975, len(gain) - 1) * gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.nan
        low, high = (float(gain.mean() + s * half) for s in (-1, 1))
        rows.append((field, *map(float, ours.mean(axis=0)), float(gain.mean()), *(_or_none(x) for x in (low, high))))
    final = Table(FINAL, ("field", WITH, WITHOUT, "difference", "95% from", "to"), tuple(rows))
    return Made(
        generator="lmm-order-2m, layout paper",
        tables=(final, _curves(arms)),
        summary=_summary(rows[-1], len(paired)),
        notes=(
            "A model of 2 million weights saw 2 million orders of this data set, not 16 billion of 500 stocks.",
            "The head is factorised, so that the loss is the sum of four conditional ones; the paper's is joint. Both "
            "are the cross entropy of the whole token, but on other bins: only the difference compares.",
            "The interval of the difference is over training seeds, paired (same order of the data), not over days.",
        ),
    )


def _config(artifact: Artifact) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((artifact.folder / "config.json").read_text())["config"]
    return config


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _summary(total: tuple[Any, ...], seeds: int) -> str:
    _, ours, other, gain, low, high = total
    if low is None:
        verdict = "one seed gives no interval"
    elif low > 0:
        verdict = "the book helps, as in the paper"
    else:
        verdict = "the book hurts" if high < 0 else "no difference is shown"
    interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
    return (
        f"With the book {ours:.3f}, without {other:.3f} nats per order on held-out days: a difference of {gain:.3f}"
        f"{interval} over {seeds} seeds; {verdict}. The paper's curves end at about 7.0 and 7.2."
    )


def _curves(arms: Mapping[str, Sequence[Artifact]]) -> Table:
    columns: list[tuple[Any, ...]] = []
    for artifacts in arms.values():
        curves = [training_curves(a)["validation.total"] for a in artifacts]
        steps = curves[0]["step"]
        recipe = _config(artifacts[0])["recipe"]
        orders = [int(s) * recipe["batch"] * recipe["context"] for s in steps]
        columns = columns or [tuple(orders)]
        columns += [tuple(c["value"]) for c in curves]
    names = tuple(f"{arm}, seed {a.seed}" for arm, artifacts in arms.items() for a in artifacts)
    return Table(CURVES, ("orders", *names), tuple(zip(*columns, strict=True)))


def _draw(made: Made) -> Figure:
    """Curves of both arms, a line for each seed."""
    from marsbench.drawing import figure, style

    table = next(t for t in made.tables if t.title == CURVES)
    values = np.array([[np.nan if v is None else v for v in row] for row in table.rows], float)
    after = values[:, 0] > values[-1, 0] * 0.04  # the first points would hide the rest
    with style():
        drawn, (ax,) = figure(1, 1, width=5.6, height=3.8)
        for arm, colour in ((WITH, "#2a6f97"), (WITHOUT, "#bc4b51")):
            own = [i for i, name in enumerate(table.columns) if name.startswith(f"{arm}, ")]
            for i in own:
                ax.plot(values[after, 0] / 1e6, values[after, i], color=colour, alpha=0.35, lw=1)
            mean = values[after][:, own].mean(axis=1)
            ax.plot(values[after, 0] / 1e6, mean, color=colour, lw=2, label=f"{arm} (mean of {len(own)})")
        ax.set(xlabel="orders seen, millions", ylabel="validation loss, nats per order", title=made.generator)
        ax.legend()
    return drawn


FIG11 = TrainedItem(
    name="fig11",
    title="Figure 11: order tokens with and without the book",
    source="MarS (ICLR 2025), Figure 11 and appendix B.3",
    arms={WITH: _SPEC, WITHOUT: f"{_SPEC},book=false"},
    seeds=(0, 1, 2),
    make=_make,
    draw=_draw,
)
