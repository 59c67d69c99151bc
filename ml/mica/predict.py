"""A fitted MICA applied: hazards, a survival curve in days, the risk, the probability of an event by a horizon, and attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ml.mica.config import MicaPredictConfig
from ml.mica.data import MicaBag, check_bags, model_input
from ml.mica.errors import MicaError
from ml.mica.labels import Bins
from ml.mica.model import MicaNet
from ml.mica.weights import MicaWeights

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MicaPrediction:
    """Of one patient, by the mean over her slides (and over folds, where fold is None).

    slides: ids in the order given. risk: -sum of the survival at the intervals' ends, -K..0, higher is worse; comparable within one fold
    only. hazards: (K,) P(event in interval k | alive at its beginning). days, survival: (m,) the curve, from (0, 1) over the ends of the
    intervals. probability: of an event within horizon_days. attention: per slide (P, n_tiles) float32, softmax over the tiles, mean over
    heads; its rows are the markers (learned tokens for H&E alone); None where the model has no H&E branch or it was not asked for.
    """

    patient: str
    slides: tuple[str, ...]
    risk: float
    hazards: Array
    days: Array
    survival: Array
    probability: float
    horizon_days: float
    attention: tuple[NDArray[np.float32], ...] | None
    markers: tuple[str, ...]
    fold: int | None


@dataclass(frozen=True)
class SlideOutput:
    """One network's answer for one slide: hazards, survival (K,) float64, risk, attention (P, n_tiles) float32 or None."""

    hazards: Array
    survival: Array
    risk: float
    attention: NDArray[np.float32] | None


def predict(
    model: MicaWeights | str | Path, bags: Sequence[MicaBag], fold: int | None = None, config: MicaPredictConfig | None = None
) -> list[MicaPrediction]:
    """One prediction per patient, in the order of her first slide.

    model: loaded weights or their folder. fold: the one to use for all these bags (`MicaWeights.fold_for` gives the one that never saw a
    patient); None = mean over folds, for patients that no fold saw. The probability comes from the released likelihood, in which a censored
    patient counts as alive to the end of her interval: it is low where censoring is heavy (`MicaFit.metrics` tells by how much).
    Raises MicaError: those of `check_bags`, no_such_fold, horizon_beyond_follow_up.
    """
    weights = load_once(model)
    config = config or MicaPredictConfig()
    check_bags(bags, weights.config.modality, weights.inputs)
    used = chosen_folds(weights, fold)
    horizon = config.horizon_days or weights.config.horizon_days
    for k in used:
        check_horizon(weights.folds[k].bins, horizon)
    by_patient: dict[str, list[MicaBag]] = {}
    for bag in bags:
        by_patient.setdefault(bag.patient, []).append(bag)
    return [_patient(weights, mine, used, fold, horizon, config.attention) for mine in by_patient.values()]


def _patient(
    weights: MicaWeights, bags: Sequence[MicaBag], used: Sequence[int], fold: int | None, horizon: float, attention: bool
) -> MicaPrediction:
    outputs = [[run(weights.folds[k].model, bag, weights, attention) for k in used] for bag in bags]
    days = np.unique(np.concatenate([curve_days(weights.folds[k].bins) for k in used]))
    curves = [survival_at(weights.folds[k].bins, o.survival, days) for row in outputs for k, o in zip(used, row)]
    lived = [survival_at(weights.folds[k].bins, o.survival, np.array([horizon])) for row in outputs for k, o in zip(used, row)]
    maps = [[o.attention for o in row if o.attention is not None] for row in outputs]
    return MicaPrediction(
        bags[0].patient,
        tuple(bag.slide for bag in bags),
        float(np.mean([o.risk for row in outputs for o in row])),
        np.mean([o.hazards for row in outputs for o in row], axis=0),
        days,
        np.mean(curves, axis=0),
        float(1 - np.mean(lived)),
        horizon,
        tuple(np.mean(m, axis=0).astype(np.float32) for m in maps) if all(maps) else None,
        weights.markers,
        fold,
    )


@torch.inference_mode()
def run(model: MicaNet, bag: MicaBag, weights: MicaWeights | Any, attention: bool = False) -> SlideOutput:
    """One slide through one network, which is put into eval mode. weights: anything with `inputs`."""
    model.eval()
    device = next(model.parameters()).device
    out = model(*(None if x is None else x.to(device) for x in model_input(bag, weights.inputs)))
    seen = None
    if attention and out.coattention is not None:
        seen = out.coattention.softmax(dim=-1).mean(dim=1)[0].float().cpu().numpy()
    hazards, survival = (x[0].double().cpu().numpy() for x in (out.hazards, out.survival))
    return SlideOutput(hazards, survival, float(out.risk), seen)


def curve_days(bins: Bins) -> Array:
    """(K + 1,): day 0 and the end of every interval."""
    return np.concatenate([[0.0], bins.edges[1:]])


def survival_at(bins: Bins, survival: Array, days: Array) -> Array:
    """S at days (m,), from S at the intervals' ends (K,): 1 on day 0, log-linear between, that is a constant hazard within an interval.

    Days after the last end get S of the last end; `check_horizon` keeps a probability from being read there.
    """
    known = np.log(np.maximum(np.concatenate([[1.0], survival]), 1e-300))
    values: Array = np.exp(np.interp(days, curve_days(bins), known))
    return values


def check_horizon(bins: Bins, horizon: float) -> None:
    """MicaError("horizon_beyond_follow_up") where the intervals end before the horizon."""
    last = float(bins.edges[-1])
    if horizon > last:
        sentence = f"Nobody of the fitting patients was followed beyond {last:.0f} days, so there is no probability at {horizon:g} days."
        raise MicaError("horizon_beyond_follow_up", sentence, "Choose a shorter horizon.", "horizon_days")


def chosen_folds(weights: MicaWeights, fold: int | None) -> list[int]:
    """The folds to use; MicaError("no_such_fold")."""
    if fold is not None and not 0 <= fold < len(weights.folds):
        sentence = f"There is no fold {fold}; there are {len(weights.folds)} folds, counted from 0."
        raise MicaError("no_such_fold", sentence, "Ask `fold_for` which fold may predict a patient.", "fold")
    return list(range(len(weights.folds))) if fold is None else [fold]


def load_once(model: MicaWeights | str | Path) -> MicaWeights:
    """Weights as they are, or read from their folder."""
    if isinstance(model, MicaWeights):
        return model
    from ml.mica.checkpoint import load

    return load(Path(model))
