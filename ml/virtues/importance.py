"""How much the network attends to each marker (VirTues, Methods, Marker importance; spec 8).

rho[m, m', h] is the attention that the tokens of marker m' pay to those of marker m in head h of the first block across markers, summed
over positions, patch summary left out. The paper prints I_m = sum over m', h of (rho - min) / (max - min) with minimum and maximum over the
*querying* marker m', which forgets how much attention m gets in all; with both over the attended marker m, markers are ranked by it.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Reading = Literal["paper", "attended"]


def attention_sums(probabilities: NDArray[Any]) -> F64:
    """rho (C, C, heads) [attended, querying, head] of one crop. probabilities: (S, heads, C + 1, C + 1) [position, head, query, key]."""
    summed = np.asarray(probabilities[:, :, 1:, 1:], np.float64).sum(axis=0)
    return summed.transpose(2, 1, 0)


def importance(rho: F64, reading: Reading = "paper") -> F64:
    """(C,) importance of each marker; it ranges from 0 to C x heads. rho: of `attention_sums`, summed over crops.

    reading: "paper" as printed, "attended" with minimum and maximum over the attended marker. Where these are equal (a single marker)
    nothing is told apart and the share is 0.
    """
    axis = 1 if reading == "paper" else 0
    low, high = rho.min(axis=axis, keepdims=True), rho.max(axis=axis, keepdims=True)
    spread = high - low
    share = np.divide(rho - low, spread, out=np.zeros_like(rho), where=spread > 0)
    total: F64 = share.sum(axis=(1, 2))
    return total
