"""Rotary position embedding on a two-dimensional grid (VirTues; RoFormer's rotation, once for the row and once for the column)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BASE = 10_000.0


def rotary_tables(head_dim: int, length: int) -> tuple[Tensor, Tensor]:
    """(cos, sin), each (length, head_dim / 2) float32, of the integer positions 0..length-1 along one axis.

    theta_i = 10000^(-2i / (head_dim / 2)), i < head_dim / 4; each frequency stands twice in a row, as in a table that rotates two halves.
    head_dim must be divisible by four (ValueError).
    """
    if head_dim % 4:
        raise ValueError(f"A head of {head_dim} dimensions cannot be rotated along two axes: it must be divisible by four.")
    half = head_dim // 2
    # By the exponential, as in the released tables: a power differs from it in the last digit, and position 1199 shows that.
    theta = torch.exp(torch.arange(0, half, 2, dtype=torch.float32) * (-math.log(BASE) / half))
    angle = torch.arange(length, dtype=torch.float32)[:, None] * theta
    angle = torch.cat([angle, angle], dim=1)
    return angle.cos(), angle.sin()


def grid_tables(cos: Tensor, sin: Tensor, rows: Tensor, cols: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin), each (n, head_dim) of n grid positions: the first half of a head turns with the row, the second with the column.

    cos, sin: (length, head_dim / 2) of `rotary_tables`. rows, cols: (n,) int64 below length.
    """
    return torch.cat([cos[rows], cos[cols]], dim=-1), torch.cat([sin[rows], sin[cols]], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x turned by the angles of its grid positions. x: (..., head_dim); cos, sin: (..., head_dim), broadcast against it.

    Per axis [u, w] becomes [u cos - w sin, w cos + u sin], u and w the two quarters of the axis (not interleaved pairs).
    """
    quarters = x.unflatten(-1, (2, 2, x.shape[-1] // 4))
    turned = torch.stack([-quarters[..., 1, :], quarters[..., 0, :]], dim=-2).flatten(-3)
    return x * cos + turned * sin
