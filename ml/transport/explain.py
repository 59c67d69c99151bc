"""What a distance means: what matches, what differs, and how far pieces of one tumour are from each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.transport.config import NicheConfig
from ml.transport.errors import TransportError
from ml.transport.niches import NEAR_CONSTANT, summarise
from ml.transport.wasserstein import wasserstein2

HIGH_SD = 0.5
DIFFERENT_SD = 0.5
MIN_PIECE = 2


@dataclass(frozen=True)
class MarkerPair:
    """One marker in two tissues (or two niches): a, b in the map's unit; z_a, z_b in reference sd from the reference mean."""

    marker: str
    a: float
    b: float
    z_a: float
    z_b: float

    @property
    def difference_sd(self) -> float:
        """b minus a in reference sd."""
        return self.z_b - self.z_a


@dataclass(frozen=True)
class MatchExplanation:
    """matches: high in both, highest first. differs: far apart, farthest first. No marker is in both lists."""

    matches: tuple[MarkerPair, ...]
    differs: tuple[MarkerPair, ...]


def explain_match(
    proteins_a: ArrayLike, proteins_b: ArrayLike, names: Sequence[str], scales: tuple[ArrayLike, ArrayLike], top: int = 3
) -> MatchExplanation:
    """Which markers two tissues share and in which they differ.

    proteins_a, proteins_b: (P,) unscaled means. scales: (mean, sd) of the reference, each (P,): `NicheModel.protein_reference`.
    A marker matches when both are at least 0.5 sd above the reference mean and less than 0.5 sd apart (ordered by the
    lower of the two); it differs when they are at least 0.5 sd apart (ordered by how far). Near-constant markers of
    the reference (as in `fit`) are left out. Either list may be short or empty. Raises TransportError: shape, not_finite.
    """
    a, b, mean, sd = (np.asarray(v, dtype=np.float64) for v in (proteins_a, proteins_b, *scales))
    if not a.shape == b.shape == mean.shape == sd.shape == (len(names),):
        sentence = f"{len(names)} markers are named, but the values have shapes {a.shape}, {b.shape}, {mean.shape} and {sd.shape}."
        raise TransportError("shape", sentence, "Give one value per marker.")
    if not all(np.isfinite(v).all() for v in (a, b, mean, sd)):
        raise TransportError("not_finite", "Some marker values are not finite numbers.", "Leave out niches without a prediction.")
    informative = sd > NEAR_CONSTANT * np.maximum(1.0, np.abs(mean))
    safe = np.where(informative, sd, 1.0)
    z_a, z_b = (a - mean) / safe, (b - mean) / safe
    low, apart = np.minimum(z_a, z_b), np.abs(z_a - z_b)
    matching = informative & (low >= HIGH_SD) & (apart < DIFFERENT_SD)
    differing = informative & (apart >= DIFFERENT_SD)

    def pairs(mask: NDArray[np.bool_], key: NDArray[np.float64]) -> tuple[MarkerPair, ...]:
        order = [i for i in np.argsort(-key, kind="stable") if mask[i]][:top]
        return tuple(MarkerPair(names[i], float(a[i]), float(b[i]), float(z_a[i]), float(z_b[i])) for i in order)

    return MatchExplanation(pairs(matching, low), pairs(differing, apart))


def halves(boxes: NDArray[np.float64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows of the left and right, then of the upper and lower half of a tissue, split at the median box centre.

    boxes: (n, 4) px0. Niches on the median line go to the halves in the order of the other coordinate, so both have
    n // 2 or one more.
    """
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    middle = len(boxes) // 2
    split = []
    for axis in (0, 1):
        order = np.lexsort((centres[:, 1 - axis], centres[:, axis]))
        split.append((np.sort(order[:middle]), np.sort(order[middle:])))
    return split


def self_distances(scaled: NDArray[np.float32], boxes: NDArray[np.float64], config: NicheConfig | None = None) -> NDArray[np.float64]:
    """(2,) 2-Wasserstein distances between pieces of one tissue: left against right, upper against lower half.

    scaled: (n, d) block-scaled vectors of all its niches (`vectors`), boxes: (n, 4) px0. Each half is summarised by
    medoids as a whole tissue is. Raises TransportError: shape, too_few_niches (a half needs 2 niches).
    """
    config = config or NicheConfig()
    if len(scaled) != len(boxes):
        raise TransportError("shape", f"There are {len(scaled)} vectors and {len(boxes)} boxes.", "Give one box per niche.")
    if len(scaled) < 2 * MIN_PIECE:
        sentence = f"A tissue of {len(scaled)} niches cannot be split in halves of at least {MIN_PIECE}."
        raise TransportError("too_few_niches", sentence, "Leave it out of the reference.")
    distances = []
    for one, other in halves(boxes):
        x, y = summarise(scaled[one], boxes[one], config), summarise(scaled[other], boxes[other], config)
        distances.append(wasserstein2(x.vectors, x.weights, y.vectors, y.weights))
    return np.array(distances)


@dataclass(frozen=True)
class WithinTumour:
    """Distances between pieces of one tumour over a reference. distances: (r,) ascending. n_tissues: how many gave them.

    left_out: places of the tissues that were too small to split.
    """

    distances: NDArray[np.float64]
    n_tissues: int
    left_out: tuple[int, ...]


def within_tumour(tissues: Iterable[tuple[NDArray[np.float32], NDArray[np.float64]]], config: NicheConfig | None = None) -> WithinTumour:
    """`self_distances` of every reference tissue, given as (vectors, boxes); tissues too small to split are listed, not guessed.

    Raises TransportError (no_reference) where no tissue could be split.
    """
    found: list[NDArray[np.float64]] = []
    left_out = []
    for place, (scaled, boxes) in enumerate(tissues):
        if len(scaled) < 2 * MIN_PIECE:
            left_out.append(place)
        else:
            found.append(self_distances(scaled, boxes, config))
    if not found:
        raise TransportError("no_reference", "No reference tissue is large enough to be split.", "Add tissues of at least 4 niches.")
    return WithinTumour(np.sort(np.concatenate(found)), len(found), tuple(left_out))


def percentile_within_tumour(distances: ArrayLike, d: float) -> float:
    """Percentage (0..100) of distances between pieces of one tumour that are at most d.

    10 says: nearer than nine in ten pairs of halves of one tumour; 100: as far as, or farther than, any of them.
    distances: (r,) `WithinTumour.distances`. Raises TransportError: no_reference, not_finite.
    """
    reference = np.asarray(distances, dtype=np.float64)
    if not reference.size:
        raise TransportError("no_reference", "There are no distances between pieces of one tumour.", "Fit the reference first.")
    if not np.isfinite(reference).all() or not np.isfinite(d):
        raise TransportError("not_finite", "A distance is not a finite number.", "Compute it again.")
    return float(100 * np.mean(reference <= d))
