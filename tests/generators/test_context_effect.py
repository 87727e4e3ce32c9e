"""What the ring does beyond the context: against attention under a band mask, and windows computed one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_sessions import TINY, tokeniser, training_streams
from torch import Tensor
from torch.nn import functional

from marsbench.generators.lmm import context as module
from marsbench.generators.lmm.context import FIELDS, context_effect, next_order, sentence
from marsbench.generators.lmm.llama import Llama, rotate, rotation
from marsbench.generators.lmm.order_model import OrderModel
from marsbench.generators.lmm.recipe import ModelConfig
from marsbench.learning.checkpoints import load_config
from marsbench.learning.token_files import TokenFiles, Windows, write_token_files
from trained import trained

CONTEXT, LENGTH, SEQUENCES, POSITIONS = 6, 10, 5, 4
EVERY = (("touch", "factorised"), ("public", "joint"))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(3)


def model(layout: str, head: str, layers: int) -> OrderModel:
    """Random weights, large enough for attention to matter."""
    made = OrderModel(ModelConfig(replace(TINY, layers=layers), layout, head, groups=2))
    for layer in made.decoder.stack:
        for part in (layer.self_attn.q_proj, layer.self_attn.o_proj):
            part.weight.data *= 4
    if made.lm_head is not None:
        made.lm_head.weight.data *= 4
    return made.eval().requires_grad_(False)


def files(folder: Path, layout: str = "touch", orders: int = 100) -> TokenFiles:
    """The first orders of a day of each of two instruments."""
    contents = []
    for stream in training_streams()[:2]:
        name, group, tokens, features = tokeniser(layout).content(stream.instrument, stream)
        contents.append((name, group, tokens[:orders], features[: orders + 1]))
    return write_token_files(folder, contents, identity=layout)


def banded(decoder: Llama, x: Tensor, window: int) -> Tensor:
    """The decoder's output where in each layer each order sees itself and those right before it, ``window`` in all."""
    s, t = decoder.shape, torch.arange(x.shape[1])
    seen = (t[None, :] <= t[:, None]) & (t[None, :] > t[:, None] - window)
    cos, sin = rotation(t, s.head_width, s.theta)
    for layer in decoder.stack:
        own, h = layer.self_attn, layer.input_layernorm(x)
        parts = (part(h).unflatten(-1, (-1, s.head_width)) for part in (own.q_proj, own.k_proj, own.v_proj))
        q, k, v = (part.transpose(1, 2) for part in parts)
        k, v = (part.repeat_interleave(s.heads // s.kv_heads, 1) for part in (rotate(k, cos, sin), v))
        scores = rotate(q, cos, sin) @ k.transpose(-1, -2) / s.head_width**0.5
        out = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v
        x = x + own.o_proj(out.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return decoder.norm(x)


def compared(made: OrderModel, held: TokenFiles) -> tuple[Tensor, Tensor, Tensor]:
    """The twin: nats ``[S, P]`` with a band mask and with windows one by one, and divergences ``[S, P, 4]``."""
    batch = {k: torch.as_tensor(v) for k, v in Windows(held, CONTEXT + LENGTH, 7).batch(0, SEQUENCES).items()}
    tokens, features = batch["tokens"].long(), batch["features"]
    beside = features[:, 1:] if made.after else features[:, :-1]
    x = made.embed(tokens[:, :-1], beside, batch["group"][:, None])
    ring = banded(made.decoder, x, CONTEXT)
    rows, steps = [], [CONTEXT + k - 1 for k in (2, 5, 8, 10)]  # 2.5, 5, 7.5 and 10 orders beyond, rounded to even
    for s in range(SEQUENCES):
        for t in steps:
            anew = made.decoder(x[s : s + 1, t + 1 - CONTEXT : t + 1])[0, -1]
            state, target = features[s, t + 1][None], tokens[s, t + 1][None]
            parts = [next_order(made, hidden[None], state, target) for hidden in (ring[s, t], anew)]
            chain = target[0, [3, 0, 1, 2]]
            nats = [-sum(p[0, slot] for p, slot in zip(part, chain, strict=True)) for part in parts]
            apart = [functional.kl_div(p, q, log_target=True, reduction="sum") for p, q in zip(*parts, strict=True)]
            rows.append(torch.stack([*nats, *apart]))
    found = torch.stack(rows).view(SEQUENCES, len(steps), 6)
    return found[..., 0], found[..., 1], found[..., 2:]


def effect(made: OrderModel, held: TokenFiles) -> dict[str, Any]:
    return context_effect(made, held, CONTEXT, sequences=SEQUENCES, length=LENGTH, seed=7, positions=POSITIONS)


@pytest.mark.parametrize(("layout", "head"), EVERY)
def test_with_one_layer_the_ring_and_the_recomputed_window_are_the_same(layout: str, head: str, tmp_path: Path) -> None:
    found = effect(model(layout, head, 1), files(tmp_path, layout))
    assert found["difference_nats"] == pytest.approx(0, abs=1e-5)
    assert found["difference_se"] == pytest.approx(0, abs=1e-5)
    assert list(found["divergence_nats"].values()) == pytest.approx([0] * 4, abs=1e-6)


@pytest.mark.parametrize(("layout", "head"), EVERY)
def test_with_more_layers_it_is_what_a_band_mask_and_windows_one_by_one_say(
    layout: str, head: str, tmp_path: Path
) -> None:
    made, held = model(layout, head, 3), files(tmp_path, layout)
    ring, anew, apart = compared(made, held)
    found = effect(made, held)
    difference = (ring - anew).mean(1).numpy()
    assert (found["context"], found["orders_beyond"]) == (CONTEXT, LENGTH)
    assert (found["sequences"], found["positions"]) == (SEQUENCES, POSITIONS)
    assert found["ring_nats"] == pytest.approx(float(ring.mean()), abs=1e-5)
    assert found["recomputed_nats"] == pytest.approx(float(anew.mean()), abs=1e-5)
    assert found["difference_nats"] == pytest.approx(difference.mean(), abs=1e-5)
    assert found["difference_se"] == pytest.approx(difference.std(ddof=1) / SEQUENCES**0.5, rel=1e-2)
    assert found["difference_se"] > 1e-3
    assert list(found["divergence_nats"]) == list(FIELDS)
    assert list(found["divergence_nats"].values()) == pytest.approx(apart.mean((0, 1)).tolist(), rel=0.01)
    assert min(found["divergence_nats"].values()) > 5e-5


@pytest.mark.parametrize(("layout", "head"), [*EVERY, ("paper", "factorised"), ("touch", "joint")])
def test_probabilities_of_the_next_order_are_those_that_training_scores(layout: str, head: str, tmp_path: Path) -> None:
    made = model(layout, head, 2)
    batch = {k: torch.as_tensor(v) for k, v in Windows(files(tmp_path, layout), 40, 0).batch(0, 3).items()}
    target, features = batch["tokens"].long()[:, 1:].flatten(0, 1), batch["features"][:, 1:].flatten(0, 1)
    found = next_order(made, made.hidden(batch).flatten(0, 1), features, target)
    for (name, loss), p, slot in zip(made.losses(batch).items(), found, target[:, [3, 0, 1, 2]].T, strict=True):
        assert name in FIELDS
        torch.testing.assert_close(p.exp().sum(1), torch.ones(len(p)))
        torch.testing.assert_close(-p.gather(1, slot[:, None]).mean(), loss, atol=1e-5, rtol=1e-5)


def test_where_no_two_stretches_are_to_be_had_nothing_is_said(tmp_path: Path) -> None:
    made = model("touch", "factorised", 1)
    assert effect(made, files(tmp_path, orders=CONTEXT + LENGTH - 1)) == {}
    assert effect(made, files(tmp_path, orders=CONTEXT + LENGTH))["sequences"] == 2


def test_an_artifact_holds_it_and_its_card_says_it() -> None:
    _, artifact = trained("lmm-order-1m")
    found = load_config(artifact.folder)["context_effect"]
    assert (found["context"], found["orders_beyond"]) == (64, 128)
    assert abs(found["difference_nats"]) < 0.1
    assert sum(found["divergence_nats"].values()) < 0.1
    assert f"- {sentence(found)}" in (artifact.folder / "README.md").read_text()


def test_the_script_says_it_of_a_finished_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, artifact = trained("lmm-order-1m")
    tokens = [p for p in artifact.folder.parents[1].glob("shared/tokens-*") if (p / "validation").exists()]
    monkeypatch.setattr("sys.argv", ["context", str(artifact.folder), str(tokens[0])])
    module._main()
    said, held = json.loads(capsys.readouterr().out), load_config(artifact.folder)["context_effect"]
    assert said.pop("divergence_nats") == pytest.approx(held.pop("divergence_nats"), rel=0.1, abs=1e-6)
    assert said == pytest.approx(held, abs=1e-5)
    short = files(tmp_path, orders=100)
    monkeypatch.setattr("sys.argv", ["context", str(artifact.folder), str(short.folder)])
    with pytest.raises(SystemExit):
        module._main()
    assert "no two stretches of 192 orders of one period" in capsys.readouterr().err
