"""The types that every family takes and gives, each defined once, with shapes and units.

Nothing here imports torch: describing data must be cheap. Arrays are numpy; lengths are micrometres (um) or
level-0 pixels (px0) of the slide, and the docstring says which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TileGrid:
    """Square tiles on one slide.

    xy: (n, 2) int64, top-left corners in px0.
    tile_px0: side of a tile in px0 (float: a physical size rarely is a whole number of pixels).
    mpp: um per px0.
    slide_size: (width, height) in px0.
    tissue: (n,) float32, share of the tile that is tissue, 0..1; None where it was not measured.
    """

    xy: NDArray[np.int64]
    tile_px0: float
    mpp: float
    slide_size: tuple[int, int]
    tissue: NDArray[np.float32] | None = None

    @property
    def tile_um(self) -> float:
        """Side of a tile in um."""
        return self.tile_px0 * self.mpp

    @property
    def centres(self) -> NDArray[np.float64]:
        """(n, 2) float64, centres of the tiles in px0."""
        centres: NDArray[np.float64] = self.xy.astype(np.float64) + self.tile_px0 / 2
        return centres

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True)
class FeatureBag:
    """One vector per tile. features: (n, d) float32; row i belongs to tile i of the grid."""

    features: NDArray[np.float32]
    grid: TileGrid
    encoder: str


@dataclass(frozen=True)
class VirtualMap:
    """Predicted channels over a slide.

    values: (channels, rows, cols) float32, NaN where there is no tissue; in `unit`.
    names: one name per channel (protein markers or genes).
    pitch_um: um per cell of the map (its stride), not its resolution.
    origin_px0, step_px0: the affine to the slide: cell (row, col) covers px0 x in
        [origin_x + col*step, origin_x + (col+1)*step), the same for y.
    effective_resolution_um: finest detail that the model can really tell apart; None where it was not measured.
    out_of_range: (rows, cols) float32, distance of each cell's tile from what the model was trained on, in units of
        the training set's own 99th percentile (above 1 = outside); None where unknown.
    spread: (channels, rows, cols) float32 half-width of an interval, or None.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    pitch_um: float
    origin_px0: tuple[float, float]
    step_px0: float
    unit: str = "relative intensity (0-1)"
    effective_resolution_um: float | None = None
    out_of_range: NDArray[np.float32] | None = None
    spread: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class MultiplexImage:
    """Measured channels of one tissue at one pitch.

    values: (channels, rows, cols) float32, in the unit in which they were stored, finite. markers: one name per channel.
    um_per_px: side of a pixel in um. mask: (rows, cols) int32, 0 where there is no cell, else its id (ids need not be consecutive).
    tissue: (rows, cols) bool. Both are None where there is none.
    """

    values: NDArray[np.float32]
    markers: tuple[str, ...]
    um_per_px: float
    mask: NDArray[np.int32] | None = None
    tissue: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or len(self.values) != len(self.markers):
            raise ValueError(f"{self.values.shape} values do not fit {len(self.markers)} markers.")
        for name, one in (("mask", self.mask), ("tissue", self.tissue)):
            if one is not None and one.shape != self.values.shape[1:]:
                raise ValueError(f"The {name} is {one.shape}, the image {self.values.shape[1:]}.")


@dataclass(frozen=True)
class NicheSet:
    """A tissue as a weighted set of niches.

    vectors: (k, d) float32. weights: (k,) float64, non-negative, sum 1.
    boxes: (k, 4) float64, x, y, width, height in px0, so that a match can be drawn.
    """

    vectors: NDArray[np.float32]
    weights: NDArray[np.float64]
    boxes: NDArray[np.float64]


@dataclass(frozen=True)
class TileLabels:
    """Measured expression registered to the tiles of one slide (HEX spec 1.1).

    values: (n, p) float32, mean intensity per tile and marker in 0..1; markers: p names; grid: the n tiles.
    """

    values: NDArray[np.float32]
    markers: tuple[str, ...]
    grid: TileGrid


@dataclass(frozen=True)
class Outcomes:
    """Time-to-event data of n patients.

    patients: n ids. time: (n,) float64 days since time zero. event: (n,) bool, True = event observed.
    entry: (n,) float64 days (left truncation, at risk in (entry, time]) or None. endpoint: e.g. "OS".
    """

    patients: tuple[str, ...]
    time: NDArray[np.float64]
    event: NDArray[np.bool_]
    endpoint: str
    entry: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Risk:
    """An absolute risk of one patient.

    probability: of an event within horizon_days (0..1), with a 95% interval (lower, upper).
    score: linear predictor (log hazard ratio against the reference mean). reference: who it is relative to.
    """

    patient: str
    endpoint: str
    horizon_days: float
    probability: float
    lower: float
    upper: float
    score: float
    reference: str


@dataclass(frozen=True)
class Split:
    """A split by patient: ids of patients to fit on and ids held out; they never share one."""

    fit: tuple[str, ...]
    held_out: tuple[str, ...]
    fold: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        both = set(self.fit) & set(self.held_out)
        if both:
            raise ValueError(f"{len(both)} patients are on both sides of the split, e.g. {sorted(both)[0]}.")
