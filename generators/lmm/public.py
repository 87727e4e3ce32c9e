"""Checkpoints of the authors' public order model (``microsoft/mars-order-model``), read into ours.

Such a checkpoint is a folder with ``config.json`` and ``model.safetensors``. It comes without bins: what its slots of
price, volume and interval stand for is not stored, so that whoever generates with it fits bins of his own and says so.
It has no embedding for the start of a session either; that row is zeros here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from marsbench.learning.vocabulary import FIELDS, SIZES

from .order_model import OrderModel
from .recipe import ModelConfig, Shape

CONFIG, WEIGHTS = "config.json", "model.safetensors"
EPS = 1e-6
"""Of the public model's RMSNorm: the library's default."""

_BINS = {"num_bins_price_level": "price", "num_bins_pred_order_volume": "volume", "num_bins_order_interval": "interval"}
_DIMENSIONS = ("emb_dim", "num_layers", "num_heads", "num_max_orders")
_NAMES = {
    "order_info_tokenizer.emb_order_type.weight": "order.kind.weight",
    "order_info_tokenizer.emb_price_level.weight": "order.price.weight",
    "order_info_tokenizer.emb_pred_order_volume.weight": "order.volume.weight",
    "order_info_tokenizer.emb_order_interval.weight": "order.interval.weight",
    "order_info_tokenizer.emb_chg_to_open.weight": "state.change.weight",
    "order_info_tokenizer.emb_time_to_open.weight": "state.time.weight",
    "order_info_tokenizer.lob_tokenizer.0.weight": "state.volumes.weight",
    "order_info_tokenizer.lob_tokenizer.0.bias": "state.volumes.bias",
    "order_info_tokenizer.lob_tokenizer.1.weight": "state.norm.weight",
    "order_info_tokenizer.lob_tokenizer.1.bias": "state.norm.bias",
    "decoder.lm_head.weight": "lm_head.weight",
}
"""Theirs -> ours; the decoder's layers follow by their prefix."""
_LAYERS, _OUR_LAYERS = "decoder.model.", "decoder."
_UNUSED = re.compile(r"linear_head\.[01]\.(weight|bias)|decoder\.model\.embed_tokens\.weight")
"""Tensors that take no part in the public model's output."""


@dataclass(frozen=True)
class PublicModel:
    """A model of the layout ``public`` with a joint head, in evaluation mode, and the length it was trained on."""

    model: OrderModel
    context: int
    """Orders in a sequence."""


def load_public(name_or_folder: str | Path) -> PublicModel:
    """Read a public checkpoint.

    Parameters
    ----------
    name_or_folder
        A folder with ``config.json`` and ``model.safetensors``, or a name on the Hugging Face hub, from which these
        two files are downloaded (``microsoft/mars-order-model`` is the authors').

    Raises
    ------
    FileNotFoundError
        If the files are neither there nor can be downloaded.
    ValueError
        If they are damaged, have other bins than ours, or lack tensors or have unknown ones.
    """
    config_file, weights_file = _files(name_or_folder)
    config = _read_config(config_file)
    model = OrderModel(_config(config, config_file))
    model.load_state_dict(_tensors(weights_file, model.state_dict()))
    return PublicModel(model.eval(), int(config["num_max_orders"]))


def _files(name_or_folder: str | Path) -> tuple[Path, Path]:
    folder = Path(name_or_folder)
    if folder.is_dir():
        missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder}: a public checkpoint needs {' and '.join(missing)} there")
        return folder / CONFIG, folder / WEIGHTS
    from huggingface_hub import hf_hub_download

    try:
        config, weights = (Path(hf_hub_download(str(name_or_folder), name)) for name in (CONFIG, WEIGHTS))
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{name_or_folder}: no such folder, and not to be had from the Hugging Face hub ({error}); "
            f"download {CONFIG} and {WEIGHTS} elsewhere, and give the folder where they lie"
        ) from error
    return config, weights


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); download it again") from error
    missing = [key for key in (*_DIMENSIONS, *_BINS, "dropout") if key not in config]
    if missing:
        raise ValueError(f"{path}: lacks {', '.join(missing)}; is it that of a public order model?")
    return config


def _config(config: Mapping[str, Any], path: Path) -> ModelConfig:
    sizes = dict(zip(FIELDS, SIZES, strict=True))
    other = [f"{key} is {config[key]}, not {sizes[name]}" for key, name in _BINS.items() if config[key] != sizes[name]]
    if other:
        raise ValueError(f"{path}: tokens of this checkpoint are others than ours: {'; '.join(other)}")
    width, layers, heads, _ = (int(config[key]) for key in _DIMENSIONS)
    shape = Shape(width, layers, heads, heads, 4 * width, eps=EPS, dropout=float(config["dropout"]))
    return ModelConfig(shape, layout="public", head="joint", groups=1)


def _tensors(path: Path, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a checkpoint under our names, of our shapes."""
    try:
        theirs = {name: tensor.float() for name, tensor in load_file(path).items() if not _UNUSED.fullmatch(name)}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: damaged ({error}); download it again") from error
    names = {**_NAMES, **{_LAYERS + n.removeprefix(_OUR_LAYERS): n for n in ours if n.startswith(_OUR_LAYERS)}}
    kinds = theirs.get("order_info_tokenizer.emb_order_type.weight")
    if kinds is not None:
        theirs["order_info_tokenizer.emb_order_type.weight"] = torch.cat([kinds, torch.zeros_like(kinds[:1])])
    wrong = [f"lacks {name}" for name in names if name not in theirs]
    wrong += [f"has unknown {name}" for name in theirs if name not in names]
    wrong += [
        f"{name} is {_size(theirs[name])}, not {_size(ours[own])}"
        for name, own in names.items()
        if name in theirs and theirs[name].shape != ours[own].shape
    ]
    if wrong:
        raise ValueError(f"{path}: not the public order model that its {CONFIG} describes:\n  " + "\n  ".join(wrong))
    return {own: theirs[name] for name, own in names.items()}


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
