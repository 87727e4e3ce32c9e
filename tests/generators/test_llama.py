"""The decoder against the library's LLaMA, and its ring of keys and values against whole sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from marsbench.generators.lmm import few_rows
from marsbench.generators.lmm.llama import Llama, Ring
from marsbench.generators.lmm.recipe import Shape

FULL = Shape(width=32, layers=2, heads=4, kv_heads=4, hidden=48)
GROUPED = Shape(width=32, layers=2, heads=4, kv_heads=2, hidden=48)
ONE_LAYER = Shape(width=32, layers=1, heads=4, kv_heads=1, hidden=48, theta=500.0)
ROWS, LENGTH = 3, 12


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, params=["by torch", "few rows"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of a step."""
    monkeypatch.setattr(few_rows, "MOST", 0 if request.param == "by torch" else 100)


def library(shape: Shape) -> LlamaModel:
    """The library's decoder with random weights."""
    configured: Any = LlamaConfig
    config = configured(
        vocab_size=2,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        rms_norm_eps=shape.eps,
        rope_parameters={"rope_type": "default", "rope_theta": shape.theta},
        initializer_range=0.3,
        attn_implementation="eager",
    )
    model: LlamaModel = LlamaModel(config)
    model.train(False)
    return model


def ours(theirs: LlamaModel, shape: Shape) -> Llama:
    """Our decoder with the same weights under the same names."""
    decoder = Llama(shape).eval()
    decoder.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("embed_tokens")})
    return decoder


@torch.no_grad()
def expected(theirs: LlamaModel, x: Tensor, window: int | None = None) -> Tensor:
    """The library's output, under an explicit mask that shows each order itself and those right before it."""
    mask: Any = None
    if window is not None:
        i = torch.arange(x.shape[1])
        seen = (i[None, :] <= i[:, None]) & (i[None, :] > i[:, None] - window)
        mask = torch.zeros(len(x), 1, len(i), len(i)).masked_fill(~seen, torch.finfo(x.dtype).min)
    out: Tensor = theirs(inputs_embeds=x, attention_mask=mask, use_cache=False).last_hidden_state
    return out


def inputs(rows: int = ROWS, length: int = LENGTH) -> Tensor:
    return torch.randn(rows, length, FULL.width)


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def prompted(decoder: Llama, x: Tensor, window: int) -> Ring:
    """A ring that has seen whole sequences; without any order, one that has seen nothing."""
    ring = Ring(decoder.shape, len(x), window, like=x)
    if x.shape[1]:
        decoder(x, ring=ring)
    return ring


@torch.no_grad()
def stepped(decoder: Llama, x: Tensor, ring: Ring, first: int) -> Tensor:
    """Outputs from order ``first`` on, one at a time."""
    rows = np.arange(len(x))
    return torch.stack([decoder.step(x[:, t], ring, rows) for t in range(first, x.shape[1])], dim=1)


@pytest.mark.parametrize("shape", [FULL, GROUPED, ONE_LAYER])
def test_the_decoder_equals_the_librarys_with_the_same_weights_under_the_same_names(shape: Shape) -> None:
    theirs, x = library(shape), inputs()
    close(ours(theirs, shape)(x), expected(theirs, x))


def test_dropout_of_attention_weights_acts_in_training_only() -> None:
    decoder, x = Llama(Shape(32, 1, 4, 2, 48, dropout=0.5)), inputs()
    assert not torch.equal(decoder(x), decoder(x))
    decoder.eval()
    assert torch.equal(decoder(x), decoder(x))


@pytest.mark.parametrize("shape", [FULL, GROUPED])
@pytest.mark.parametrize("prompt", [0, 1, 7])
def test_order_by_order_it_equals_whole_sequences_as_long_as_they_fit_the_window(shape: Shape, prompt: int) -> None:
    decoder, x = ours(library(shape), shape), inputs()
    for window in (LENGTH, LENGTH + 5):
        ring = prompted(decoder, x[:, :prompt], window)
        close(stepped(decoder, x, ring, prompt), decoder(x)[:, prompt:])
        assert ring.seen.tolist() == [LENGTH] * ROWS


@pytest.mark.parametrize("prompt", [0, 3, 5, 9])
def test_beyond_the_window_it_equals_attention_under_a_band_mask(prompt: int) -> None:
    theirs, x, window = library(ONE_LAYER), inputs(length=20), 5
    decoder = ours(theirs, ONE_LAYER)
    ring = prompted(decoder, x[:, :prompt], window)
    close(stepped(decoder, x, ring, prompt), expected(theirs, x, window)[:, prompt:])


def test_with_several_layers_a_window_of_keys_and_values_equals_a_band_mask_in_each() -> None:
    theirs, x, window = library(GROUPED), inputs(length=20), 5
    decoder = ours(theirs, GROUPED)
    close(stepped(decoder, x, prompted(decoder, x[:, :0], window), 0), expected(theirs, x, window))


@pytest.mark.parametrize("window", [6, 40])
def test_rows_take_turns_in_any_order_and_each_is_as_if_alone(window: int) -> None:
    theirs, x = library(GROUPED), inputs(length=15)
    decoder, wanted = ours(theirs, GROUPED), expected(theirs, x, window)
    ring, seen = prompted(decoder, x[:, :0], window), [0] * ROWS
    for turn in ([2, 0], [1], [0, 1, 2], [2, 1, 0], [1, 2, 0], [2], [0, 2], [2, 1], [1, 0, 2]) * 2:
        if max(seen[r] for r in turn) == x.shape[1]:
            continue
        with torch.no_grad():
            found = decoder.step(torch.stack([x[r, seen[r]] for r in turn]), ring, np.array(turn))
        close(found, torch.stack([wanted[r, seen[r]] for r in turn]))
        for r in turn:
            seen[r] += 1
    assert ring.seen[ring.place].tolist() == seen
    assert min(seen) > 8


def test_copies_of_a_row_go_their_own_ways_from_what_it_has_seen() -> None:
    decoder, copies = ours(library(GROUPED), GROUPED), 3
    past, future = inputs(rows=2, length=6), inputs(rows=2 * copies, length=4)
    ring = prompted(decoder, past, LENGTH)
    wide = ring.spread(copies)
    whole = torch.cat([past.repeat_interleave(copies, dim=0), future], dim=1)
    close(stepped(decoder, whole, wide, 6), decoder(whole)[:, 6:])
    again = torch.cat([past, future[:2]], dim=1)  # the original is untouched
    close(stepped(decoder, again, ring, 6), decoder(again)[:, 6:])


@pytest.mark.parametrize(("rows", "few"), [(1, True), (few_rows.MOST, True), (few_rows.MOST + 1, False)])
def test_only_few_rows_of_single_precision_go_without_torch(
    monkeypatch: pytest.MonkeyPatch, rows: int, few: bool
) -> None:
    monkeypatch.undo()
    decoder, x = Llama(GROUPED), inputs(rows, 1)[:, 0]
    assert few_rows.takes(x) == few
    assert not few_rows.takes(x.double())
    ring = Ring(GROUPED, rows, 5, like=x)
    with torch.no_grad():
        close(decoder.step(x, ring, np.arange(rows)), decoder(x[:, None])[:, 0])


def test_joined_rings_go_on_with_the_rows_of_all() -> None:
    decoder = ours(library(GROUPED), GROUPED)
    first, second = inputs(rows=1, length=9), inputs(rows=2, length=9)
    ring = Ring.joined([prompted(decoder, x[:, :6], LENGTH) for x in (first, second)])
    both = torch.cat([first, second])
    close(stepped(decoder, both, ring, 6), decoder(both)[:, 6:])


@pytest.mark.parametrize(("width", "heads", "kv_heads"), [(30, 4, 2), (32, 4, 3), (12, 4, 2)])
def test_dimensions_that_do_not_divide_are_an_error(width: int, heads: int, kv_heads: int) -> None:
    with pytest.raises(ValueError, match="width must be an even multiple of heads"):
        Shape(width, 1, heads, kv_heads, 8)
