"""Scores of the joint head by interval, against all of its 49,152 at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_sessions import Rollouts, generator, start
from torch import Tensor

from marsbench.generators.lmm import joint
from marsbench.generators.lmm.joint import interval_scores, scores_given
from marsbench.learning.vocabulary import SIZES, TOKENS

ROWS, WIDTH = 7, 12


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def inputs(spread: float = 1.0) -> tuple[Tensor, Tensor]:
    return torch.randn(ROWS, WIDTH), spread * torch.randn(TOKENS, WIDTH)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_intervals_have_the_mass_of_their_tokens_and_the_rest_is_given_by_them(temperature: float) -> None:
    hidden, weight = inputs()
    table = (hidden @ weight.T / temperature).double().view(-1, *SIZES)
    intervals, scores = interval_scores(hidden, weight, temperature)
    torch.testing.assert_close(intervals.double(), table.logsumexp((1, 2, 3)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.double(), table.flatten(1, 3).permute(2, 0, 1), atol=1e-5, rtol=1e-5)


def test_an_interval_far_below_the_likeliest_keeps_its_own_mass() -> None:
    hidden, weight = inputs()
    weight.view(-1, SIZES[3], WIDTH)[:, 5] = 0
    weight *= 60  # other intervals: exp(several hundred)
    intervals, _ = interval_scores(hidden, weight, 1.0)
    torch.testing.assert_close(intervals[:, 5], torch.full((ROWS,), float(np.log(TOKENS / SIZES[3]))))
    assert (intervals.max(1).values > 150).all()


def test_scores_with_a_known_interval_are_those_of_its_tokens() -> None:
    hidden, weight = inputs()
    slots = np.array([3, 0, 15, 3, 3, 7, 0])
    _, scores = interval_scores(hidden, weight, 2.0)
    wanted = scores[torch.as_tensor(slots), torch.arange(ROWS)]
    torch.testing.assert_close(scores_given(hidden, weight, 2.0, slots), wanted, atol=1e-5, rtol=1e-5)


def test_rollouts_do_not_depend_on_how_many_rows_go_through_the_head_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def found() -> list[np.ndarray]:
        run = Rollouts.of(generator("public", "joint"), start("09:31"), 9)
        for _ in range(5):
            run.send(*run.decide())
        return [run.due_ns, *(part for drawn in run.drawn for part in drawn)]

    wanted = found()
    monkeypatch.setattr(joint, "ROWS", 4)
    for ours, whole in zip(found(), wanted, strict=True):
        assert np.array_equal(ours, whole)
