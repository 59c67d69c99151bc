"""How well expression is predicted within a section: Pearson r per gene over its spots, with whole blocks of spots redrawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

F64 = NDArray[np.float64]
GOOD_R = 0.3
NEIGHBOURS = 6


def section_figures(values: NDArray[Any], truth: NDArray[Any], blocks: NDArray[np.int64], draws: int, seed: int) -> dict[str, Any]:
    """Plain figures of one section: median over genes of r, share of genes with r > 0.3, the same per draw, and r of each gene.

    values, truth: (n, G). A gene that does not vary in the section is left out (None); a constant prediction has r = 0. The draws depend on
    seed and blocks alone, so those of two predictions are paired.
    """
    r, drawn = gene_r(values, truth, np.ones((1, len(truth))))[0], _drawn_r(values, truth, blocks, draws, seed)
    known = np.isfinite(r)
    return {
        "median_r": float(np.median(r[known])),
        "share_good": float((r[known] > GOOD_R).mean()),
        "genes": int(known.sum()),
        "spots": len(truth),
        "r": [None if not np.isfinite(v) else round(float(v), 4) for v in r],
        "draws_median_r": np.round(np.nanmedian(drawn, axis=1), 5).tolist(),
        "draws_share_good": np.round(np.nanmean(np.where(np.isfinite(drawn), drawn > GOOD_R, np.nan), axis=1), 5).tolist(),
    }


def gene_r(values: NDArray[Any], truth: NDArray[Any], weight: NDArray[Any]) -> F64:
    """(draws, G) Pearson r with spots weighted, weight: (draws, n). NaN where the truth does not vary, 0 where the prediction does not."""
    x, y = np.asarray(values, np.float64), np.asarray(truth, np.float64)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    n = weight.sum(axis=1, keepdims=True)
    mx, my, mxx, myy, mxy = (weight @ v / n for v in (x, y, x * x, y * y, x * y))
    vx, vy = mxx - mx**2, myy - my**2
    flat = vx <= 1e-10 * np.maximum((x * x).mean(axis=0), 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(flat, 0.0, (mxy - mx * my) / np.sqrt(vx * vy))
    varies = (vy > 1e-9) & np.ones_like(vx, bool)
    return np.where(varies, np.clip(r, -1, 1), np.nan)


def _drawn_r(values: NDArray[Any], truth: NDArray[Any], blocks: NDArray[np.int64], draws: int, seed: int) -> F64:
    _, code = np.unique(blocks, return_inverse=True)
    count = int(code.max()) + 1
    weight = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)[:, code]
    return gene_r(values, truth, weight.astype(float))


def from_other_blocks(grid: F64, truth: NDArray[Any], blocks: NDArray[np.int64]) -> F64:
    """(n, G) mean measured expression of the six nearest spots that lie in other blocks: what smoothness in space alone can tell.

    It reads the section that it predicts, so it cannot be carried to another section and is no competitor of a prediction from H&E.
    """
    out = np.empty(truth.shape)
    for block in np.unique(blocks):
        mine = blocks == block
        nearest = cKDTree(grid[~mine]).query(grid[mine], k=min(NEIGHBOURS, int((~mine).sum())))[1].reshape(int(mine.sum()), -1)
        out[mine] = truth[~mine][nearest].mean(axis=1)
    return out
