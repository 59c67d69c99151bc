"""Maps as the released code makes and stores them, so that files of the authors' pipeline can be used here and ours there.

Source: HEX spec 6 (virtual_codex_from_h5.py), MICA spec 2 (what reads the maps). Our own maps are those of ml.hex.maps: by physical size,
overlap averaged, no tissue told from zero.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.errors import HexDataError
from ml.types import VirtualMap

TILE_40X = 224  # px0 of a tile at 40x, and so of a cell
DEFAULT_MPP = 0.25
MAGNIFICATIONS = ((0.0, 0.2, 80), (0.2, 0.3, 40), (0.4, 0.6, 20))
TOP = 2.0  # predictions of labels in 0..1 pass 1 by little
GREY = 0.5 / 255  # below half a grey level MICA's 8-bit picture is black


def magnification(mpp: float | str | None) -> int:
    """80, 40 or 20 by um per px0, as released: 40 also for what is between or beyond (with a warning), and where it is unknown."""
    try:
        value = DEFAULT_MPP if mpp is None else float(mpp)
    except ValueError:
        value = float("nan")
    if not value > 0:
        raise HexDataError("mpp_invalid", f"The um per pixel is {mpp}; a number above 0 was expected.", "Give that of the scanner.", "mpp")
    for low, high, found in MAGNIFICATIONS:
        if low <= value < high:
            return found
    sentence = f"{value:g} um per pixel is no magnification of the released code; it takes it for 40x, and its cells are not 56 um."
    warnings.warn(sentence, stacklevel=2)
    return 40


def released_step(mpp: float | str | None) -> int:
    """px0 of a cell of a released map: 448, 224 or 112."""
    return int(TILE_40X / (40 / magnification(mpp)))


def released_map(
    coords: NDArray[Any], predictions: NDArray[Any], dimensions: Sequence[int], mpp: float | str | None = None
) -> NDArray[np.float16]:
    """The authors' assembly: coords (N, 2) top-left px0, predictions (N, C) -> (H, W, C) float16, 0 where there is no tile.

    dimensions: (width, height) of the slide in px0. mpp: um per px0, also as the header's text; None counts as 0.25. Of two tiles in one
    cell the later one stays; tiles beyond the slide are skipped. Raises HexDataError for shapes that do not fit and numbers that are none.
    """
    coords, predictions = np.asarray(coords), np.asarray(predictions)
    check_predictions(predictions, coords)
    step = released_step(mpp)
    width, height = (int(side) // step + 1 for side in dimensions)
    # Truncated towards zero, as int() does: a tile that begins up to a cell before the slide counts for its first cell.
    col, row = (coords / step).astype(np.int64).T
    inside = np.flatnonzero((col >= 0) & (col < width) & (row >= 0) & (row < height))
    # By index, not by the order of an assignment, which numpy does not promise where a cell is named twice.
    last = np.full(height * width, -1, np.int64)
    np.maximum.at(last, row[inside] * width + col[inside], inside)
    cells = np.flatnonzero(last >= 0)
    laid = np.zeros((height * width, predictions.shape[1]), np.float16)
    laid[cells] = predictions[last[cells]]
    return laid.reshape(height, width, -1)


def as_virtual_map(released: NDArray[Any], panel: Sequence[str], mpp: float) -> VirtualMap:
    """A released map (H, W, C) as ours: cells without any prediction (all zeros) are NaN. mpp: um per px0 of its slide."""
    check_map(released, panel)
    step = float(released_step(mpp))
    layers = np.moveaxis(np.asarray(released, np.float32), -1, 0)
    values = np.where((layers != 0).any(axis=0), layers, np.nan).astype(np.float32)
    return VirtualMap(values, tuple(panel), step * mpp, (0.0, 0.0), step)


def write_predictions(path: str | Path, predictions: NDArray[Any], coords: NDArray[Any]) -> None:
    """{slide}.h5: codex_prediction (N, C) float32, coords (N, 2) int64 px0. Raises HexDataError as `check_predictions`."""
    import h5py

    predictions, coords = np.asarray(predictions, np.float32), np.asarray(coords, np.int64)
    check_predictions(predictions, coords)
    with h5py.File(path, "w") as file:
        file["codex_prediction"], file["coords"] = predictions, coords


def read_predictions(path: str | Path, panel: Sequence[str] = ()) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(predictions (N, C), coords (N, 2) px0) of a {slide}.h5. panel: names that the columns must be as many as.

    Raises HexDataError: no such file, no HDF5, a data set missing, shapes, numbers that are none, another panel, another scale.
    """
    import h5py

    path = Path(path)
    try:
        with h5py.File(path, "r") as file:
            absent = [name for name in ("codex_prediction", "coords") if name not in file]
            found = {} if absent else {name: np.asarray(file[name]) for name in ("codex_prediction", "coords")}
    except OSError as error:
        raise _unreadable(path, "HDF5") from error
    if absent:
        raise HexDataError(
            "file_incomplete", f"The file {path.name} has no data set {absent[0]}.", "It takes codex_prediction and coords.", path.name
        )
    predictions, coords = found["codex_prediction"], found["coords"]
    check_predictions(predictions, coords, path.name)
    check_panel(predictions.shape[1], panel, path.name)
    check_scale(predictions, path.name)
    return predictions.astype(np.float32), coords.astype(np.int64)


def write_map_file(path: str | Path, released: NDArray[Any]) -> None:
    """{slide}.npy: (H, W, C) float16. Raises HexDataError as `check_map`."""
    check_map(released)
    with Path(path).open("wb") as file:  # np.save would add a suffix to a name that has another one
        np.save(file, np.asarray(released, np.float16), allow_pickle=False)


def read_map_file(path: str | Path, panel: Sequence[str] = ()) -> NDArray[np.float16]:
    """(H, W, C) float16 of a {slide}.npy. Raises HexDataError: no such file, no array, shape, another panel, another scale."""
    path = Path(path)
    try:
        released = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, "numpy array") from error
    if not isinstance(released, np.ndarray) or released.dtype.kind != "f":
        raise _unreadable(path, "numpy array of floats")
    check_map(released, panel, path.name)
    return released.astype(np.float16)


def check_predictions(predictions: NDArray[Any], coords: NDArray[Any], where: str = "codex_prediction") -> None:
    """HexDataError unless predictions are (N, C) finite numbers and coords (N, 2), N >= 1."""
    if predictions.ndim != 2 or coords.shape != (len(predictions), 2) or not predictions.size:
        raise HexDataError(
            "predictions_shape",
            f"Predictions are {predictions.shape} and coordinates {coords.shape}; (tiles, markers) and (tiles, 2) were expected.",
            "Give one row of both per tile.",
            where,
        )
    _check_finite(predictions, where)
    _check_finite(coords, where)


def check_map(released: NDArray[Any], panel: Sequence[str] = (), where: str = "map") -> None:
    """HexDataError unless a map is (H, W, C) finite numbers of the panel on the scale 0..1."""
    if released.ndim != 3 or not released.size:
        raise HexDataError(
            "map_shape", f"The map is {released.shape}; (rows, columns, markers) was expected.", "Put the markers last.", where
        )
    check_panel(released.shape[2], panel, where)
    _check_finite(released, where)
    check_scale(released, where)


def check_panel(columns: int, panel: Sequence[str], where: str = "panel") -> None:
    """HexDataError unless there are as many columns as the panel has markers (any number, for an empty panel)."""
    if panel and columns != len(panel):
        raise HexDataError(
            "panel_mismatch",
            f"There are {columns} markers where the panel has {len(panel)} ({', '.join(panel[:3])} ...).",
            "Name the panel that the predictions were made with.",
            where,
        )


def check_scale(values: NDArray[Any], where: str = "values") -> None:
    """HexDataError unless values can be in 0..1: MICA clips there and keeps 8 bits (MICA spec 2, trap).

    A top above 2 is the scale 0..255; one below half a grey level is a map that was divided by 255 once too often, and would be all black.
    """
    top = float(np.max(values))
    if top > TOP:
        raise HexDataError(
            "scale_0_255", f"The values go up to {top:.4g}: they are on a scale of 0 to 255, not 0 to 1.", "Divide them by 255.", where
        )
    if top < GREY:
        raise HexDataError(
            "scale_too_small",
            f"No value is above {top:.2g}: in 8 bits every picture would be black, as of values that were divided by 255 twice.",
            "Give the predictions on the scale 0 to 1; multiply by 255 squared what was divided by it.",
            where,
        )


def _check_finite(values: NDArray[Any], where: str) -> None:
    lost = int(np.size(values) - np.isfinite(values).sum())
    if lost:
        raise HexDataError("not_finite", f"{lost} of {values.size} numbers are missing or infinite.", "Predict these tiles again.", where)


def _unreadable(path: Path, what: str) -> HexDataError:
    return HexDataError(
        "file_unreadable", f"The file {path.name} cannot be read as {what}.", "Check the path, or copy it again.", path.name
    )
