"""Which tokens attend to which: visible tokens are packed one after the other, and equal sequences are stacked.

Everything but attention works on the packed tokens, so nothing is computed for what is masked or for what another sample's panel lacks.
Attention takes the sequences in buckets of (nearly) one length: without a mask no key is padding, with one only a few are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Bucket:
    """Sequences of one length. index: (n, length) int64, rows of the packed tokens; a padded place repeats the first of its sequence.

    keys: (n, length) bool, True where a token is real, or None where all are.
    """

    index: Tensor
    keys: Tensor | None


@dataclass(frozen=True)
class Sequences:
    """One way of attending. inverse: (n_packed,) place of each packed token among the real places of all buckets, bucket after bucket."""

    buckets: tuple[Bucket, ...]
    inverse: Tensor

    def to(self, device: torch.device) -> Sequences:
        moved = tuple(Bucket(b.index.to(device), None if b.keys is None else b.keys.to(device)) for b in self.buckets)
        return Sequences(moved, self.inverse.to(device))


@dataclass(frozen=True)
class TokenPlan:
    """The tokens of a batch. All of them in order: sample, then channel (0 = patch summary), then position of the grid, row by row.

    visible: (n,) int64, which of all tokens are packed. rows, cols: (n,) grid position of each. spatial: sequences within a channel;
    marker: sequences across the channels of a position. n_all: number of all tokens. starts: first token of each sample, and n_all.
    """

    visible: Tensor
    rows: Tensor
    cols: Tensor
    spatial: Sequences
    marker: Sequences
    n_all: int
    starts: tuple[int, ...]
    grid: tuple[int, int]

    def to(self, device: torch.device) -> TokenPlan:
        """The same plan with its indices on a device."""
        return TokenPlan(
            self.visible.to(device),
            self.rows.to(device),
            self.cols.to(device),
            self.spatial.to(device),
            self.marker.to(device),
            self.n_all,
            self.starts,
            self.grid,
        )


def rounded(length: Index) -> Index:
    """Lengths that share a bucket: at most an eighth of it is padding (none up to 8)."""
    step = np.maximum(1, 2 ** np.maximum(0, np.floor(np.log2(np.maximum(length, 1))).astype(np.int64) - 3))
    result: Index = -(-length // step) * step
    return result


def sequences(key: Index, padded: bool) -> Sequences:
    """Tokens of equal key form a sequence. key: (n,) int64 of the packed tokens. padded: sequences of nearly one length share one."""
    order = np.argsort(key, kind="stable")
    _, start, length = np.unique(key[order], return_index=True, return_counts=True)
    bucket_of = rounded(length) if padded else length
    buckets, places = [], []
    for size in np.unique(bucket_of):
        mine = np.flatnonzero(bucket_of == size)
        offset = np.arange(size)
        real = offset[None, :] < length[mine][:, None]
        index = order[start[mine][:, None] + np.where(real, offset[None, :], 0)]
        places.append(index[real])
        buckets.append(Bucket(torch.from_numpy(index), None if real.all() else torch.from_numpy(real)))
    inverse = np.empty(len(key), np.int64)
    inverse[np.concatenate(places)] = np.arange(len(key))
    return Sequences(tuple(buckets), torch.from_numpy(inverse))


def plan_tokens(channels: Sequence[int], grid: tuple[int, int], masks: Sequence[Tensor] | None = None) -> TokenPlan:
    """The plan of a batch. channels: C of each sample. grid: (H, W) patches, the same for all. masks: (C, H, W) bool, True = masked."""
    size = grid[0] * grid[1]
    sample = np.repeat(np.arange(len(channels)), [(c + 1) * size for c in channels])
    channel = np.concatenate([np.repeat(np.arange(c + 1), size) for c in channels])
    position = np.tile(np.arange(size), sum(channels) + len(channels))
    starts = (0, *np.cumsum([(c + 1) * size for c in channels]).tolist())
    seen = np.ones(len(sample), bool)
    if masks is not None:
        for mask, (start, stop) in zip(masks, pairwise(starts)):
            seen[start + size : stop] = ~mask.cpu().numpy().reshape(-1)
    visible = np.flatnonzero(seen)
    sample, channel, position = sample[visible], channel[visible], position[visible]
    width = max(channels) + 1
    return TokenPlan(
        torch.from_numpy(visible),
        torch.from_numpy(position // grid[1]),
        torch.from_numpy(position % grid[1]),
        sequences(sample * width + channel, padded=masks is not None),
        sequences(sample * size + position, padded=masks is not None),
        len(seen),
        starts,
        grid,
    )
