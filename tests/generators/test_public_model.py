"""Public checkpoints, built here as their authors' library builds them and defined a second time by its own parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from marsbench.generators.lmm.llama import Ring
from marsbench.generators.lmm.public import PublicModel, load_public
from public_checkpoint import CONFIG, Published, stored

ROWS, LENGTH = 2, 10


@pytest.fixture(scope="module")
def published() -> Published:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Published(*(int(CONFIG[name]) for name in ("emb_dim", "num_layers", "num_heads"))).eval()


@pytest.fixture(scope="module")
def folder(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("public"), published.state_dict())


def orders() -> tuple[Tensor, dict[str, Tensor]]:
    """Random orders as theirs ``[B, T, 15]`` and as ours, the states right before each order and after the last."""
    rng = np.random.default_rng(0)
    fields = np.stack([rng.integers(n, size=(ROWS, LENGTH + 1)) for n in (3, 32, 32, 16)], axis=-1)
    number = fields @ np.array([32 * 32 * 16, 32 * 16, 16, 1])
    change, time = rng.integers(-2000, 2001, size=number.shape), rng.integers(2881, size=number.shape)
    volumes = rng.integers(33, size=(*number.shape, 10))
    unused = rng.integers(9, size=(*number.shape, 2))
    states = np.concatenate([change[..., None], time[..., None], volumes], axis=-1)[:, 1:]  # after each order but one
    theirs = np.concatenate([number[:, :-1, None], unused[:, :-1], states], axis=-1)
    before = np.concatenate([np.zeros_like(states[:, :1]), states], axis=1) + np.eye(12, dtype=int)[0] * 2000
    batch = {"tokens": fields.astype(np.uint8), "features": before.astype(np.int16), "group": np.zeros(ROWS, np.int64)}
    return torch.as_tensor(theirs), {k: torch.as_tensor(v) for k, v in batch.items()}


@torch.no_grad()
def logits(public: PublicModel, batch: dict[str, Tensor]) -> Tensor:
    assert public.model.lm_head is not None
    out: Tensor = public.model.lm_head(public.model.hidden(batch))
    return out


@torch.no_grad()
def test_logits_equal_those_of_the_public_definition(published: Published, folder: Path) -> None:
    theirs, batch = orders()
    torch.testing.assert_close(logits(load_public(folder), batch), published(theirs), atol=1e-4, rtol=0)


@torch.no_grad()
def test_logits_are_the_same_order_by_order_with_a_ring_of_keys_and_values(published: Published, folder: Path) -> None:
    public, (theirs, batch), prompt = load_public(folder), orders(), 4
    model = public.model
    assert model.lm_head is not None
    embedded = model.embed(batch["tokens"][:, :-1].long(), batch["features"][:, 1:], batch["group"][:, None])
    ring = Ring(model.config.shape, ROWS, public.context, like=embedded)
    model.decoder(embedded[:, :prompt], ring=ring)
    wanted = published(theirs)
    for t in range(prompt, LENGTH):
        found = model.lm_head(model.decoder.step(embedded[:, t], ring, np.arange(ROWS)))
        torch.testing.assert_close(found, wanted[:, t], atol=1e-4, rtol=0)


def test_the_model_comes_ready_for_use_with_its_length_and_without_an_embedding_of_the_start(folder: Path) -> None:
    public = load_public(str(folder))
    assert public.context == 64
    assert not public.model.training
    assert (public.model.config.layout, public.model.config.head) == ("public", "joint")
    assert public.model.config.shape.dropout == 0.1
    assert (public.model.order.kind.weight[3] == 0).all()


def test_tensors_that_take_no_part_may_be_absent(published: Published, folder: Path, tmp_path: Path) -> None:
    kept = {k: v for k, v in published.state_dict().items() if "linear_head" not in k and "embed_tokens" not in k}
    _, batch = orders()
    assert torch.equal(logits(load_public(stored(tmp_path, kept)), batch), logits(load_public(folder), batch))


def test_half_precision_is_read_as_single(published: Published, folder: Path, tmp_path: Path) -> None:
    _, batch = orders()
    halved = load_public(stored(tmp_path, {k: v.half() for k, v in published.state_dict().items()}))
    torch.testing.assert_close(logits(halved, batch), logits(load_public(folder), batch), atol=0.05, rtol=0)


def test_missing_unknown_and_misshapen_tensors_are_all_named(published: Published, tmp_path: Path) -> None:
    tensors = published.state_dict()
    del tensors["order_info_tokenizer.emb_price_level.weight"]
    tensors["order_info_tokenizer.emb_mood.weight"] = torch.zeros(2, 16)
    tensors["decoder.model.norm.weight"] = torch.zeros(8)
    with pytest.raises(ValueError, match="not the public order model") as caught:
        load_public(stored(tmp_path, tensors))
    for line in (
        "lacks order_info_tokenizer.emb_price_level.weight",
        "has unknown order_info_tokenizer.emb_mood.weight",
        "decoder.model.norm.weight is 8, not 16",
    ):
        assert line in str(caught.value)


def test_layers_beyond_those_of_the_configuration_are_unknown(published: Published, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has unknown decoder\.model\.layers\.1\.mlp\.up_proj\.weight"):
        load_public(stored(tmp_path, published.state_dict(), num_layers=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_bins_price_level": 64}, "num_bins_price_level is 64, not 32"),
        ({"num_bins_pred_order_volume": 8}, "num_bins_pred_order_volume is 8, not 32"),
        ({"num_bins_order_interval": 32}, "num_bins_order_interval is 32, not 16"),
        ({"emb_dim": None, "dropout": None}, "lacks emb_dim, dropout"),
    ],
)
def test_other_bins_and_other_configurations_are_errors(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_public(stored(tmp_path, {}, **changes))


def test_damaged_files_are_errors_that_name_them(tmp_path: Path) -> None:
    stored(tmp_path, {})
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
        load_public(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: damaged"):
        load_public(tmp_path)


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"needs model\.safetensors there"):
        load_public(tmp_path)


@pytest.mark.parametrize("name", ["microsoft/mars-order-model", "no/such/folder"])
def test_without_a_network_the_error_says_how_to_give_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"{name}: no such folder.*give the folder where they lie"):
        load_public(name)
