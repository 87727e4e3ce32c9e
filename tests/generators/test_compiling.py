"""Steps of rollouts: joined weights, ``torch.compile``, and no tensor on another device than the model's."""

from __future__ import annotations

import shutil
import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sessions import KINDS, Rollouts, generator, start
from torch import Tensor

from marsbench import registry
from marsbench.generators.lmm import few_rows, llama
from marsbench.generators.lmm.compiling import Compiled
from marsbench.generators.lmm.llama import Llama, Ring, joined
from marsbench.generators.lmm.recipe import Shape
from marsbench.market.orders import Flag, Kind, Reason, orders
from marsbench.simulation.contracts import Artifact
from trained import trained

SHAPE = Shape(width=32, layers=2, heads=4, kv_heads=2, hidden=48)
ROWS, WINDOW = 6, 5


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def cxx() -> str | None:
    """The C++ compiler that torch would take."""
    from torch._inductor import config

    return next((found for name in config.cpp.cxx if name and (found := shutil.which(name))), None)


@torch.inference_mode()
def stepped(decoder: Llama, x: Tensor) -> list[Tensor]:
    """Outputs of steps with fewer and fewer rows, from a full ring."""
    ring = Ring(SHAPE, ROWS, WINDOW, like=x)
    decoder(x[:, : WINDOW + 2], ring=ring)
    rows = (np.arange(ROWS), np.array([5, 1, 3]), np.array([3, 1]), np.array([3]))
    return [decoder.step(x[row, WINDOW + 2 + t], ring, row) for t, row in enumerate(rows)]


# Joined weights


def test_joined_weights_are_the_projections_own_and_follow_their_changes() -> None:
    parts = [torch.nn.Linear(8, rows, bias=False) for rows in (8, 2, 4)]
    before = torch.cat([part.weight.detach().clone() for part in parts])
    whole = joined(*parts)
    assert torch.equal(whole, before)
    assert joined(*parts).data_ptr() == whole.data_ptr()
    with torch.no_grad():
        parts[1].weight.fill_(7)
    assert torch.equal(whole[8:10], torch.full((2, 8), 7.0))
    assert torch.equal(whole[:8], before[:8])


def test_weights_that_only_happen_to_share_a_storage_are_joined_anew() -> None:
    parts = [torch.nn.Linear(8, 4, bias=False) for _ in range(2)]
    storage = torch.randn(12, 8)
    parts[0].weight.data, parts[1].weight.data = storage[8:], storage[:4]
    assert torch.equal(joined(*parts), torch.cat([storage[8:], storage[:4]]))


@pytest.mark.parametrize("most", [0, ROWS], ids=["by torch", "few rows"])
@pytest.mark.parametrize("change", ["new storage", "loaded", "trained", "copied"])
def test_steps_use_the_weights_as_they_are_now(monkeypatch: pytest.MonkeyPatch, change: str, most: int) -> None:
    monkeypatch.setattr(few_rows, "MOST", most)
    decoder, other = Llama(SHAPE), Llama(SHAPE)
    x = torch.randn(ROWS, WINDOW + 6, SHAPE.width)
    names = list(decoder.state_dict())
    stepped(decoder, x)
    assert list(decoder.state_dict()) == names
    if change == "new storage":
        decoder = decoder.double().float()
        with torch.no_grad():
            decoder.layers[0].self_attn.k_proj.weight.mul_(2)
    elif change == "loaded":
        decoder.load_state_dict(other.state_dict())
    elif change == "copied":
        decoder = deepcopy(decoder)
        with torch.no_grad():
            decoder.layers[1].mlp.up_proj.weight.mul_(2)
    else:
        decoder(x).square().sum().backward()
        torch.optim.SGD(decoder.parameters(), lr=0.01).step()
    fresh = Llama(SHAPE)
    fresh.load_state_dict(decoder.state_dict())
    for found, wanted in zip(stepped(decoder, x), stepped(fresh, x), strict=True):
        torch.testing.assert_close(found, wanted)


def test_steps_leave_the_weights_fit_for_training() -> None:
    decoder, twin, x = Llama(SHAPE), Llama(SHAPE), torch.randn(ROWS, WINDOW + 6, SHAPE.width)
    twin.load_state_dict(decoder.state_dict())
    stepped(decoder, x)
    for made in (decoder, twin):
        made(x).square().sum().backward()
    for own, other in zip(decoder.parameters(), twin.parameters(), strict=True):
        assert own.grad is not None
        assert torch.equal(own.grad, other.grad)


# Compiled


@pytest.mark.slow
@pytest.mark.skipif(cxx() is None, reason="torch.compile needs a C++ compiler, and there is none here")
def test_compiled_steps_equal_plain_ones_with_any_number_of_rows_and_compile_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch._dynamo

    torch._dynamo.reset()
    monkeypatch.setattr(few_rows, "MOST", 0)
    compiled = Compiled(llama._advance_all, rows=6)
    monkeypatch.setattr(llama, "_compiled", compiled)
    decoder, x = Llama(SHAPE).requires_grad_(False), torch.randn(ROWS, WINDOW + 6, SHAPE.width)
    wanted = stepped(decoder, x)
    decoder.compile_steps = True
    with warnings.catch_warnings(), torch._dynamo.config.patch(error_on_recompile=True):
        warnings.simplefilter("error", RuntimeWarning)
        for _ in range(2):
            for ours, plain in zip(stepped(decoder, x), wanted, strict=True):
                torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)
    assert compiled.works
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_without_a_compiler_a_warning_says_so_once_and_results_are_the_plain_ones() -> None:
    from torch._inductor import config

    calls: list[int] = []

    def doubled(x: Tensor) -> Tensor:
        calls.append(len(x))
        return 2 * x

    made = Compiled(doubled, rows=1)
    with config.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False}):
        with pytest.warns(RuntimeWarning, match="torch.compile does not work here .*no-such-compiler.* needs a C"):
            assert made(torch.ones(3)).tolist() == [2, 2, 2]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert made(torch.ones(4)).tolist() == [2, 2, 2, 2]
    assert not made.works


def test_whether_rollouts_are_compiled_and_where_they_run_is_no_part_of_training() -> None:
    plain = registry.generator("lmm-order-1m")
    other: Any = registry.generator("lmm-order-1m", compile=True, device="cpu")
    assert plain.training_parameters() == other.training_parameters()
    assert (plain.parameters()["compile"], plain.parameters()["device"]) == (False, "auto")
    assert (other.parameters()["compile"], other.parameters()["device"]) == (True, "cpu")
    _, artifact = trained("lmm-order-1m")
    other.load(Artifact.read(artifact.folder))
    assert other.model.decoder.compile_steps


# Devices


def test_an_unknown_device_names_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="device 'gpu': choose one of auto, cpu, cuda"):
        registry.generator("lmm-order-1m", device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_error_and_auto_goes_on_without() -> None:
    _, artifact = trained("lmm-order-1m")
    with pytest.raises(ValueError, match=r"device 'cuda': torch .* finds no GPU here; write device=auto"):
        registry.generator("lmm-order-1m", device="cuda").load(artifact)
    made: Any = registry.generator("lmm-order-1m")
    made.load(artifact)
    assert next(made.model.parameters()).device.type == "cpu"


def moved(made: Any) -> list[np.ndarray]:
    """Rollouts in which somebody else buys in some rows: times and orders."""
    run = Rollouts.of(made, start("09:31"), 4)
    found = []
    for step in range(6):
        if step == 3:
            ask = run.house.snapshot(run.rows, 1).price_ticks[1:3, 0, 0]
            order = orders(kind=int(Kind.BID), price_ticks=ask, size_shares=500, flags=int(Flag.IOC))
            events = run.send(np.array([1, 2]), order, owner=1)
            assert (events.reason == Reason.OK).all()
        rows, sent = run.decide()
        run.send(rows, sent)
        found += [sent, run.due_ns.copy()]
    return found


@pytest.mark.parametrize(("layout", "head"), [*KINDS, ("touch", "joint")])
def test_every_tensor_of_a_rollout_is_made_on_the_models_device(layout: str, head: str) -> None:
    """What names no device would be made on ``meta``, without any values."""
    made = generator(layout, head, context=16)
    wanted = moved(made)
    with torch.device("meta"):
        found = moved(made)
    for ours, plain in zip(found, wanted, strict=True):
        assert len(ours) > 0
        assert np.array_equal(ours, plain)
