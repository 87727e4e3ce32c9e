"""Stored models: weights as safetensors, settings as JSON, and a model card. Read back as float32."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensors_as_bytes
from torch import Tensor, nn

from marsbench.files import markdown_table, pretty, write_atomic

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
Stored = Literal["float32", "float16", "bfloat16"]
"""Arithmetic in which weights are written; a half precision halves the file."""
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Card:
    """The facts of a model card; what is not known is left out of the card, never made up."""

    title: str
    summary: str
    command: str = ""
    """The command that trained it."""
    dataset: str = ""
    dataset_hash: str = ""
    seed: int | None = None
    steps: int | None = None
    best_step: int | None = None
    """The step whose weights these are."""
    tokens: int | None = None
    """Orders (or what ``unit`` says) seen, repetitions counted."""
    seconds: float | None = None
    hardware: str = ""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Validation loss by field, and ``total``, in nats."""
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """What simpler models lose on the same data: baseline -> field -> nats."""
    limits: Sequence[str] = ()
    """What it is not good for, one sentence each."""
    unit: str = "order"
    """What losses are counted per."""

    def to_markdown(self, more: Sequence[tuple[str, str]] = ()) -> str:
        """The card; ``more`` are further rows of its table of facts."""
        rows = [*self._facts(), *more]
        parts = [f"# {self.title}", self.summary, markdown_table(("", ""), rows) if rows else ""]
        if self.losses:
            parts += ["## Losses", f"Nats per {self.unit} on the validation periods; lower is better.", self._losses()]
        if self.limits:
            parts += ["## Limits", "\n".join(f"- {limit}" for limit in self.limits)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _facts(self) -> list[tuple[str, str]]:
        texts = {
            "trained by": f"`{self.command}`" if self.command else "",
            "data set": self.dataset,
            "hash of the data": f"`{self.dataset_hash}`" if self.dataset_hash else "",
            "seed": _text(self.seed),
            "steps": _text(self.steps),
            "weights of step": _text(self.best_step),
            f"{self.unit}s seen": _text(self.tokens),
            "time": "" if self.seconds is None else f"{self.seconds / 60:,.1f} min",
            "hardware": self.hardware,
        }
        return [(name, text) for name, text in texts.items() if text]

    def _losses(self) -> str:
        bits = {name: nats / math.log(2) for name, nats in self.losses.items()}
        columns = {"this model": self.losses, "in bits": bits, **self.baselines}
        names = list(dict.fromkeys(name for losses in columns.values() for name in losses))
        rows = [(n, *(f"{c[n]:.4f}" if n in c else "-" for c in columns.values())) for n in names]
        return markdown_table(("field", *columns), rows)


def _text(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def save_model(
    folder: Path, model: nn.Module, config: Mapping[str, Any], *, stored: Stored = "float32", card: Card | None = None
) -> dict[str, Any]:
    """Write ``model.safetensors``, ``config.json`` and, from a card, ``README.md``; returns what was written.

    Parameters
    ----------
    config
        Free, JSON-like settings from which the model can be built again; ``load_config`` gives them back.
    stored
        Weights beyond the range of float16 are an error, not infinities.

    Returns
    -------
    dict
        ``parameters``, ``stored``, ``rounding_error`` (the largest absolute one of any weight) and ``bytes``.

    Raises
    ------
    ValueError
        If a weight is not finite, before or after rounding.
    """
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()}
    rounded, error = _round(tensors, DTYPES[stored])
    content = tensors_as_bytes(rounded)
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "stored": stored,
        "rounding_error": error,
        "bytes": len(content),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / WEIGHTS, content)
    write_atomic(folder / CONFIG, pretty({"config": dict(config), **facts}) + "\n")
    if card is not None:
        rows = [("parameters", f"{facts['parameters']:,}"), ("weights", _weights_row(stored, error))]
        write_atomic(folder / CARD, card.to_markdown(rows))
    return facts


def _round(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> tuple[dict[str, Tensor], float]:
    """Floating-point tensors in another precision, and the largest change; whole numbers stay as they are."""
    out, error = {}, 0.0
    for name, tensor in tensors.items():
        out[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if tensor.is_floating_point() and tensor.numel():
            change = float((out[name].double() - tensor.double()).abs().max())
            if not torch.isfinite(out[name]).all() or change != change:
                raise ValueError(f"weight {name!r} is not finite as {dtype}; store it as float32, or train again")
            error = max(error, change)
    return out, error


def read_config(folder: Path) -> dict[str, Any]:
    """The whole of ``config.json``: ``config``, ``parameters``, ``stored``, ``rounding_error``, ``bytes``.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it is damaged.
    """
    path = _existing(folder, CONFIG)
    try:
        values = json.loads(path.read_text())
        return {**values, "config": dict(values["config"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged ({type(error).__name__}: {error}); restore it or train again") from error


def load_config(folder: Path) -> dict[str, Any]:
    """The settings that ``save_model`` was given; raises what ``read_config`` raises."""
    return cast(dict[str, Any], read_config(folder)["config"])


def load_model(folder: Path, model: nn.Module) -> None:
    """Put stored weights, as float32, into a model that was built from ``load_config``.

    Raises
    ------
    FileNotFoundError
        If the weights are not there.
    ValueError
        If the file is damaged, or names or shapes are not the model's; lists them.
    """
    found, expected = _read_weights(folder), model.state_dict()
    problems = _differences(found, expected)
    if problems:
        raise ValueError(f"{folder / WEIGHTS}: not the weights of this {type(model).__name__}: {'; '.join(problems)}")
    model.load_state_dict({name: found[name].to(tensor.dtype) for name, tensor in expected.items()})


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = _existing(folder, WEIGHTS)
    try:
        return parse_tensors(path.read_bytes())
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}); restore it or train again") from error


def _differences(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is unknown" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        if found[name].shape != expected[name].shape:
            problems.append(f"{name} is {list(found[name].shape)}, must be {list(expected[name].shape)}")
    return problems


def _existing(folder: Path, name: str) -> Path:
    path = Path(folder) / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; a stored model is a folder with {WEIGHTS} and {CONFIG}")
    return path


def copy_stored(source: Path, target: Path, *, stored: Stored) -> float:
    """Copy a folder that holds stored models, their weights in another precision; returns the largest rounding error.

    Models may lie in subfolders. Their ``config.json`` and the table of their card are brought up to date;
    weights that are in a half precision already, all other files, and hidden ones (left out) are not touched.

    Raises
    ------
    FileNotFoundError, ValueError
        As ``load_model``.
    """
    largest = 0.0
    files = [p for p in sorted(source.rglob("*")) if p.is_file() and p.name != "artifact.json" and p.name[0] != "."]
    for path in files:
        other = target / path.relative_to(source)
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(path.read_bytes())
    for path in [p for p in files if p.name == WEIGHTS]:
        facts = read_config(path.parent)
        if facts["stored"] == "float32" and stored != "float32":
            facts = _convert(path.parent, target / path.parent.relative_to(source), facts, stored)
        largest = max(largest, facts["rounding_error"])
    return largest


def _convert(source: Path, target: Path, facts: dict[str, Any], stored: Stored) -> dict[str, Any]:
    rounded, error = _round(_read_weights(source), DTYPES[stored])
    content = tensors_as_bytes(rounded)
    facts = {**facts, "stored": stored, "rounding_error": error, "bytes": len(content)}
    write_atomic(target / WEIGHTS, content)
    write_atomic(target / CONFIG, pretty(facts) + "\n")
    if (target / CARD).exists():
        before, after = (_weights_row(*row) for row in (("float32", 0.0), (stored, error)))
        write_atomic(target / CARD, (target / CARD).read_text().replace(before, after))
    return facts


def _weights_row(stored: str, error: float) -> str:
    """What a card says about the file of the weights."""
    return f"`{WEIGHTS}`, {stored}" + (f", largest rounding error {error:.2g}" if stored != "float32" else "")
