"""Feature bags on disk: HDF5 in the layout that TRIDENT writes and reads, with our own facts beside it.

Datasets `features` (n, d) float32 and `coords` (n, 2) int64 (top-left corners, px0); TRIDENT's attributes sit on `coords`, the
encoder's name on `features`. Ours: `mpp`, `tile_px0` on `coords`, `tissue` (n,) float32 as a third dataset.
Zhang A. et al. Accelerating data processing and benchmarking of AI models for pathology. arXiv:2502.06750 (TRIDENT).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ml.slides.files import whole_file
from ml.slides.findings import FindingCode, SlideError
from ml.types import FeatureBag, TileGrid

ROWS_PER_CHUNK = 1024  # one row per chunk, as TRIDENT writes, makes full and random reads ten times slower


def write_bag(path: str | Path, bag: FeatureBag, attrs: Mapping[str, Any] | None = None) -> None:
    """Write a bag; the file is whole or absent (temporary file, fsync, rename).

    attrs: more facts for `coords`, e.g. name (of the slide, without identifiers), patch_size (px that the encoder saw), overlap,
    target_magnification. Error: SlideError BAG_INVALID when features and grid do not belong together or hold NaN.
    """
    features = np.ascontiguousarray(bag.features, np.float32)
    _validate(features, bag.grid)
    with whole_file(path) as part, h5py.File(part, "w") as file:
        rows = min(ROWS_PER_CHUNK, len(features))
        chunks = (rows, features.shape[1]) if features.size else None
        stored = file.create_dataset("features", data=features, chunks=chunks)
        stored.attrs.update({"name": bag.encoder, "encoder": bag.encoder})
        coords = file.create_dataset("coords", data=np.asarray(bag.grid.xy, np.int64))
        coords.attrs.update({**_trident_attrs(bag.grid), "encoder": bag.encoder, **dict(attrs or {})})
        if bag.grid.tissue is not None:
            file.create_dataset("tissue", data=np.asarray(bag.grid.tissue, np.float32))


def read_bag(path: str | Path, mpp: float | None = None) -> FeatureBag:
    """Read a bag that we or TRIDENT wrote (also with a leading batch axis of one).

    mpp: um per px0, needed only for files that do not state it (TRIDENT's do not).
    Errors: SlideError FILE_MISSING, BAG_UNREADABLE (truncated or not HDF5), BAG_INVALID, MPP_MISSING.
    """
    path = Path(path)
    if not path.is_file():
        raise SlideError(FindingCode.FILE_MISSING, f"There is no feature file {path.name}.", "Run the encoder on the slide.")
    try:
        with h5py.File(path, "r") as file:
            features = _flat(np.asarray(file["features"]), 2).astype(np.float32)
            xy = _flat(np.asarray(file["coords"]), 2).astype(np.int64)
            tissue = np.asarray(file["tissue"], np.float32) if "tissue" in file else None
            facts = {**dict(file.attrs), **dict(file["coords"].attrs)}
            encoder = file["features"].attrs.get("name", facts.get("encoder", "unknown"))
    except (OSError, KeyError, RuntimeError) as error:
        raise SlideError(
            FindingCode.BAG_UNREADABLE,
            f"The feature file {path.name} is truncated or not a feature file ({error}).",
            "Run the encoder on the slide again.",
        ) from error
    grid = _grid(path, xy, facts, tissue, mpp)
    _validate(features, grid)
    return FeatureBag(features, grid, encoder.decode() if isinstance(encoder, bytes) else str(encoder))


def _trident_attrs(grid: TileGrid) -> dict[str, Any]:
    magnification = round(10.0 / grid.mpp, 2)  # the field's convention: 0.25 um per px0 is 40x
    return {
        "patch_size": round(grid.tile_px0),
        "patch_size_level0": round(grid.tile_px0),
        "level0_magnification": magnification,
        "target_magnification": magnification,
        "overlap": 0,
        "level0_width": grid.slide_size[0],
        "level0_height": grid.slide_size[1],
        "name": "",
        "mpp": grid.mpp,
        "tile_px0": grid.tile_px0,
    }


def _grid(path: Path, xy: NDArray[np.int64], facts: Mapping[str, Any], tissue: NDArray[np.float32] | None, mpp: float | None) -> TileGrid:
    mpp = float(facts["mpp"]) if "mpp" in facts else mpp
    if mpp is None:
        raise SlideError(
            FindingCode.MPP_MISSING,
            f"The feature file {path.name} does not say how many micrometres a pixel is.",
            "Give the mpp of its slide.",
            "coords",
        )
    side = facts.get("tile_px0", facts.get("patch_size_level0"))
    if side is None:
        raise SlideError(
            FindingCode.BAG_INVALID,
            f"The feature file {path.name} does not say how large its tiles are.",
            "The attribute patch_size_level0 of coords is missing: write the file again with it.",
            "coords",
        )
    side = float(side)
    corner = xy.max(axis=0) + int(np.ceil(side)) if len(xy) else np.zeros(2, np.int64)
    size = (int(facts.get("level0_width", corner[0])), int(facts.get("level0_height", corner[1])))
    return TileGrid(xy=xy, tile_px0=side, mpp=mpp, slide_size=size, tissue=tissue)


def _flat(array: NDArray[Any], axes: int) -> NDArray[Any]:
    """Drop the leading batch axis of one that slide-level tools expect and some files carry."""
    return array[0] if array.ndim == axes + 1 and array.shape[0] == 1 else array


def _validate(features: NDArray[np.float32], grid: TileGrid) -> None:
    problem = ""
    if features.ndim != 2 or grid.xy.ndim != 2 or grid.xy.shape[1] != 2:
        problem = f"features must be (n, d) and coords (n, 2); they are {features.shape} and {grid.xy.shape}"
    elif len(features) != len(grid):
        problem = f"there are {len(features)} feature vectors for {len(grid)} tiles"
    elif grid.tissue is not None and len(grid.tissue) != len(grid):
        problem = f"there are {len(grid.tissue)} tissue shares for {len(grid)} tiles"
    elif not np.isfinite(features).all():
        problem = f"{int((~np.isfinite(features)).any(axis=1).sum())} feature vectors hold NaN or infinity"
    if problem:
        raise SlideError(FindingCode.BAG_INVALID, f"The feature bag is not valid: {problem}.", "Run the encoder on the slide again.")
