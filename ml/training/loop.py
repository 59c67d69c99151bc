"""The one training loop: Lightning, quiet, with progress, a time limit and cooperative cancelling."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import lightning.pytorch as pl

Progress = Callable[[float, str], None]
Stop = Callable[[], bool]


class Cancelled(Exception):
    """The caller asked the training to stop; nothing of the running fold is kept."""

    code, hint = "cancelled", "Start it again: finished folds are kept."

    def __init__(self, sentence: str = "The training was cancelled.") -> None:
        super().__init__(sentence)
        self.sentence = sentence


class TrainingDiverged(Exception):
    """The loss is no longer a number."""

    code, hint = "diverged", "Lower the learning rate."

    def __init__(self, step: int) -> None:
        self.sentence = f"The loss is not a number any more after step {step}."
        super().__init__(f"{self.sentence} {self.hint}")


@dataclass(frozen=True)
class LoopFacts:
    """What a run did. loss: mean training loss of its last tenth; stopped_by: why it ended."""

    steps: int
    seconds: float
    loss: float
    stopped_by: Literal["steps", "max_seconds"]


class _Stream:
    """Any iterable as one source: Lightning takes a list for several sources."""

    def __init__(self, batches: Iterable[Any], steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


class _Watch(pl.Callback):
    def __init__(self, steps: int, max_seconds: float, progress: Progress | None, stop: Stop | None) -> None:
        self.steps, self.max_seconds, self.progress, self.stop = steps, max_seconds, progress, stop
        self.every = max(1, steps // 50)
        self.losses: list[float] = []
        self.cancelled = self.late = self.diverged = False
        self.started = time.monotonic()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        done = batch_idx + 1
        self.losses.append(float(outputs["loss"]))
        self.diverged = self.losses[-1] != self.losses[-1]
        self.cancelled = self.stop is not None and self.stop()
        self.late = done < self.steps and time.monotonic() - self.started > self.max_seconds
        if self.diverged or self.cancelled or self.late:
            trainer.should_stop = True
        elif self.progress is not None and (done % self.every == 0 or done == self.steps):
            self.progress(done / self.steps, f"step {done} of {self.steps}, loss {self.losses[-1]:.3f}")


def run_loop(
    module: pl.LightningModule,
    batches: Iterable[Any],
    steps: int,
    *,
    max_seconds: float = float("inf"),
    progress: Progress | None = None,
    stop: Stop | None = None,
    accelerator: str = "auto",
    clip: float | None = 1.0,
) -> LoopFacts:
    """Trains `module` on `steps` batches in place.

    batches: yields `steps` batches (already shuffled and augmented). max_seconds: wall clock after which it ends early.
    progress(fraction, text) about fifty times; stop() is asked after every step. clip: limit of the gradient's norm.
    Writes no file, log or progress bar. Raises Cancelled, TrainingDiverged.
    """
    watch = _Watch(steps, max_seconds, progress, stop)
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = pl.Trainer(
                accelerator=accelerator,
                devices=1,
                max_epochs=1,
                limit_train_batches=steps,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[watch],
                gradient_clip_val=clip,
            )
            trainer.fit(module, train_dataloaders=_Stream(batches, steps))
    finally:
        logger.setLevel(level)
    if watch.diverged:
        raise TrainingDiverged(len(watch.losses))
    if watch.cancelled:
        raise Cancelled
    last = watch.losses[-max(1, len(watch.losses) // 10) :]
    seconds = time.monotonic() - watch.started
    return LoopFacts(len(watch.losses), seconds, sum(last) / len(last), "max_seconds" if watch.late else "steps")
