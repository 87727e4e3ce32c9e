"""What a step waits for: the next batch, made ahead, and the wish to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType

from marsbench.learning.contracts import Arrays, Batches
from marsbench.learning.plan import TrainingPlan


@contextmanager
def batches_from(batches: Batches, start: int, plan: TrainingPlan) -> Iterator[Iterator[Arrays]]:
    """The batches from a step on, each made while the one before it is learned from."""

    def read(step: int) -> Arrays:
        batch = batches.batch(step, plan.batch_size)
        for name, array in batch.items():
            if len(array) != plan.batch_size:
                raise ValueError(f"batch of step {step}: {name} has {len(array)} rows; give {plan.batch_size}")
        return batch

    def give(worker: ThreadPoolExecutor) -> Iterator[Arrays]:
        ahead: Future[Arrays] | None = worker.submit(read, start) if start < plan.steps else None
        for step in range(start, plan.steps):
            assert ahead is not None
            ready = ahead.result()
            ahead = worker.submit(read, step + 1) if step + 1 < plan.steps else None
            yield ready

    with ThreadPoolExecutor(1, thread_name_prefix="marsbench-batches") as worker:
        yield give(worker)


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that an interrupt or SIGTERM sets, so that a step is never cut in half; a second one interrupts."""
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    earlier = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
