"""Virtual maps as arrays, their fixed colour limits and their predictability card."""

from __future__ import annotations

from collections.abc import Callable
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
    # A dense map of all channels may take as much memory as everything else here: it is read and let go.
    read = _read_file if prediction.kind == Prediction.Kind.DENSE_MAP else _read
    return _found(read, prediction)


def load_channel(prediction: Prediction, channel: int) -> VirtualMap:
    """The same with one channel alone, values (1, rows, cols): what a page shows at a time. IndexError where there is none."""
    return _found(_read_channel, prediction, channel)


def _found(read: Callable[..., VirtualMap], prediction: Prediction, *more: int) -> VirtualMap:
    try:
        return read(prediction.key, prediction.sha256, *more)
    except MapFileError as error:
        raise TissueboardError("MAP_MISSING", error.sentence, "Run the virtual map of this slide again.", status=409) from error


def _read_file(key: str, sha256: str, channel: int | None = None) -> VirtualMap:
    # The checksum is part of the caches' keys, so a map that was made again is read again.
    return read_map(store.path(key), channel)


_read = lru_cache(maxsize=32)(_read_file)
_read_channel = lru_cache(maxsize=16)(_read_file)


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
