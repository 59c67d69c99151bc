"""The one training loop: Lightning, quiet, with progress, curves, checkpoints, a time limit and cooperative cancelling."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint

Progress = Callable[[float, str], None]
Stop = Callable[[], bool]
# A point of a curve: name of the series, x (epochs passed), y.
Record = Callable[[str, float, float], None]
Precision = Literal["fp32", "fp16", "bf16"]
LAST = "last.ckpt"
POINTS = 60


class Cancelled(Exception):
    """The caller asked the training to stop; nothing after the last checkpoint of the running fold is kept."""

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
    """What a run did. steps: batches of all calls that a resumed run took. loss: mean training loss of the last tenth of this call.

    stopped_by: why it ended. curve: (epochs passed, mean training loss since the point before), about sixty points of this call.
    """

    steps: int
    seconds: float
    loss: float
    stopped_by: Literal["steps", "max_seconds"]
    curve: tuple[tuple[float, float], ...] = ()


class _Stream:
    """The batches of one epoch after the other as one source (Lightning takes a list for several sources)."""

    def __init__(self, batches: Iterable[Any] | Callable[[int], Iterable[Any]], steps: int, module: pl.LightningModule) -> None:
        self.batches, self.steps, self.module = batches, steps, module

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        # A generator: which epoch it is, is known when the first batch is asked for, not when a resumed run makes the iterator.
        yield from self.batches(self.module.current_epoch) if callable(self.batches) else self.batches


@dataclass
class _Plan:
    """steps: per epoch. total: of the run."""

    steps: int
    total: int
    max_seconds: float
    progress: Progress | None
    stop: Stop | None
    record: Record | None
    measure: Callable[[int], Mapping[str, float]] | None
    seed: int | None
    folder: Path | None
    every: int


class _Watch(Checkpoint):
    """Hears every step: curves, progress, the end in time, checkpoints. As a Checkpoint it hears the end of an epoch after the module."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.told, self.point = max(1, plan.total // 50), max(1, plan.total // POINTS)
        self.losses: list[float] = []
        self.curve: list[tuple[float, float]] = []
        self.since: list[float] = []
        self.done = 0
        self.cancelled = self.late = self.diverged = False
        self.started = time.monotonic()

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.done = trainer.current_epoch * self.plan.steps
        if self.plan.seed is not None:
            # Each epoch has a random state of its own, so that one which was resumed goes on as if it had not been stopped.
            torch.manual_seed((self.plan.seed * 1_000_003 + trainer.current_epoch * 1009 + trainer.global_rank) % 2**63)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        plan, self.done = self.plan, self.done + 1
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        self.losses.append(loss)
        self.since.append(loss)
        self.diverged = math.isnan(loss)
        self.cancelled = plan.stop is not None and plan.stop()
        self.late = self.done < plan.total and time.monotonic() - self.started > plan.max_seconds
        ended = self.diverged or self.cancelled or self.late or self.done >= plan.total
        if trainer.world_size > 1:
            ended = trainer.strategy.reduce_boolean_decision(ended, all=False)
        if ended:
            trainer.should_stop = True
        if self.diverged or trainer.global_rank:
            return
        if self.done % self.point == 0 or self.done == plan.total:
            self._mark(self.done / plan.steps)
        if plan.progress is not None and not (self.cancelled or self.late) and (self.done % self.told == 0 or self.done == plan.total):
            plan.progress(self.done / plan.total, f"step {self.done} of {plan.total}, loss {loss:.3f}")

    def _mark(self, epochs: float) -> None:
        self.curve.append((epochs, sum(self.since) / len(self.since)))
        self.since = []
        if self.plan.record is not None:
            self.plan.record("training", *self.curve[-1])

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        plan, epoch = self.plan, trainer.current_epoch
        if self.diverged or self.cancelled or self.late:
            return
        if plan.measure is not None and not trainer.global_rank:
            for name, value in plan.measure(epoch).items():
                if plan.record is not None:
                    plan.record(name, self.done / plan.steps, value)
        if plan.folder is not None and plan.every and (epoch + 1) % plan.every == 0 and self.done < plan.total:
            plan.folder.mkdir(parents=True, exist_ok=True)
            part = plan.folder / f"{LAST}.part"
            trainer.save_checkpoint(part)  # every rank calls it, the first one writes
            if not trainer.global_rank:
                os.replace(part, plan.folder / LAST)


def run_loop(
    module: pl.LightningModule,
    batches: Iterable[Any] | Callable[[int], Iterable[Any]],
    steps: int,
    *,
    epochs: int = 1,
    total: int | None = None,
    max_seconds: float = float("inf"),
    progress: Progress | None = None,
    stop: Stop | None = None,
    accelerator: str = "auto",
    clip: float | None = 1.0,
    accumulate: int = 1,
    precision: Precision = "fp32",
    devices: int = 1,
    seed: int | None = None,
    record: Record | None = None,
    measure: Callable[[int], Mapping[str, float]] | None = None,
    checkpoints: Path | None = None,
    every: int = 0,
) -> LoopFacts:
    """Trains `module` in place: `epochs` times `steps` batches, `total` of them at most (None: all).

    batches: yields `steps` batches (already shuffled and augmented), or gives them for the number of an epoch. progress(fraction, text)
    about fifty times; stop() is asked after every step. max_seconds: wall clock, then it ends early. clip: limit of a gradient's norm.
    accumulate: batches whose gradients are averaged before a step (a last smaller group of an epoch is stepped too). precision: of a GPU; a
    CPU computes in fp32. devices: above 1 Lightning's DDP, one process per device as `torchrun` starts them; then each process is given its
    own batches. seed: makes every epoch's random state its own. measure(epoch): figures after each epoch, recorded by name; record: see
    Record. checkpoints, every: a folder that keeps the state after every so many epochs; a later call with the same folder goes on from it.
    Writes no log or progress bar. Raises Cancelled, TrainingDiverged.
    """
    plan = _Plan(
        steps, min(total or steps * epochs, steps * epochs), max_seconds, progress, stop, record, measure, seed, checkpoints, every
    )
    watch = _Watch(plan)
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    names = {"fp32": "32-true", "fp16": "16-mixed", "bf16": "bf16-mixed"}
    kept = checkpoints / LAST if checkpoints is not None else None
    with _quiet():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=devices,
            strategy="ddp_find_unused_parameters_true" if devices > 1 else "auto",
            use_distributed_sampler=False,
            precision=names[precision if on_gpu else "fp32"],  # type: ignore[arg-type]
            max_epochs=epochs,
            limit_train_batches=steps,
            accumulate_grad_batches=accumulate,
            logger=False,
            enable_checkpointing=True,  # nothing but the watch's own
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[watch],
            gradient_clip_val=clip,
        )
        resumed = str(kept) if kept is not None and kept.is_file() else None
        trainer.fit(module, train_dataloaders=_Stream(batches, steps, module), ckpt_path=resumed, weights_only=False)
    if watch.diverged:
        raise TrainingDiverged(watch.done)
    if watch.cancelled:
        raise Cancelled
    last = watch.losses[-max(1, len(watch.losses) // 10) :] or [float("nan")]
    seconds = time.monotonic() - watch.started
    return LoopFacts(watch.done, seconds, sum(last) / len(last), "max_seconds" if watch.late else "steps", tuple(watch.curve))


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
