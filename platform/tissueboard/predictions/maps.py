"""Virtual maps as arrays, their fixed colour limits and their predictability card."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ml.slides.map_files import MapFileError, read_map
from ml.types import VirtualMap
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import ModelVersion
from tissueboard.store import store

from .models import Prediction


def load_map(prediction: Prediction) -> VirtualMap:
    """The map behind a prediction. TissueboardError MAP_MISSING where its files are not in the store or damaged."""
    try:
        return _read(prediction.key, prediction.sha256)
    except MapFileError as error:
        raise TissueboardError("MAP_MISSING", error.sentence, "Run the virtual map of this slide again.", status=409) from error


@lru_cache(maxsize=32)
def _read(key: str, sha256: str) -> VirtualMap:
    # The checksum is part of the cache's key, so a map that was made again is read again.
    return read_map(store.path(key))


def limits(version: ModelVersion) -> dict[str, tuple[float, float]]:
    """Fixed colour limits per marker: 1st and 99th percentile of the held-out predictions of the reference tissues."""
    return {name: (float(low), float(high)) for name, (low, high) in version.metrics.get("limits", {}).items()}


def card(version: ModelVersion) -> dict[str, dict[str, Any]]:
    """Predictability card: marker -> {r2, r, r_lower, r_upper, n, external_n, locked, reason}."""
    return dict(version.metrics.get("card", {}))


def slide_means(virtual: VirtualMap) -> dict[str, float]:
    """Mean over tissue cells per channel: the virtual profile of a slide, by name."""
    import numpy as np

    return dict(zip(virtual.names, map(float, np.nanmean(virtual.values, axis=(1, 2)))))
