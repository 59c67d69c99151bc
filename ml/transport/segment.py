"""One unchanging part of a set index: its sets as given, and what the first two stages of a search need of them.

Coarse coordinates: a set's points less their weighted mean, in the principal axes of such points, with the length of what the axes leave
out as one more coordinate. For orthonormal axes V, z = V'x and r = |x - Vz|,

    |x - y|^2 = |z_x - z_y|^2 + |(x - Vz_x) - (y - Vz_y)|^2 >= |z_x - z_y|^2 + (r_x - r_y)^2,

whatever the axes are: they decide how tight the bound is, never whether it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ml.transport.errors import TransportError
from ml.transport.store import ArrayFile, Facts, broken, read_array, write_array
from ml.transport.wasserstein import Array, checked_set
from ml.types import NicheSet

MAX_NICHES = 256
LARGEST = 1e15
"""Squares of larger values could leave the range of float32."""
BLOCK_SETS, BLOCK_POINTS = 512, 8192
SAMPLE_POINTS = 16_384

FILES: dict[str, Any] = {
    "ids": np.int64,
    "sizes": np.int64,
    "points": np.float32,
    "weights": np.float64,
    "squares": np.float32,
    "means": np.float32,
    "lengths": np.float64,
    "order": np.int64,
    "coarse": np.float32,
    "shares": np.float32,
}


@dataclass(frozen=True)
class Frame:
    """What the segments of an index share. centre: (d,) float64, taken off before means are rounded to float32. axes: (d, c) float64,
    orthonormal. fitted_on: sets that the axes were fitted among. left_out: share of the variance that they left out there.
    """

    centre: Array
    axes: Array
    fitted_on: int
    left_out: float


@dataclass(frozen=True)
class Segment:
    """n sets of m points altogether, read-only memory maps. ids, sizes, start: (n,) int64. The frame has d dimensions and c axes.

    points: (m, d) float32 and weights: (m,) float64 as given. squares: (m,) float32, |y|^2 of the centred points. means: (n, d) float32,
    weighted means less the frame's centre. lengths: (n, 3) float64: longest centred point, |mean - centre|, |mean|.
    order: (n,) sets by size. coarse, shares: coordinates (c + 3, slots, sets) and weights (slots, sets) of runs of that order (`blocks`),
    one after the other; the last two coordinates are |y|^2 and 1, so that one product with the query's gives squared distances.
    """

    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    points: NDArray[np.float32]
    weights: NDArray[np.float64]
    squares: NDArray[np.float32]
    means: NDArray[np.float32]
    lengths: Array
    order: NDArray[np.int64]
    coarse: NDArray[np.float32]
    shares: NDArray[np.float32]
    start: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def of(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Vectors and weights of one set, as they were given."""
        place = slice(int(self.start[row]), int(self.start[row] + self.sizes[row]))
        return self.points[place], self.weights[place]

    def sets(self, live: NDArray[np.bool_]) -> Iterator[tuple[int, NicheSet]]:
        """(id, set) of the live rows; the boxes are not kept here and come out as zeros."""
        for row in np.flatnonzero(live).tolist():
            vectors, weights = self.of(row)
            yield int(self.ids[row]), NicheSet(np.array(vectors), np.array(weights), np.zeros((len(weights), 4)))


def slots(start: NDArray[np.int64], sizes: NDArray[np.int64], weights: NDArray[np.float64]) -> tuple[NDArray[np.int64], Array]:
    """Rows (s, b) of the points of b sets, s the largest size, and their weights (s, b) divided by their sum (as `checked_set` divides).

    Where a set has fewer points its last one is repeated with weight 0: that changes no minimum over its points.
    """
    place = np.arange(sizes.max())[:, None]
    rows = start + np.minimum(place, sizes - 1)
    shares = np.where(place < sizes, weights[rows], 0.0)
    return rows, shares / shares.sum(axis=0)


def blocks(sizes: NDArray[np.int64], order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Runs of `order` (sets by ascending size) of at most BLOCK_SETS sets and about BLOCK_POINTS slots."""
    first = 0
    while first < len(order):
        last = min(first + BLOCK_SETS, len(order))
        while last - first > 1 and (last - first) * int(sizes[order[last - 1]]) > BLOCK_POINTS:
            last = first + max(1, BLOCK_POINTS // int(sizes[order[last - 1]]))
        yield order[first:last]
        first = last


def coarse_coordinates(centred: Array, axes: Array) -> Array:
    """(m, c + 1) float64 of centred points (m, d): see the head of this file."""
    z = centred @ axes
    squares = np.einsum("md,md->m", centred, centred)
    rest = np.sqrt(np.maximum(squares - np.einsum("mc,mc->m", z, z), 0))
    return np.concatenate([z, rest[:, None]], axis=1)


def write_segment(
    folder: Path, prefix: str, sets: Iterable[tuple[int, NicheSet]], frame: Frame | None, components: int, taken: set[int]
) -> tuple[dict[str, Facts], Frame | None, float]:
    """The files of a segment; a frame of None is fitted here. Gives their facts, the frame (None where there are no sets, then nothing is
    left in the folder), and the share of the variance that the axes leave out among these sets. taken: ids that may not come again.

    Raises TransportError: dimension, too_many_niches, out_of_range, precision, duplicate_id, and those of `checked_set`, where "set <id>".
    """
    copied = _copy_sets(folder, prefix, sets, frame, taken)
    if copied is None:
        return {}, frame, 0.0
    ids, sizes, start = copied.ids, copied.sizes, np.cumsum(copied.sizes) - copied.sizes
    points, weights = copied.points.flush(), copied.weights.flush()
    if frame is None:
        frame = _fit(points, weights, start, sizes, copied.total / len(ids), components)
    facts, left_out = _derive(folder, prefix, (points, weights, start, sizes), frame)
    facts |= {"points": copied.points.close(), "weights": copied.weights.close()}
    facts |= {name: write_array(folder / f"{prefix}{name}.npy", values) for name, values in (("ids", ids), ("sizes", sizes))}
    if not np.isfinite(frame.left_out):
        frame = Frame(frame.centre, frame.axes, frame.fitted_on, left_out)
    return facts, frame, left_out


class _Copied(NamedTuple):
    """Files of points and weights, still open; ids and sizes (n,), and the sum of the sets' means (d,)."""

    points: ArrayFile
    weights: ArrayFile
    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    total: Array


def _copy_sets(folder: Path, prefix: str, sets: Iterable[tuple[int, NicheSet]], frame: Frame | None, taken: set[int]) -> _Copied | None:
    """The sets as given, one after the other, checked; None where there are none."""
    dim = None if frame is None else len(frame.centre)
    files: list[ArrayFile] = []
    ids, sizes, total = [], [], np.zeros(dim or 0)
    try:
        for number, one in sets:
            y, b, vectors = _checked(number, one, dim)
            if number in taken:
                raise TransportError("duplicate_id", f"The set {number} comes twice.", "Give each id once.", f"set {number}")
            taken.add(number)
            if not files:
                dim = y.shape[1]
                total = np.zeros(dim)
                files = [
                    ArrayFile(folder / f"{prefix}points.npy", np.float32, (dim,)),
                    ArrayFile(folder / f"{prefix}weights.npy", np.float64),
                ]
            ids.append(number)
            sizes.append(len(b))
            total += b @ y
            files[0].append(vectors)
            files[1].append(np.asarray(one.weights, np.float64))
    except BaseException:
        for file in files:
            file.discard()
        raise
    return _Copied(files[0], files[1], np.array(ids, np.int64), np.array(sizes, np.int64), total) if files else None


def _checked(number: int, one: NicheSet, dim: int | None) -> tuple[Array, Array, NDArray[np.float32]]:
    where = f"set {number}"
    y, b = checked_set(one.vectors, one.weights, where)
    if dim is not None and y.shape[1] != dim:
        sentence = f"The set {number} has {y.shape[1]} dimensions where others have {dim}."
        raise TransportError("dimension", sentence, "Index niche sets of one model version.", where)
    if len(b) > MAX_NICHES:
        sentence = f"The set {number} has {len(b)} niches; at most {MAX_NICHES} can be indexed."
        raise TransportError("too_many_niches", sentence, "Summarise it by medoids first.", where)
    if np.abs(y).max() > LARGEST:
        raise TransportError("out_of_range", f"The set {number} has values above {LARGEST:g}.", "Scale the vectors.", where)
    vectors = np.asarray(one.vectors, np.float32)
    if one.vectors.dtype != np.float32 and not np.array_equal(vectors, one.vectors):
        raise TransportError("precision", f"The vectors of the set {number} are finer than float32.", "Give float32 vectors.", where)
    return y, b, vectors


def _centred(
    points: NDArray[np.float32], weights: NDArray[np.float64], start: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[Array, Array, Array]:
    """Points (s, b, d) of b sets less their means, the means (b, d), the shares (s, b); all float64."""
    rows, shares = slots(start, sizes, weights)
    y = points[rows].astype(np.float64)
    means = np.einsum("sb,sbd->bd", shares, y)
    return y - means, means, shares


def _fit(
    points: NDArray[np.float32],
    weights: NDArray[np.float64],
    start: NDArray[np.int64],
    sizes: NDArray[np.int64],
    centre: Array,
    components: int,
) -> Frame:
    """Axes from evenly spaced sets of about SAMPLE_POINTS points together; what they leave out is measured later, on all sets."""
    from scipy.linalg import eigh

    dim = points.shape[1]
    step = max(1, round(sizes.sum() / SAMPLE_POINTS))
    spread = np.zeros((dim, dim))
    picked = np.arange(0, len(sizes), step)
    for some in np.array_split(picked, -(-len(picked) // 64)):
        y, _, shares = _centred(points, weights, start[some], sizes[some])
        y *= np.sqrt(shares)[:, :, None]
        flat = y.reshape(-1, dim)
        spread += flat.T @ flat
    kept = min(components, dim)
    _, axes = eigh(spread, subset_by_index=(dim - kept, dim - 1))
    return Frame(centre, np.ascontiguousarray(axes[:, ::-1]), len(sizes), float("nan"))


def _derive(
    folder: Path,
    prefix: str,
    stored: tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]],
    frame: Frame,
) -> tuple[dict[str, Facts], float]:
    """What the two first stages need, block by block; and the share of the variance that the axes leave out."""
    points, weights, start, sizes = stored
    order = np.argsort(sizes, kind="stable")
    coarse, shares_file = (ArrayFile(folder / f"{prefix}{name}.npy", np.float32) for name in ("coarse", "shares"))
    squares, lengths = np.zeros(len(points), np.float32), np.zeros((len(sizes), 3))
    means = np.zeros((len(sizes), points.shape[1]), np.float32)
    outside = whole = 0.0
    for some in blocks(sizes, order):
        y, m, shares = _centred(points, weights, start[some], sizes[some])
        s, b, dim = y.shape
        z = coarse_coordinates(y.reshape(s * b, dim), frame.axes)
        norm = np.einsum("mc,mc->m", z, z)
        coarse.append(np.concatenate([z.T, norm[None], np.ones((1, s * b))]).astype(np.float32).ravel())
        shares_file.append(shares.astype(np.float32).ravel())
        squares[slots(start[some], sizes[some], weights)[0].ravel()] = norm
        means[some] = m - frame.centre
        lengths[some] = np.stack(
            [np.sqrt(norm.reshape(s, b).max(axis=0)), np.linalg.norm(m - frame.centre, axis=1), np.linalg.norm(m, axis=1)], axis=1
        )
        outside, whole = outside + float(shares.ravel() @ z[:, -1] ** 2), whole + float(shares.ravel() @ norm)
    small: dict[str, NDArray[Any]] = {"order": order, "squares": squares, "means": means, "lengths": lengths}
    facts = {name: write_array(folder / f"{prefix}{name}.npy", values) for name, values in small.items()}
    return facts | {"coarse": coarse.close(), "shares": shares_file.close()}, outside / whole if whole else 0.0


def read_segment(folder: Path, prefix: str, files: Mapping[str, Facts]) -> Segment:
    """A segment from its files. Raises TransportError (index_broken)."""
    found = {name: read_array(folder / f"{prefix}{name}.npy", files[name], dtype) for name, dtype in FILES.items()}
    n, m = len(found["ids"]), len(found["points"])
    sizes = np.asarray(found["sizes"])
    if any(len(found[name]) != n for name in ("sizes", "means", "lengths", "order")) or any(
        len(found[name]) != m for name in ("weights", "squares")
    ):
        raise broken(folder / f"{prefix}points.npy", "does not fit the other files")
    if sizes.min() < 1 or sizes.sum() != m:
        raise broken(folder / f"{prefix}sizes.npy", "does not fit the points")
    for name in ("ids", "lengths", "order"):  # small, and asked for at every search
        found[name] = np.array(found[name])
    return Segment(**(found | {"sizes": sizes}), start=np.cumsum(sizes) - sizes)
