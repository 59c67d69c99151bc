"""Tiles -> virtual proteins. Laid on the slide they are a map: ml.hex.maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ml.hex.config import HexPredictConfig
from ml.hex.data import check_images, resize
from ml.hex.errors import HexDataError
from ml.hex.model import HexModel
from ml.hex.ranges import range_vectors
from ml.hex.weights import HexWeights


@dataclass(frozen=True)
class HexPrediction:
    """Of n tiles.

    features: (n, d) float32, the encoder's vectors. values: (n, P) float32 >= 0 in the unit of the labels (1 = the 99th percentile).
    out_of_range: (n,) float32, above 1 = unlike the fitting tiles. fold: whose values (None: mean of all). features_fold: whose vectors.
    """

    features: NDArray[np.float32]
    values: NDArray[np.float32]
    out_of_range: NDArray[np.float32]
    fold: int | None
    features_fold: int


def predict(
    model: HexWeights | str | Path, images: NDArray[np.uint8], fold: int | None = None, config: HexPredictConfig | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(features (n, d), values (n, P)) of tiles (n, S, S, 3) uint8 RGB, each model.config.tile_um wide; see `infer`."""
    answer = infer(model, images, fold, config)
    return answer.features, answer.values


def infer(
    model: HexWeights | str | Path,
    images: NDArray[np.uint8],
    fold: int | None = None,
    config: HexPredictConfig | None = None,
    features_fold: int = 0,
) -> HexPrediction:
    """Predictions with everything that belongs to them.

    model: loaded weights or their folder. fold: whose values (`HexWeights.fold_for` gives the one that never saw a patient); None = mean
    over folds. features_fold: whose vectors. It is fold 0 for everybody, whatever the fold of the values: each fold has a vector space of
    its own, and vectors of two spaces cannot be compared. Raises HexDataError for tiles of a wrong shape or a fold that is not there.
    """
    weights = load_once(model)
    check_images(images)
    for wanted in (fold, features_fold):
        if wanted is not None and not 0 <= wanted < len(weights.folds):
            raise HexDataError("no_such_fold", f"There is no fold {wanted}; there are {len(weights.folds)} folds, counted from 0.")
    config = config or HexPredictConfig()
    pixels = resize(np.asarray(images), weights.config.input_px)
    used = list(range(len(weights.folds))) if fold is None else [fold]
    runs = {k: run_model(weights.folds[k].model, pixels, config) for k in sorted({*used, features_fold})}
    values = np.mean([runs[k][1] for k in used], axis=0).astype(np.float32)
    far = np.mean([weights.folds[k].range.distance(range_vectors(runs[k][0], pixels)) for k in used], axis=0)
    return HexPrediction(runs[features_fold][0], np.maximum(values, 0), far.astype(np.float32), fold, features_fold)


def load_once(model: HexWeights | str | Path) -> HexWeights:
    """Weights as they are, or read from their folder."""
    if isinstance(model, HexWeights):
        return model
    from ml.hex.checkpoint import load

    return load(Path(model))


@torch.inference_mode()
def run_model(model: HexModel, pixels: NDArray[np.uint8], config: HexPredictConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors (n, d) and raw predictions (n, P) of tiles that have the encoder's size; on the device where the model is."""
    model.eval()
    device = next(model.parameters()).device
    features, values = [], []
    for start in range(0, len(pixels), config.batch):
        tiles = torch.from_numpy(pixels[start : start + config.batch]).to(device).permute(0, 3, 1, 2).float().div_(255)
        views = [tiles] if config.views == 1 else [tiles, tiles.flip(2), tiles.flip(3), tiles.flip(2, 3)]
        vectors = [model.embed(v) for v in views]
        values.append(torch.stack([model.head(v)[0] for v in vectors]).mean(0).float().cpu())
        features.append(vectors[0].float().cpu())
    return torch.cat(features).numpy(), torch.cat(values).numpy()
