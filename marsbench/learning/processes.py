"""The processes that train together, one or several, through Hugging Face Accelerate.

``torchrun --nproc-per-node 2 -m marsbench.cli train GEN`` starts two of them, on GPUs or on CPUs;
``accelerate launch`` does on GPUs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import cast

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.state import AcceleratorState

from marsbench.learning.plan import TrainingPlan

_PLAIN = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
"""Every process holds the whole model."""


def is_main_process() -> bool:
    """Whether this is the one process that writes files."""
    return bool(_processes().is_main_process)


def main_process_first() -> AbstractContextManager[None]:
    """Let the main process do something (make the token files) before the others find it done."""
    return cast(AbstractContextManager[None], _processes().main_process_first())


def leave() -> None:
    """Part from the other processes, once all have come here; one that just ends can abort those that still talk."""
    state = _processes()
    state.wait_for_everyone()
    state.destroy_process_group()


def _processes() -> PartialState:
    """The processes that train together; without an accelerator they are CPU processes, which must be said."""
    return PartialState(cpu=not torch.accelerator.is_available())


def accelerator_for(plan: TrainingPlan) -> Accelerator:
    """An accelerator of the plan's precision, whatever precision an earlier one of this process had.

    Raises
    ------
    ValueError
        If the device cannot do the precision, processes share nothing evenly, or weights would be sharded.
    """
    if plan.precision == "fp16" and not torch.accelerator.is_available():
        raise ValueError("precision 'fp16' needs an accelerator; on the CPU write 'no', or 'bf16' where it is fast")
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32: several times faster there, and as good for training
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=plan.precision, cpu=not torch.accelerator.is_available())
    if accelerator.distributed_type not in _PLAIN:
        raise ValueError(
            f"training over {accelerator.distributed_type} is not supported: every process holds the whole model; "
            "choose MULTI_CPU or MULTI_GPU with `accelerate config`"
        )
    parts = accelerator.num_processes * plan.accumulate
    if plan.batch_size % parts:
        raise ValueError(
            f"batch_size {plan.batch_size} does not divide by {accelerator.num_processes} processes times "
            f"{plan.accumulate} micro-batches; write a multiple of {parts}"
        )
    return accelerator
