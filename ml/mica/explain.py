"""Which tiles and which markers a risk comes from: integrated gradients (Sundararajan et al., ICML 2017) from an empty bag.

The released script asks for the same of tiles but cannot run; its baseline and target are not stated. Here the target is the risk and the
baseline is zero for every input, both bags on one straight path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ml.mica.config import MicaExplainConfig
from ml.mica.data import MicaBag, check_bags, model_input
from ml.mica.model import MicaNet
from ml.mica.predict import chosen_folds, load_once
from ml.mica.weights import MicaWeights


@dataclass(frozen=True)
class MicaExplanation:
    """Attributions in units of the risk (positive raises it), summed over features.

    tiles: (n_tiles,) float64; None without an H&E branch. codex: (P,) float64, one per marker; None without a CODEX branch. risk: of the
    bag; baseline: of the empty one. gap: (sum of all attributions) - (risk - baseline), 0 if the path were followed exactly: more steps
    make it smaller. fold: None = mean over folds.
    """

    patient: str
    slide: str
    tiles: NDArray[np.float64] | None
    codex: NDArray[np.float64] | None
    markers: tuple[str, ...]
    risk: float
    baseline: float
    gap: float
    steps: int
    fold: int | None

    @property
    def relative_gap(self) -> float:
        """|gap| as a share of |risk - baseline| (of 1e-12 at least)."""
        return abs(self.gap) / max(abs(self.risk - self.baseline), 1e-12)


def explain(
    model: MicaWeights | str | Path, bag: MicaBag, fold: int | None = None, config: MicaExplainConfig | None = None
) -> MicaExplanation:
    """Attributions of one slide's risk. model, fold: as in `ml.mica.predict.predict`. Memory: a few times the bag's, whatever the steps.

    Raises MicaError: those of check_bags, no_such_fold.
    """
    weights, config = load_once(model), config or MicaExplainConfig()
    check_bags([bag], weights.config.modality, weights.inputs)
    parts = [_gradients(weights.folds[k].model, bag, weights, config.steps) for k in chosen_folds(weights, fold)]
    tiles, codex = (
        None if parts[0][i] is None else np.mean([part[i] for part in parts], axis=0)  # type: ignore[arg-type]
        for i in (0, 1)
    )
    risk, baseline = (float(np.mean([part[i] for part in parts])) for i in (2, 3))
    total = sum(float(x.sum()) for x in (tiles, codex) if x is not None)
    return MicaExplanation(
        bag.patient, bag.slide, tiles, codex, weights.markers, risk, baseline, total - (risk - baseline), config.steps, fold
    )


Attribution = NDArray[np.float64] | None


def _gradients(model: MicaNet, bag: MicaBag, weights: MicaWeights, steps: int) -> tuple[Attribution, Attribution, float, float]:
    """(tiles, codex, risk, risk of zeros) of one network. Gauss-Legendre points, one pass each: memory does not grow with their number."""
    model.eval()
    device = next(model.parameters()).device
    inputs = [None if x is None else x.to(device) for x in model_input(bag, weights.inputs)]
    sums = [None if x is None else torch.zeros_like(x) for x in inputs]
    points, shares = np.polynomial.legendre.leggauss(steps)
    for point, share in zip((points + 1) / 2, shares / 2):
        at = [None if x is None else (x * point).requires_grad_(True) for x in inputs]
        wanted = [x for x in at if x is not None]
        slopes = iter(torch.autograd.grad(model(*at).risk.sum(), wanted))
        for total in sums:
            if total is not None:
                total.add_(next(slopes), alpha=float(share))
    with torch.inference_mode():
        risk, baseline = float(model(*inputs).risk), float(model(*(None if x is None else torch.zeros_like(x) for x in inputs)).risk)
    tiles, codex = (None if x is None else (x * g).sum(dim=1).double().cpu().numpy() for x, g in zip(inputs, sums))
    return tiles, codex, risk, baseline
