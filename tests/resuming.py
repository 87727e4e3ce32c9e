"""Whether training that was interrupted ends as if it had not been."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch


def check_resumes(
    trained: Callable[..., tuple[Mapping[str, torch.Tensor], Any]], stopped_after: int, scratch: Path
) -> None:
    """Interrupt training at a point of its curves and go on: weights and curves are those without, bit for bit.

    ``trained`` takes ``scratch`` and ``on_point`` of the training loop, and gives weights and curves.
    """

    def stop(step: int, values: Any) -> None:
        if step == stopped_after:
            raise KeyboardInterrupt

    whole, curves = trained()
    with pytest.raises(KeyboardInterrupt):
        trained(scratch=scratch, on_point=stop)
    continued, curves_too = trained(scratch=scratch)
    assert curves_too == curves
    assert all(torch.equal(whole[name], continued[name]) for name in whole)
