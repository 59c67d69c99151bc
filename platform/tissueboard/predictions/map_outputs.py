"""Predictions of tiles -> the map file in the store, with its facts."""

from __future__ import annotations

from typing import Any

from tissueboard.model_registry.services import FoldChoice
from tissueboard.store import checksum, store

from .intervals import conformal_of, facts_of, why_none
from .sources import Source


def save_map(
    source: Source, grid: Any, arrays: dict[str, Any], choice: FoldChoice, stride_um: float | None = None
) -> tuple[str, str, dict[str, Any]]:
    """(key, checksum, facts) of the OME-Zarr of a slide. arrays: values (n, P) and, where the model knows its range, out_of_range (n,).

    stride_um: distance of the grid's tiles; None: side by side. A map of overlapping tiles carries no interval: it is calibrated on tiles.
    """
    import numpy as np

    from ml.hex.maps import to_map
    from ml.slides.map_files import write_map

    version, far = source.version, arrays.get("out_of_range")
    found = conformal_of(version)
    why = why_none(found, choice.in_sample, overlapping=stride_um is not None, range_known=far is not None)
    virtual = to_map(
        arrays["values"],
        grid,
        version.panel,
        far,
        effective_resolution_um=version.metrics.get("effective_resolution_um"),
        spread=None if why or found is None else found.spread(far),
        step_um=stride_um or grid.tile_um,
    )
    temp = store.new_temp(".zarr")
    write_map(temp, virtual, mpp=grid.mpp)
    name = "map" if stride_um is None else "dense-map"
    key = f"slides/{source.slide.pk}/{name}-{version.pk}-{checksum(temp)[:12]}.ome.zarr"
    facts = {
        "names": list(virtual.names),
        "pitch_um": virtual.pitch_um,
        "tile_um": grid.tile_um,
        "effective_resolution_um": virtual.effective_resolution_um,
        "rows": virtual.values.shape[1],
        "cols": virtual.values.shape[2],
        "origin_px0": list(virtual.origin_px0),
        "step_px0": virtual.step_px0,
        "out_of_range_share": None if far is None else float(np.mean(far > 1)),
        "out_of_range_median": None if far is None else float(np.median(far)),
        "n_tiles": len(grid),
        "unit": virtual.unit,
        "interval": facts_of(found, why),
    }
    return key, store.save(temp, key), facts
