"""Stored models: what is written is what is read, and damage is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import nn

from marsbench.learning.checkpoints import Card, Stored, copy_stored, load_config, load_model, read_config, save_model

CARD = Card(
    title="A tiny model",
    summary="Predicts a Markov source.",
    command="marsbench train tiny",
    dataset="markov",
    dataset_hash="abc123",
    seed=0,
    steps=1000,
    tokens=1_234_567,
    seconds=5400,
    hardware="2 cores",
    losses={"total": 1.1453, "side": 0.5224},
    baselines={"frequencies": {"total": 2.0}},
    limits=("Knows one source only.",),
)


def test_a_model_comes_back_exactly_from_float32(tmp_path: Path) -> None:
    facts = save_model(tmp_path, one := tiny.model(seed=1), {"width": 16, "sizes": [1, 2]}, card=CARD)
    load_model(tmp_path, two := tiny.model(seed=2))
    assert tiny.fingerprint(one) == tiny.fingerprint(two)
    assert load_config(tmp_path) == {"width": 16, "sizes": [1, 2]}
    parameters = sum(p.numel() for p in one.parameters())
    assert facts == {k: v for k, v in read_config(tmp_path).items() if k != "config"}
    assert (facts["parameters"], facts["stored"], facts["rounding_error"]) == (parameters, "float32", 0.0)


@pytest.mark.parametrize(("stored", "relative"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
def test_half_precision_halves_the_file_and_reports_its_largest_rounding_error(
    stored: Stored, relative: float, tmp_path: Path
) -> None:
    whole = save_model(tmp_path / "whole", one := tiny.model(), {})
    half = save_model(tmp_path / "half", one, {}, stored=stored)
    assert half["bytes"] < 0.6 * whole["bytes"] or whole["bytes"] < 10_000
    load_model(tmp_path / "half", two := tiny.model(seed=2))
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    errors = [float((a - b).abs().max()) for a, b in pairs]
    assert half["rounding_error"] == pytest.approx(max(errors))
    assert 0 < max(errors) <= relative * max(float(p.detach().abs().max()) for p in one.parameters())
    assert all(t.dtype == torch.float32 for t in two.state_dict().values())


def test_the_card_is_made_of_facts_and_of_nothing_else(tmp_path: Path) -> None:
    save_model(tmp_path, tiny.model(), {}, stored="float16", card=CARD)
    text = (tmp_path / "README.md").read_text()
    for expected in (
        "# A tiny model",
        "| trained by | `marsbench train tiny` |",
        "| hash of the data | `abc123` |",
        "| orders seen | 1,234,567 |",
        "| time | 90.0 min |",
        "| field | this model | in bits | frequencies |",
        "| total | 1.1453 | 1.6523 | 2.0000 |",
        "| side | 0.5224 | 0.7537 | - |",
        "- Knows one source only.",
        "`model.safetensors`, float16, largest rounding error",
    ):
        assert expected in text
    save_model(tmp_path, tiny.model(), {}, card=Card("Bare", "Nothing is known."))
    assert "seed" not in (tmp_path / "README.md").read_text()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model.safetensors: not there"):
        load_model(tmp_path, tiny.model())
    with pytest.raises(FileNotFoundError, match=r"config.json: not there"):
        load_config(tmp_path)


def test_wrong_names_and_shapes_are_listed(tmp_path: Path) -> None:
    save_model(tmp_path, tiny.Tiny(width=8), {})
    with pytest.raises(ValueError, match=r"embed.weight is \[8, 8\], must be \[8, 16\]"):
        load_model(tmp_path, tiny.model())
    save_model(tmp_path, nn.Linear(2, 2), {})
    with pytest.raises(ValueError, match=r"side.bias is missing.*bias is unknown"):
        load_model(tmp_path, tiny.model())


def test_damaged_files_are_told(tmp_path: Path) -> None:
    save_model(tmp_path, tiny.model(), {})
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model.safetensors: damaged"):
        load_model(tmp_path, tiny.model())
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json: damaged"):
        load_config(tmp_path)


@pytest.mark.parametrize(("value", "stored"), [(1e6, "float16"), (float("nan"), "float32")])
def test_weights_that_are_not_finite_are_not_stored(value: float, stored: Stored, tmp_path: Path) -> None:
    model = tiny.model()
    with torch.no_grad():
        model.side.bias[0] = value
    with pytest.raises(ValueError, match=r"weight 'side.bias' is not finite"):
        save_model(tmp_path, model, {}, stored=stored)
    assert not list(tmp_path.iterdir())


def test_copying_rounds_models_in_subfolders_and_leaves_the_rest_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    save_model(source / "a", tiny.model(), {"width": 16}, card=CARD)
    save_model(source / "b", tiny.model(), {}, stored="bfloat16")
    (source / "vocabulary.json").write_text("[1]")
    (source / ".hidden").write_text("")
    error = copy_stored(source, target, stored="float16")
    assert error > 0
    model = ("model.safetensors", "config.json")
    expected = {"vocabulary.json", "a/README.md", *(f"{folder}/{name}" for folder in "ab" for name in model)}
    assert {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()} == expected
    assert load_file(target / "a" / "model.safetensors")["side.bias"].dtype == torch.float16
    assert load_config(target / "a") == {"width": 16}
    assert read_config(target / "a")["stored"] == "float16"
    assert "float16, largest rounding error" in (target / "a" / "README.md").read_text()
    assert (target / "b" / "model.safetensors").read_bytes() == (source / "b" / "model.safetensors").read_bytes()
    json.loads((target / "b" / "config.json").read_text())
