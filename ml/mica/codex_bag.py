"""The CODEX bag of a slide: one token per marker from its whole-slide map (spec section 2), by DINOv2 or by fixed descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.encoders.catalogue import encoder as entry
from ml.mica.errors import MicaError
from ml.mica.map_descriptors import FIXED_MAP_DESCRIPTORS, describe_maps
from ml.slides.resample import model_ready
from ml.types import VirtualMap

if TYPE_CHECKING:
    from torch import Tensor

DINOV2 = "dinov2-s14-reg"
LOWEST, HIGHEST = 1 / 255, 2.0
TOLERATED = 0.1  # share of a map's values above zero that may lie above 1 and are clipped


@dataclass(frozen=True)
class CodexBag:
    """tokens: (P, d) float32, one per marker. markers: P names. encoder: what made the tokens; tokens of two encoders are never mixed."""

    tokens: NDArray[np.float32]
    markers: tuple[str, ...]
    encoder: str
    weights_sha256: str = ""


def codex_bag(
    values: VirtualMap | NDArray[Any],
    encoder: str = DINOV2,
    markers: tuple[str, ...] = (),
    weights: str | Path | None = None,
    device: str = "cpu",
    root: Path | None = None,
) -> CodexBag:
    """The tokens of a slide's maps.

    values: a VirtualMap in 0..1, or (H, W, P) with `markers` as its names; NaN (no tissue) counts as 0, as in released maps. encoder:
    "dinov2-s14-reg" (384 values, needs its weight file: `weights`, or where `ml.encoders.runtime.load_encoder` looks) or
    "fixed-map-descriptors" (no weights). Which one it was is kept in the bag: missing weights raise WeightsMissing, nothing takes their
    place. Raises MicaError map_shape, map_scale, map_encoder; EncoderError.
    """
    maps, names = _maps(values, markers)
    check_scale(maps)
    if encoder == FIXED_MAP_DESCRIPTORS:
        return CodexBag(describe_maps(maps), names, encoder)
    if encoder != DINOV2:
        raise MicaError(
            "map_encoder", f"There is no encoder {encoder!r} of maps.", f"Choose {DINOV2} or {FIXED_MAP_DESCRIPTORS}.", "encoder"
        )
    from ml.encoders.runtime import load_encoder

    run = load_encoder(encoder, weights, device, root=root)
    return CodexBag(run(map_images(maps)), names, encoder, run.weights_sha256)


def check_scale(maps: NDArray[np.float32]) -> None:
    """MicaError("map_scale") for maps that are not in 0..1: they would become black or white images without a word.

    maps: (H, W, P) float, NaN where there is no tissue. One wrong scale was divided by 255 twice (all values below 1/255), another was
    never divided. A predictor's tail above 1 is clipped: a tenth of the values above zero, or one in a thousand above 2.
    """
    known = maps[~np.isnan(maps)]
    if not known.size or np.isinf(known).any():
        raise MicaError("map_scale", "The map holds no values, or infinite ones.", "Make the map again.", "map")
    highest, stained = float(known.max()), known[known > 0]
    if highest < LOWEST:
        sentence = f"The highest value of the map is {highest:.2g}: in 256 grey levels all of it would be zero."
        hint = "The map must be in 0..1; one that was divided by 255 once too often must be made again."
        raise MicaError("map_scale", sentence, hint, "map")
    above = float((stained > 1).mean())
    if above > TOLERATED or float(np.quantile(stained, 0.999)) > HIGHEST:
        sentence = f"The map reaches {highest:.3g}, and {above:.1%} of its values above zero are above 1."
        raise MicaError("map_scale", sentence, "Bring it to 0..1, for example by dividing values of 0..255 by 255.", "map")


def map_images(maps: NDArray[Any]) -> NDArray[np.uint8]:
    """(P, 224, 224, 3) uint8: each marker's map, clipped to 0..1, in 256 grey levels, resized as a whole by PIL's bicubic, thrice."""
    px = entry(DINOV2).input_px
    grey = np.rint(np.clip(np.nan_to_num(np.asarray(maps, np.float32), nan=0.0), 0, 1) * np.float32(255)).astype(np.uint8)
    small = [
        np.asarray(Image.fromarray(np.ascontiguousarray(grey[..., p])).resize((px, px), Image.Resampling.BICUBIC))
        for p in range(grey.shape[2])
    ]
    return np.repeat(np.stack(small)[..., None], 3, axis=3)


def dino_input(maps: NDArray[Any]) -> Tensor:
    """(P, 3, 224, 224) float32: what DINOv2 is given for maps (H, W, P) in 0..1."""
    spec = entry(DINOV2)
    ready: Tensor = model_ready(map_images(maps), spec.mean, spec.std)
    return ready


def _maps(values: VirtualMap | NDArray[Any], markers: tuple[str, ...]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    if isinstance(values, VirtualMap):
        maps, names = np.moveaxis(values.values, 0, -1), values.names
    else:
        maps, names = np.asarray(values), tuple(markers)
    if maps.ndim != 3 or not maps.size or maps.shape[2] != len(names):
        sentence = f"The map is {maps.shape} for {len(names)} marker names."
        raise MicaError("map_shape", sentence, "Give rows, columns and one channel per marker, with their names.", "map")
    return maps.astype(np.float32), names
