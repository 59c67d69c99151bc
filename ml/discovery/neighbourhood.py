"""What surrounds the cells of a cluster: proportions z-test of each cell type inside against outside its neighbourhood.

Source: VirTues, Methods, Biomarker discovery; the paper does not say what the neighbourhood is (here: a radius around the members, which
are not counted themselves). The test takes cells as independent, which cells of one tissue are not: its p is too small, and is shown
corrected for the number of types, with the number of tissues beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.discovery.checks import Labels, per_cell
from ml.discovery.config import NeighbourhoodConfig
from ml.discovery.errors import DiscoveryError

DEPENDENT = "Cells of one tissue are not independent, so p is too small; read the shares, and p as a ranking."


@dataclass(frozen=True)
class TypeShare:
    """inside, outside: (cells of the type, all cells). z: above 0 where the type is commoner inside; NaN where all or none are of the type.
    p: two-sided; p_bh: Benjamini-Hochberg over the types."""

    name: str
    inside: tuple[int, int]
    outside: tuple[int, int]
    z: float
    p: float
    p_bh: float


@dataclass(frozen=True)
class Neighbourhood:
    """near: (n,) bool, the cells of the neighbourhood. types: one row each, by name. tissues: how many hold a member."""

    near: NDArray[np.bool_]
    types: tuple[TypeShare, ...]
    tissues: int
    note: str = DEPENDENT


def neighbourhood(
    positions: ArrayLike, tissues: Labels, types: Labels, members: NDArray[np.bool_], config: NeighbourhoodConfig
) -> Neighbourhood:
    """positions: (n, 2) um; tissues, types: n each; members: (n,) bool. Outside is every other cell of tissues that hold a member.

    Raises DiscoveryError: wrong_shape, empty, not_finite, wrong_length, no_member, no_neighbour.
    """
    xy = np.asarray(positions, dtype=np.float64)
    if xy.ndim != 2 or xy.shape[1] != 2 or members.shape != (len(xy),):
        raise DiscoveryError(
            "wrong_shape", f"Positions are {xy.shape} and members {members.shape}, not (n, 2) and (n,).", where="positions"
        )
    if not len(xy):
        raise DiscoveryError("empty", "There are no cells.", "Choose tissues that have cells.", "positions")
    if not np.isfinite(xy).all():
        raise DiscoveryError("not_finite", "A position is not finite.", "Leave that cell out and say so.", "positions")
    where, names = per_cell(tissues, len(xy), "tissues"), per_cell(types, len(xy), "types")
    if not members.any():
        raise DiscoveryError("no_member", "No cell belongs to the cluster.", "Choose another cluster.", "members")
    holding = np.unique(where[members])
    near = _near(xy, where, members, holding, config.radius_um)
    inside, outside = near, np.isin(where, holding) & ~near & ~members
    if not inside.any() or not outside.any():
        sentence = f"Within {config.radius_um:g} um of the members there is " + ("every other cell." if inside.any() else "no other cell.")
        raise DiscoveryError("no_neighbour", sentence, "Choose another radius.", "radius_um")
    return Neighbourhood(near, _tests(names, inside, outside), len(holding))


def _near(
    xy: NDArray[np.float64], where: NDArray[np.str_], members: NDArray[np.bool_], holding: NDArray[np.str_], radius: float
) -> NDArray[np.bool_]:
    from scipy.spatial import cKDTree

    near = np.zeros(len(xy), dtype=np.bool_)
    for tissue in holding:
        here = where == tissue
        others = np.flatnonzero(here & ~members)
        distance, _ = cKDTree(xy[here & members]).query(xy[others])
        near[others] = distance <= radius
    return near


def _tests(names: NDArray[np.str_], inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> tuple[TypeShare, ...]:
    """z = (a/n1 - b/n0) / sqrt(q (1 - q) (1/n1 + 1/n0)) with q the pooled share."""
    from scipy.special import ndtr

    from ml.survival.logrank import adjust

    kinds = np.unique(names[inside | outside])
    n1, n0 = int(inside.sum()), int(outside.sum())
    a, b = (np.array([(names[rows] == kind).sum() for kind in kinds]) for rows in (inside, outside))
    pooled = (a + b) / (n1 + n0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (a / n1 - b / n0) / np.sqrt(pooled * (1 - pooled) * (1 / n1 + 1 / n0))
    p = 2 * ndtr(-np.abs(z))
    rows = zip(kinds.tolist(), a.tolist(), b.tolist(), z.tolist(), p.tolist(), adjust(p, "bh").tolist())
    return tuple(TypeShare(k, (i, n1), (o, n0), zz, pp, q) for k, i, o, zz, pp, q in rows)
