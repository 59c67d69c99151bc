"""One fold's training as a LightningModule: loss, smoothing, layers that learn, phases, schedule (spec 3 to 5)."""

from __future__ import annotations

import math
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from ml.encoders.trainable import freeze_modes, set_trained
from ml.hex.adaptive_loss import AdaptiveLoss
from ml.hex.config import HexFitConfig
from ml.hex.fds import FeatureSmoothing, predict_smoothed
from ml.hex.model import HexModel


class HexTraining(pl.LightningModule):
    """Batches are (tiles (B, 3, S, S) in 0..1 or vectors (B, d) of a frozen encoder, labels (B, P) in the unit of the scale).

    mean, sd: (P,) of the fitting tiles' labels; with `targets` "standardised" the head speaks in these units until it is rescaled.
    total, per_epoch: steps of the whole run and of an epoch.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, model: HexModel, config: HexFitConfig, mean: Tensor, sd: Tensor, total: int, per_epoch: int) -> None:
        super().__init__()
        self.model, self.config, self.total, self.per_epoch = model, config, total, per_epoch
        self.register_buffer("mean", mean)
        self.register_buffer("sd", sd)
        markers, width = len(config.markers), config.hidden[1]
        self.adaptive = AdaptiveLoss(markers) if config.loss == "adaptive" else None
        self.smoothing = (
            FeatureSmoothing(
                markers,
                width,
                bins=config.fds_bins,
                kernel_length=config.fds_kernel,
                sigma=config.fds_sigma,
                momentum=config.fds_momentum,
                start_update=config.fds_start_update,
                start_smooth=config.fds_start_smooth,
                covariance=config.fds_covariance,
            )
            if config.fds
            else None
        )
        set_trained(model.encoder, config.trained_layers)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        inputs, labels = batch
        predictions, features = self.model.head(self.model.embed(inputs) if inputs.ndim == 4 else inputs)
        if self._smoothing_now and self.smoothing is not None:
            if self.current_epoch >= self.smoothing.start_smooth:
                calibrated = self.smoothing.smooth(features, labels, self.current_epoch)
                predictions = predict_smoothed(self._last, calibrated.to(features.dtype))
            self.smoothing.collect(features.detach(), labels)
        return self.loss(predictions, labels)

    def loss(self, predictions: Tensor, labels: Tensor) -> Tensor:
        """Mean over tiles and markers of the loss between raw predictions (B, P) and labels (B, P)."""
        residual = predictions.float() - (labels - self.mean) / self.sd
        return self.adaptive(residual) if self.adaptive is not None else residual.square().mean()

    def on_train_epoch_start(self) -> None:
        head_only = self.config.head_only_from is not None and self.current_epoch >= self.config.head_only_from
        if head_only:
            set_trained(self.model.encoder, 0)
        freeze_modes(self.model.encoder)

    def on_train_epoch_end(self) -> None:
        if self.smoothing is not None and self._smoothing_now:
            self.smoothing.end_epoch(self.current_epoch)

    @property
    def _smoothing_now(self) -> bool:
        return self.smoothing is not None and self.current_epoch < self.config.fds_until

    @property
    def _last(self) -> nn.Linear:
        return cast(nn.Linear, self.model.head.regression_head1[0])

    def configure_optimizers(self) -> Any:
        learning = [p for p in self.model.parameters() if p.requires_grad]
        of_loss = list(self.adaptive.parameters()) if self.adaptive is not None else []
        lr = self.config.lr
        if self.config.optimiser == "adam":
            groups = [{"params": learning}] + ([{"params": of_loss}] if of_loss else [])
            optimiser: torch.optim.Optimizer = torch.optim.Adam(groups, lr=lr)
        else:
            decayed, plain = [p for p in learning if p.ndim >= 2], [p for p in learning if p.ndim < 2] + of_loss
            groups = [{"params": decayed, "weight_decay": self.config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
            optimiser = torch.optim.AdamW(groups, lr=lr)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, self._share)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _share(self, step: int) -> float:
        """The learning rate at a step, as a share of the config's."""
        if self.config.schedule == "constant":
            return 1.0
        if self.config.schedule == "exponential":
            return float(self.config.lr_decay ** (step // self.per_epoch))
        rise = max(1, self.total // 10)
        return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.total - rise)))
