"""Tiles -> virtual proteins -> a map over the slide."""

from __future__ import annotations

from collections.abc import Sequence
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
from ml.types import TileGrid, VirtualMap


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


def to_map(
    values: NDArray[np.float32],
    grid: TileGrid,
    names: Sequence[str],
    out_of_range: NDArray[np.float32] | None = None,
    effective_resolution_um: float | None = None,
) -> VirtualMap:
    """Lays predictions on the slide: values (n, P), row i of tile i of the grid -> VirtualMap over the tissue's bounding box.

    A cell is one step of the grid (the tile's side, or less where tiles overlap); cells without a tile are NaN. Two tiles in one cell: the
    later one stays (spec 6). Raises HexDataError where rows, tiles and names do not fit.
    """
    if len(values) != len(grid) or values.shape[1] != len(names) or not len(grid):
        raise HexDataError(
            "map_shape", f"Values are {values.shape} for {len(grid)} tiles and {len(names)} names.", "Give one row per tile.", "values"
        )
    step, origin = _step(grid), grid.xy.min(axis=0).astype(float)
    col, row = np.rint((grid.xy - origin) / step).astype(np.int64).T
    shape = (int(row.max()) + 1, int(col.max()) + 1)
    layers = np.full((len(names), *shape), np.nan, np.float32)
    layers[:, row, col] = values.T
    far = None
    if out_of_range is not None:
        far = np.full(shape, np.nan, np.float32)
        far[row, col] = out_of_range
    return VirtualMap(
        values=layers,
        names=tuple(names),
        pitch_um=step * grid.mpp,
        origin_px0=(float(origin[0]), float(origin[1])),
        step_px0=step,
        effective_resolution_um=effective_resolution_um,
        out_of_range=far,
    )


def _step(grid: TileGrid) -> float:
    """Step of the grid in px0. Corners are whole pixels and the step need not be: it is measured over the whole width."""
    steps = []
    for axis in (0, 1):
        places = np.unique(grid.xy[:, axis])
        gaps = np.diff(places)[np.diff(places) > 1]
        if len(gaps):
            span, usual = float(places[-1] - places[0]), gaps[gaps <= gaps.min() + 1].mean()
            steps.append(span / round(span / usual))
    step = min(steps, default=grid.tile_px0)
    return grid.tile_px0 if step > grid.tile_px0 - 1 else step
