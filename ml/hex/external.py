"""A HEX measured on patients whom it never saw: figures, card, intervals, and the simpler answers beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.baselines import slide_mean
from ml.hex.colour import nuclear_density
from ml.hex.config import HexEvaluateConfig
from ml.hex.conformal import Conformal, calibrate
from ml.hex.data import check_images, label_scale
from ml.hex.errors import HexDataError
from ml.hex.evaluate import CardRow, MarkerFigures, evaluate, predictability_card
from ml.hex.predict import infer
from ml.hex.weights import HexWeights


@dataclass(frozen=True)
class External:
    """predicted, labels: (n, P) float32, labels in the unit of the predictions. baselines: name -> (n, P). markers: those that both
    have."""

    markers: tuple[str, ...]
    predicted: NDArray[np.float32]
    labels: NDArray[np.float32]
    figures: list[MarkerFigures]
    card: list[CardRow]
    conformal: Conformal
    baselines: dict[str, NDArray[Any]]
    out_of_range_share: float | None


def measure(
    weights: HexWeights,
    images: NDArray[np.uint8],
    labels: NDArray[np.float32],
    patients: Sequence[str],
    slides: Sequence[str],
    markers: Sequence[str],
    config: HexEvaluateConfig | None = None,
) -> External:
    """Applies the mean over folds to tiles (n, S, S, 3) of patients that no fold saw (the caller's duty) and compares with labels (n, P).

    Only markers that the weights predict and the labels have are compared; none in common: HexDataError panels_differ. A label's unit is
    the tissue's own (99th percentile), as intensities of two assays are on no common scale. Baselines without fitting: the slide's mean (an
    oracle of the level), and nuclear density, scaled to each marker's mean and deviation.
    """
    config = config or HexEvaluateConfig()
    check_images(images)
    common = [m for m in weights.markers if m in markers]
    if not common:
        sentence = f"None of the {len(markers)} measured markers is predicted by these weights."
        raise HexDataError("panels_differ", sentence, "Measure a model of this panel.", "markers")
    measured = np.asarray(labels, np.float32)[:, [list(markers).index(m) for m in common]]
    scaled = label_scale(measured, config.label_scaling).apply(measured)
    found = infer(weights, images)
    predicted = found.values[:, [weights.markers.index(m) for m in common]]
    figures = evaluate(predicted, scaled, slides, patients, common, config.draws, config.seed)
    density = nuclear_density(images)
    z = (density - density.mean()) / max(float(density.std()), 1e-9)
    plain = {"slide mean": slide_mean(scaled, slides), "nuclear density": scaled.mean(axis=0) + z[:, None] * scaled.std(axis=0)}
    people = len(set(patients))
    return External(
        tuple(common),
        predicted,
        scaled,
        figures,
        predictability_card(figures, people),
        calibrate(predicted, scaled, list(patients), common, config.alpha),
        plain,
        None if found.out_of_range is None else float(np.mean(found.out_of_range > 1)),
    )
