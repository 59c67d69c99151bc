"""A random forest as plain arrays: grown by scikit-learn, kept and read without a pickle, and answering exactly as it did when grown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.discovery.checks import Floats, Tokens, cell_tokens
from ml.discovery.errors import DiscoveryError, Progress, Stop, tell

# Cells that walk through the trees at once: few enough to stay in the cache (1.7 times the time of scikit-learn).
CELLS = 4096
ARRAYS = ("roots", "left", "right", "feature", "threshold", "share")


@dataclass(frozen=True)
class Forest:
    """classes: c names. width: columns of the tokens. The nodes of all trees in one row: roots (t,), left, right (nodes,) int32 (-1 at a
    leaf), feature int32, threshold float64, share (nodes, c) float64 of each class in a leaf."""

    classes: tuple[str, ...]
    width: int
    roots: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: Floats
    share: Floats

    def probabilities(self, tokens: ArrayLike, progress: Progress | None = None, stop: Stop | None = None) -> Floats:
        """(n, c) mean share of the leaves that a cell falls into. Raises DiscoveryError (wrong_width, as cell_tokens), Cancelled."""
        x = np.ascontiguousarray(cell_tokens(tokens))
        if x.shape[1] != self.width:
            sentence = f"Tokens of {x.shape[1]} columns cannot be read by a forest that was grown on {self.width}."
            raise DiscoveryError("wrong_width", sentence, "Embed both cohorts with one model version.", "tokens")
        # A leaf leads back to itself, so that all cells walk together until none moves.
        leaf = self.left < 0
        itself = np.arange(len(leaf))
        child = np.stack((np.where(leaf, itself, self.left), np.where(leaf, itself, self.right)), axis=1).ravel()
        feature = np.where(leaf, 0, self.feature).astype(np.intp)
        out = np.zeros((len(x), len(self.classes)))
        for start in range(0, len(x), CELLS):
            tell(progress, stop, start / len(x), "forest")
            part = x[start : start + CELLS]
            row = np.arange(len(part)) * self.width
            for root in self.roots:
                at, before = np.full(len(part), root, dtype=np.intp), None
                while before is None or not np.array_equal(at, before):
                    before = at
                    at = child.take(2 * at + (part.ravel().take(row + feature.take(at)) > self.threshold.take(at)))
                out[start : start + CELLS] += self.share.take(at, axis=0)
        return out / len(self.roots)

    def predict(self, tokens: ArrayLike, progress: Progress | None = None, stop: Stop | None = None) -> NDArray[np.str_]:
        """(n,) the most probable class; at a draw the first by name."""
        return np.asarray(self.classes)[self.probabilities(tokens, progress, stop).argmax(axis=1)]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a file keeps of the forest, beside `classes` and `width`."""
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def from_arrays(cls, classes: tuple[str, ...], width: int, arrays: Mapping[str, NDArray[Any]]) -> Forest:
        """The forest of which `arrays` are the parts. Raises DiscoveryError: forest_damaged."""
        forest = cls(classes, width, *(np.asarray(arrays[name]) for name in ARRAYS)) if set(ARRAYS) <= set(arrays) else None
        if forest is None or not forest._whole():
            raise DiscoveryError("forest_damaged", "The arrays do not make a forest.", "Train it again.", "forest")
        return forest

    def _whole(self) -> bool:
        """Do the nodes name columns and nodes that exist, a child behind its parent (so that no walk goes round in a circle)?"""
        n = len(self.left)
        if not n or not len(self.roots) or any(len(a) != n for a in (self.right, self.feature, self.threshold)):
            return False
        inner = np.flatnonzero(self.left >= 0)
        children = np.concatenate((self.left[inner], self.right[inner]))
        columns = self.feature[inner]
        return bool(
            self.share.shape == (n, len(self.classes))
            and ((self.roots >= 0) & (self.roots < n)).all()
            and ((columns >= 0) & (columns < self.width)).all()
            and ((children > np.tile(inner, 2)) & (children < n)).all()
        )


def grow(tokens: Tokens, labels: NDArray[np.str_], trees: int, depth: int, seed: int) -> Forest:
    """A forest of gini trees on bootstrap samples, sqrt(width) columns tried at a split. tokens: (n, d); labels: (n,)."""
    from sklearn.ensemble import RandomForestClassifier

    grown = RandomForestClassifier(n_estimators=trees, criterion="gini", max_depth=depth, bootstrap=True, random_state=seed)
    grown.fit(tokens, labels)
    parts = [e.tree_ for e in grown.estimators_]
    starts = np.concatenate(([0], np.cumsum([t.node_count for t in parts])))[:-1].astype(np.int32)
    left, right = (
        np.concatenate([np.where(side >= 0, side + s, -1) for side, s in zip(sides, starts)]).astype(np.int32)
        for sides in ([t.children_left for t in parts], [t.children_right for t in parts])
    )
    share = np.concatenate([t.value[:, 0, :] / t.value[:, 0, :].sum(axis=1, keepdims=True) for t in parts])
    feature = np.concatenate([t.feature for t in parts]).astype(np.int32)
    threshold = np.concatenate([t.threshold for t in parts]).astype(np.float64)
    return Forest(tuple(str(c) for c in grown.classes_), tokens.shape[1], starts, left, right, feature, threshold, share)


def balanced_rows(labels: NDArray[np.str_], rows: NDArray[np.intp], seed: int) -> NDArray[np.intp]:
    """Of `rows`, as many of each class as the smallest class has, drawn without replacement, ascending."""
    rng = np.random.default_rng(seed)
    names, codes = np.unique(labels[rows], return_inverse=True)
    least = int(np.bincount(codes).min())
    drawn = [rng.choice(rows[codes == c], least, replace=False) for c in range(len(names))]
    return np.sort(np.concatenate(drawn))
