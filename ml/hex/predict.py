"""Tiles -> virtual proteins. Laid on the slide they are a map: ml.hex.maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.hex.config import HexPredictConfig
from ml.hex.data import Rows, check_images, resize, shrunk
from ml.hex.errors import HexDataError
from ml.hex.model import HexModel, head_on
from ml.hex.ranges import range_vectors
from ml.hex.weights import HexWeights


@dataclass(frozen=True)
class HexPrediction:
    """Of n tiles.

    features: (n, d) float32, the encoder's vectors. values: (n, P) float32 >= 0 in the unit of the labels (1 = the 99th percentile).
    out_of_range: (n,) float32, above 1 = unlike the fitting tiles; None where the weights do not know their range. fold: whose values
    (None: mean of all). features_fold: whose vectors.
    """

    features: NDArray[np.float32]
    values: NDArray[np.float32]
    out_of_range: NDArray[np.float32] | None
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
    if config.precision == "as fitted":
        config = config.model_copy(update={"precision": weights.config.precision})
    pixels = shrunk(np.asarray(images), weights.config.input_px)
    used = list(range(len(weights.folds))) if fold is None else [fold]
    vectors, predictions = _run_folds(weights, pixels, config, sorted({*used, features_fold}))
    values = np.mean([predictions[k] for k in used], axis=0).astype(np.float32)
    ranges = {k: weights.folds[k].range for k in used}
    far = None
    if all(r is not None for r in ranges.values()):
        judged = [r.distance(range_vectors(vectors[k], pixels)) for k, r in ranges.items() if r is not None]
        far = np.mean(judged, axis=0).astype(np.float32)
    return HexPrediction(vectors[features_fold], np.maximum(values, 0), far, fold, features_fold)


def _run_folds(
    weights: HexWeights, pixels: NDArray[np.uint8], config: HexPredictConfig, folds: list[int]
) -> tuple[dict[int, NDArray[np.float32]], dict[int, NDArray[np.float32]]]:
    """Vectors and raw predictions by fold. Folds that share a frozen encoder have the tiles encoded once."""
    models = {k: weights.folds[k].model for k in folds}
    if config.views == 1 and len({id(m.encoder) for m in models.values()}) == 1:
        vectors = embed_tiles(models[folds[0]], pixels, config)
        return dict.fromkeys(folds, vectors), {k: head_on(m, vectors) for k, m in models.items()}
    runs = {k: run_model(m, pixels, config) for k, m in models.items()}
    return {k: run[0] for k, run in runs.items()}, {k: run[1] for k, run in runs.items()}


def load_once(model: HexWeights | str | Path) -> HexWeights:
    """Weights as they are, or read from their folder."""
    if isinstance(model, HexWeights):
        return model
    from ml.hex.checkpoint import load

    return load(Path(model))


@torch.inference_mode()
def run_model(
    model: HexModel, pixels: NDArray[np.uint8] | Rows, config: HexPredictConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors (n, d) and raw predictions (n, P) of tiles (n, S, S, 3) uint8, brought to the encoder's size; on the device of the model."""
    model.eval()
    features, values = [], []
    for tiles in _blocks(model, pixels, config.batch):
        views = [tiles] if config.views == 1 else [tiles, tiles.flip(2), tiles.flip(3), tiles.flip(2, 3)]
        with _arithmetic(tiles, config):
            vectors = [model.embed(v).float() for v in views]
        values.append(torch.stack([model.head(v)[0] for v in vectors]).mean(0).cpu())
        features.append(vectors[0].cpu())
    return torch.cat(features).numpy(), torch.cat(values).numpy()


@torch.inference_mode()
def embed_tiles(model: HexModel, pixels: NDArray[np.uint8] | Rows, config: HexPredictConfig) -> NDArray[np.float32]:
    """The encoder's vectors (n, d) float32 of tiles (n, S, S, 3) uint8, brought to its size block by block."""
    model.eval()
    found = []
    for tiles in _blocks(model, pixels, config.batch):
        with _arithmetic(tiles, config):
            found.append(model.embed(tiles).float().cpu())
    return torch.cat(found).numpy()


def _arithmetic(tiles: Tensor, config: HexPredictConfig) -> torch.autocast:
    """Half precision of the encoder where the tiles are on a GPU and the config asks for it; the head stays in fp32."""
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(config.precision)
    return torch.autocast(tiles.device.type, dtype=dtype, enabled=dtype is not None and tiles.device.type == "cuda")


def _blocks(model: HexModel, pixels: NDArray[np.uint8] | Rows, batch: int) -> Iterator[Tensor]:
    device = next(model.parameters()).device
    for start in range(0, len(pixels), batch):
        block = torch.from_numpy(resize(pixels[start : start + batch], model.input_px))
        yield block.to(device).permute(0, 3, 1, 2).float().div_(255)
