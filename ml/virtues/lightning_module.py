"""Pretraining as a LightningModule: loss, groups of the optimiser, schedules (spec 6)."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from ml.virtues.data import Batch
from ml.virtues.model import VirTues, reconstruction_loss
from ml.virtues.pretrain_config import VirtuesPretrainConfig


class VirtuesTraining(pl.LightningModule):
    """Masked reconstruction. total: steps of the optimiser of the whole run."""

    def __init__(self, model: VirTues, config: VirtuesPretrainConfig, total: int) -> None:
        super().__init__()
        self.model, self.config, self.total = model, config, total

    def training_step(self, batch: Batch, index: int) -> Tensor:
        return self.loss(batch)

    def loss(self, batch: Batch) -> Tensor:
        """Mean squared error over all pixels of all channels of the batch: a larger panel weighs more."""
        _, pictures = self.model(batch.images, batch.markers, batch.masks, batch.plan)
        return reconstruction_loss([p.float() for p in pictures], batch.images)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.config.weight_decay_end is not None:
            optimizer.param_groups[0]["weight_decay"] = self.decay(self.global_step)

    def decay(self, step: int) -> float:
        """Weight decay of a step: a cosine from the first to the last one."""
        first, last = self.config.weight_decay, self.config.weight_decay_end
        if last is None:
            return first
        return last + 0.5 * (first - last) * (1 + math.cos(math.pi * min(1.0, step / max(1, self.total - 1))))

    def rate(self, step: int) -> float:
        """Learning rate of a step as a share of the highest: a linear rise, then a cosine."""
        rise = round(self.config.warmup * self.total)
        if step < rise:
            return (step + 1) / rise
        low = self.config.lr_end / self.config.lr
        return low + 0.5 * (1 - low) * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, self.total - rise))))

    def configure_optimizers(self) -> Any:
        plain = {f"{name}.{kind}" for name, module in self.model.named_modules() for kind in _undecayed(module)}
        groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.model.named_parameters():
            groups[name not in plain].append(parameter)
        optimiser = torch.optim.AdamW(
            [{"params": groups[True], "weight_decay": self.config.weight_decay}, {"params": groups[False], "weight_decay": 0.0}],
            lr=self.config.lr,
        )
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, self.rate), "interval": "step"},
        }


def _undecayed(module: nn.Module) -> tuple[str, ...]:
    """Biases and LayerNorms; the two token vectors are decayed, as in the public code."""
    return ("weight", "bias") if isinstance(module, nn.LayerNorm) else ("bias",) if isinstance(module, nn.Linear) else ()
