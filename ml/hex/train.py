"""Fitting HEX: one model per patient-level fold, so that every patient can be predicted by a model that never saw her."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.hex.checkpoint import fingerprint, read_fold_if_same, write_fold
from ml.hex.config import HexFitConfig, HexPredictConfig
from ml.hex.data import Batches, HexDataset, dataset
from ml.hex.evaluate import CardRow, MarkerFigures, evaluate, predictability_card
from ml.hex.model import HexModel, make
from ml.hex.predict import run_model
from ml.hex.ranges import fit_range, range_vectors
from ml.hex.weights import HexFold, HexWeights
from ml.training.loop import Cancelled, Progress, Stop, run_loop
from ml.training.splits import patient_folds


@dataclass(frozen=True)
class HexFit:
    """A cross-fitted HEX.

    weights: one model per fold. fold_of: patient -> the fold that held her out (and so may predict her).
    held_out: (n, P) float32, the out-of-fold prediction of every fitting tile, >= 0, in the unit of the scaled labels.
    figures, card: per marker, on held-out patients. seconds: wall clock of the whole fit.
    """

    weights: HexWeights
    fold_of: dict[str, int]
    held_out: NDArray[np.float32]
    figures: list[MarkerFigures]
    card: list[CardRow]
    seconds: float

    def metrics(self) -> dict[str, Any]:
        """Plain values for a record: per marker, their medians, per fold, seconds."""
        rows = [asdict(f) for f in self.figures]
        medians = {
            f"median_{k}": float(np.nanmedian([r[k] for r in rows]))
            for k in ("r_within", "r2_within", "r2_within_raw", "r_between", "r_pooled", "mse")
        }
        return {**medians, "markers": rows, "folds": [dict(f.facts) for f in self.weights.folds], "seconds": self.seconds}


def fit(
    images: NDArray[np.uint8],
    labels: NDArray[np.float32],
    patients: Sequence[str],
    slides: Sequence[str],
    markers: Sequence[str],
    config: HexFitConfig | None = None,
    progress: Progress | None = None,
    checkpoint_dir: str | Path | None = None,
    stop: Stop | None = None,
    strata: dict[str, str] | None = None,
    encoder_weights: str | None = None,
) -> HexFit:
    """Fits HEX on tiles with measured labels, cross-fitted by patient.

    images: (n, S, S, 3) uint8 RGB, each config.tile_um wide. labels: (n, P) float32, columns `markers`; patients, slides: n ids.
    strata: patient -> site, so that each fold has its share of each site. progress(fraction 0..1, text). checkpoint_dir: finished folds
    are kept there, and a second call with the same data and config continues after them. stop(): asked after every step.
    encoder_weights: local file, for encoders that need one. The random state of the caller is left as it was.

    Raises HexDataError, SplitError, EncoderError, Cancelled, TrainingDiverged.
    """
    started = time.monotonic()
    config = config or HexFitConfig(markers=tuple(markers))
    data = dataset(images, labels, patients, slides, markers, config)
    folds = patient_folds(data.patients.tolist(), config.folds, config.seed, strata)
    mark = fingerprint(data, config, folds, encoder_weights) if checkpoint_dir is not None else ""
    fold_of_tile = np.array([folds[p] for p in data.patients.tolist()])
    held_out, fitted = np.empty((len(data), len(config.markers)), np.float32), []
    for k in range(config.folds):
        if stop is not None and stop():
            raise Cancelled
        done = read_fold_if_same(Path(checkpoint_dir), k, mark, config) if checkpoint_dir is not None else None
        if done is None:
            done = _fit_fold(data, config, np.flatnonzero(fold_of_tile != k), k, _share(progress, k, config.folds), stop, encoder_weights)
            if checkpoint_dir is not None:
                write_fold(Path(checkpoint_dir), k, done, mark)
        fitted.append(done)
        mine = np.flatnonzero(fold_of_tile == k)
        held_out[mine] = np.maximum(run_model(done.model, data.images[mine], HexPredictConfig())[1], 0)
    figures = evaluate(held_out, data.labels, data.slides.tolist(), data.patients.tolist(), data.markers, seed=config.seed)
    if progress is not None:
        progress(1.0, "measured on held-out patients")
    weights = HexWeights(config, data.scale, tuple(fitted))
    return HexFit(weights, folds, held_out, figures, predictability_card(figures), time.monotonic() - started)


def _share(progress: Progress | None, fold: int, folds: int) -> Progress | None:
    """Progress of one fold as its share of the whole; the last twentieth is left for the measuring."""
    if progress is None:
        return None
    return lambda fraction, text: progress(0.95 * (fold + fraction) / folds, f"Fold {fold + 1} of {folds}: {text}")


def _fit_fold(
    data: HexDataset,
    config: HexFitConfig,
    index: NDArray[np.int64],
    fold: int,
    progress: Progress | None,
    stop: Stop | None,
    encoder_weights: str | None,
) -> HexFold:
    """One fold's model, fitted on the tiles `index`."""
    mean, sd = data.labels[index].mean(axis=0), data.labels[index].std(axis=0)
    sd = np.where(sd > 1e-6, sd, 1).astype(np.float32)
    steps = max(1, math.ceil(config.epochs * len(index) / config.batch))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed * 1009 + fold)
        model = make(config, encoder_weights)
        batches = Batches(data, (data.labels - mean) / sd, index, steps, config, seed=config.seed * 1009 + fold)
        facts = run_loop(HexTraining(model, config, steps), batches, steps, max_seconds=config.max_seconds, progress=progress, stop=stop)
    model.cpu().eval().requires_grad_(False)
    model.head.rescale(torch.from_numpy(mean), torch.from_numpy(sd))
    features, _ = run_model(model, data.images[index], HexPredictConfig())
    return HexFold(
        model,
        fit_range(range_vectors(features, data.images[index])),
        {**asdict(facts), "tiles": len(index), "patients": len(np.unique(data.patients[index]))},
    )


class HexTraining(pl.LightningModule):
    """Mean squared error over markers that are standardised by the fitting tiles, so that no bright marker outweighs a dim one.

    Adam with decoupled decay (not on biases and norms), a warm-up over a tenth of the steps, then a cosine to zero.
    """

    def __init__(self, model: HexModel, config: HexFitConfig, steps: int) -> None:
        super().__init__()
        self.model, self.config, self.steps = model, config, steps

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        tiles, targets = batch
        predictions, _ = self.model(tiles)
        return torch.nn.functional.mse_loss(predictions, targets)

    def configure_optimizers(self) -> Any:
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        groups = [{"params": decayed, "weight_decay": self.config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=self.config.lr)
        rise = max(1, self.steps // 10)

        def share(step: int) -> float:
            return (step + 1) / rise if step < rise else 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))

        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimiser, share), "interval": "step"},
        }
