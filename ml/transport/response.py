"""How far treatment moved a patient's cells: entropic W2 between two time points, barycentres per cohort, arrows in a plane.

VirTues, Methods (treatment response strength): entropic 2-Wasserstein between the cell-token sets of one patient at two time points
(epsilon 1e-3); a free-support barycentre of 500 points per cohort and time point; arrows between medians in an embedding of a tenth of
the cells. A set is drawn down to `max_cells`, as a dense plan is quadratic. Two draws of the very same cells are apart, too, the more so
in many dimensions: `floor` says how far, and a strength means something only above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.transport.errors import TransportError
from ml.transport.sinkhorn import EPSILON, sinkhorn
from ml.transport.wasserstein import Array, _pot, squared_distances

MAX_CELLS = 1000
POINTS = 500
EMBEDDED_SHARE = 0.1


@dataclass(frozen=True)
class ResponseStrength:
    """distance: sqrt of the transport cost of the entropic plan, in the unit of the tokens. objective: cost + epsilon sum P log P.

    used: cells that were drawn per time point (before, after), of found. floor: distance between two random halves of the used cells of one
    time point, mean over both (halves are fewer cells, so it is rather too high); None where a time point has fewer than 4 cells.
    """

    distance: float
    objective: float
    floor: float | None
    used: tuple[int, int]
    found: tuple[int, int]
    epsilon: float


def response_strength(
    before: ArrayLike, after: ArrayLike, *, epsilon: float = EPSILON, max_cells: int = MAX_CELLS, seed: int = 0
) -> ResponseStrength:
    """Between the cell tokens of one patient at two time points, (n, d) and (m, d), each cell weighing the same.

    Raises TransportError: empty, shape, not_finite, dimension, max_cells, and those of `sinkhorn`.
    """
    if max_cells < 2:
        raise TransportError("max_cells", f"At most {max_cells} cells cannot stand for a sample.", "Allow 2 or more.")
    x, y = _tokens(before, "time point before"), _tokens(after, "time point after")
    if x.shape[1] != y.shape[1]:
        sentence = f"The cells have {x.shape[1]} and {y.shape[1]} dimensions."
        raise TransportError("dimension", sentence, "Compare tokens of one model version.", "time point after")
    rng = np.random.default_rng(seed)
    one, other = _drawn(x, max_cells, rng), _drawn(y, max_cells, rng)
    cost, objective = _between(one, other, epsilon)
    floors = []
    for cells in (one, other):
        if len(cells) >= 4:
            half = rng.permutation(len(cells))
            floors.append(_between(cells[half[: len(half) // 2]], cells[half[len(half) // 2 :]], epsilon)[0])
    floor = float(np.mean(np.sqrt(floors))) if len(floors) == 2 else None
    return ResponseStrength(float(np.sqrt(cost)), objective, floor, (len(one), len(other)), (len(x), len(y)), epsilon)


def _tokens(cells: ArrayLike, where: str) -> Array:
    x = np.asarray(cells, dtype=np.float64)
    if x.ndim != 2:
        raise TransportError("shape", f"The cells of the {where} have shape {x.shape}.", "Give tokens (n, d).", where)
    if not x.size:
        raise TransportError("empty", f"There are no cells at the {where}.", "A time point without cells cannot be compared.", where)
    if not np.isfinite(x).all():
        raise TransportError("not_finite", f"Some tokens of the {where} are not finite numbers.", "Leave those cells out.", where)
    return x


def _drawn(cells: Array, most: int, rng: np.random.Generator) -> Array:
    return cells if len(cells) <= most else cells[np.sort(rng.choice(len(cells), most, replace=False))]


def _between(x: Array, y: Array, epsilon: float) -> tuple[float, float]:
    plan = sinkhorn(np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y)), squared_distances(x, y), epsilon)
    return max(plan.cost, 0.0), plan.objective


def barycentre(sets: Sequence[ArrayLike], points: int = POINTS, *, max_cells: int = MAX_CELLS, rounds: int = 50, seed: int = 0) -> Array:
    """(points, d) equal points with the least mean squared 2-Wasserstein distance to a cohort's cell sets at one time point.

    Every set counts the same, however many cells it has. A local optimum (POT's free-support iteration) from a seeded draw of all cells, at
    most `rounds` rounds. Raises TransportError: empty, shape, not_finite, dimension.
    """
    if not sets:
        raise TransportError("empty", "There are no cell sets to average.", "Give at least one.")
    cells = [_tokens(one, f"set {place}") for place, one in enumerate(sets)]
    if len({one.shape[1] for one in cells}) > 1:
        raise TransportError("dimension", "The cell sets have different numbers of dimensions.", "Average tokens of one model version.")
    rng = np.random.default_rng(seed)
    cells = [_drawn(one, max_cells, rng) for one in cells]
    pool = np.concatenate([_drawn(one, -(-points // len(cells)), rng) for one in cells])
    start = pool[rng.choice(len(pool), points, replace=len(pool) < points)]
    spread = float(pool.var(axis=0).sum())
    # places that coincide would never part: the plans of equal points are equal
    start = start + rng.normal(size=start.shape) * np.sqrt(spread / start.shape[1]) * 1e-3
    weights = [np.full(len(one), 1 / len(one)) for one in cells]
    found: Array = _pot().lp.free_support_barycenter(cells, weights, start, numItermax=rounds, stopThr=1e-6 * max(spread, 1e-30) * points)
    return found


@dataclass(frozen=True)
class Plane:
    """A 2-D embedding. method: "pca" or "umap". place: (n, d) -> (n, 2). explained: share of the variance in the plane (PCA), else None."""

    method: str
    place: Callable[[Array], Array]
    explained: float | None


def plane(
    cells: ArrayLike, method: Literal["pca", "umap"] = "pca", *, share: float = EMBEDDED_SHARE, least: int = 1000, seed: int = 0
) -> Plane:
    """An embedding fitted on a seeded share of the cells (n, d), on `least` of them at least (all, where there are fewer).

    UMAP only where umap-learn is installed. Raises TransportError: method, method_missing, empty, shape, not_finite, too_few_cells.
    """
    x = _tokens(cells, "embedding")
    fitted = _drawn(x, max(round(share * len(x)), least), np.random.default_rng(seed))
    if len(fitted) < 3:
        raise TransportError("too_few_cells", f"{len(fitted)} cells span no plane.", "Give at least 3.")
    if method == "pca":
        centre = fitted.mean(axis=0)
        _, values, axes = np.linalg.svd(fitted - centre, full_matrices=False)
        two = np.zeros((2, x.shape[1]))
        two[: min(2, len(axes))] = axes[:2]
        two *= np.where(two[np.arange(2), np.abs(two).argmax(axis=1)] < 0, -1, 1)[:, None]  # signs are free: fix them
        total = float((values**2).sum())
        return Plane("pca", lambda points: (points - centre) @ two.T, float((values[:2] ** 2).sum()) / total if total else 0.0)
    if method != "umap":
        raise TransportError("method", f"There is no embedding named {method!r}.", "Use pca or umap.")
    try:
        from umap import UMAP
    except ImportError:
        raise TransportError("method_missing", "UMAP is not installed here.", "Install umap-learn, or use pca.") from None
    model = UMAP(n_components=2, random_state=seed).fit(fitted)
    return Plane("umap", lambda points: np.asarray(model.transform(points), dtype=np.float64), None)


@dataclass(frozen=True)
class Arrow:
    """From the median of one barycentre in the plane to that of another, (2,) each. length: of the arrow, in the plane's unit."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]

    @property
    def length(self) -> float:
        """Euclidean length in the plane."""
        return float(np.linalg.norm(self.end - self.start))


def arrows(on: Plane, before: Mapping[str, ArrayLike], after: Mapping[str, ArrayLike]) -> dict[str, Arrow]:
    """An arrow per cohort (the keys that both have): coordinate-wise medians of its barycentres (k, d) before and after, in the plane."""

    def median(points: ArrayLike) -> Array:
        middle: Array = np.median(on.place(np.asarray(points, dtype=np.float64)), axis=0)
        return middle

    return {name: Arrow(median(before[name]), median(after[name])) for name in before if name in after}
