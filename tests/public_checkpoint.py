"""A checkpoint in the layout of the authors' public order model, made here by its parts, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

CONFIG = {
    "emb_dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "num_bins_price_level": 32,
    "num_bins_pred_order_volume": 32,
    "num_bins_order_interval": 16,
    "num_max_orders": 64,
    "dropout": 0.1,
}


class Tokenizer(nn.Module):
    """The sum of embeddings of 15 integers: token, two that are unused, change, time, ten volumes."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.emb_order_type = nn.Embedding(3, d)
        self.emb_price_level = nn.Embedding(32, d)
        self.emb_pred_order_volume = nn.Embedding(32, d)
        self.emb_order_interval = nn.Embedding(16, d)
        self.emb_chg_to_open = nn.Embedding(4001, d)
        self.emb_time_to_open = nn.Embedding(2881, d)
        self.lob_tokenizer = nn.Sequential(nn.Linear(10, d), nn.LayerNorm(d))

    def forward(self, x: Tensor) -> Tensor:
        token = x[..., 0]
        out: Tensor = self.emb_order_type(token // (32 * 32 * 16))
        out = out + self.emb_price_level(token // (32 * 16) % 32)
        out = out + self.emb_pred_order_volume(token // 16 % 32)
        out = out + self.emb_order_interval(token % 16)
        out = out + self.emb_chg_to_open(x[..., 3] + 2000) + self.emb_time_to_open(x[..., 4])
        return out + self.lob_tokenizer(x[..., 5:].float())


class Published(nn.Module):
    """The public model."""

    def __init__(self, d: int, layers: int, heads: int) -> None:
        super().__init__()
        self.order_info_tokenizer = Tokenizer(d)
        self.decoder = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=49_152,
                hidden_size=d,
                intermediate_size=4 * d,
                num_hidden_layers=layers,
                num_attention_heads=heads,
                attention_dropout=0.1,
                initializer_range=0.2,
                use_cache=False,
            )
        )
        self.linear_head = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(inputs_embeds=self.order_info_tokenizer(x)).logits
        return out


def stored(folder: Path, tensors: dict[str, Tensor], **changes: Any) -> Path:
    """A checkpoint; changes of None take a key out of the configuration."""
    config = {k: v for k, v in {**CONFIG, **changes}.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    return folder


def random_checkpoint(folder: Path) -> Path:
    """A small one."""
    torch.manual_seed(0)
    model = Published(CONFIG["emb_dim"], CONFIG["num_layers"], CONFIG["num_heads"])
    return stored(folder, model.state_dict())
