"""Cell types carried from one cohort to another (VirTues, Methods, Cross-cohort transfer): tokens of the markers that both panels have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ml.discovery.checks import Labels, cell_tokens, patient_codes, per_cell
from ml.discovery.config import TransferConfig
from ml.discovery.errors import DiscoveryError, Stop
from ml.discovery.forest import Forest, balanced_rows, grow
from ml.discovery.scores import F1Scores, f1_scores


@dataclass(frozen=True)
class CommonMarkers:
    """common: markers of both panels, in the order of the first; only_source, only_target: markers that must be left out of the tokens."""

    common: tuple[str, ...]
    only_source: tuple[str, ...]
    only_target: tuple[str, ...]


@dataclass(frozen=True)
class Transfer:
    """forest: grown on the source cohort, `cells_per_class` cells of each class. scores: on the target's cells of classes that the source
    has. missing: the target's other classes with their numbers of cells, which were not counted."""

    forest: Forest
    cells_per_class: int
    scores: F1Scores
    missing: dict[str, int]


def common_markers(source: Sequence[str], target: Sequence[str]) -> CommonMarkers:
    """Markers (UniProt ids) of two panels; a marker measured twice counts once. Raises DiscoveryError: no_common_marker."""
    first, second = dict.fromkeys(source), dict.fromkeys(target)
    common = tuple(m for m in first if m in second)
    if not common:
        raise DiscoveryError("no_common_marker", "The two panels have no marker in common.", "Are both named by UniProt ids?", "markers")
    return CommonMarkers(common, tuple(m for m in first if m not in second), tuple(m for m in second if m not in first))


def grow_typer(tokens: ArrayLike, labels: Labels, config: TransferConfig) -> tuple[Forest, int]:
    """(forest on the source cohort, classes balanced by down-sampling; cells drawn of each class).

    tokens: (n, d) float32, computed on the common markers only; labels: n. Raises DiscoveryError: those of cell_tokens, wrong_length,
    single_class.
    """
    x = cell_tokens(tokens)
    names = per_cell(labels, len(x), "labels")
    classes = np.unique(names)
    if len(classes) < 2:
        raise DiscoveryError("single_class", "All cells of the source cohort are of one type.", "Label more types.", "labels")
    rows = balanced_rows(names, np.arange(len(x)), config.seed)
    return grow(x[rows], names[rows], config.trees, config.depth, config.seed), len(rows) // len(classes)


def transfer(
    source: tuple[ArrayLike, Labels], target: tuple[ArrayLike, Labels, Labels], config: TransferConfig, stop: Stop | None = None
) -> Transfer:
    """source: tokens (n, d) and labels; target: tokens (m, d), labels, patients. Both on the common markers, by one model version.

    Raises DiscoveryError (those of cell_tokens, wrong_length, wrong_width, single_class, no_common_class), Cancelled.
    """
    forest, drawn = grow_typer(*source, config)
    x = cell_tokens(target[0], "target tokens")
    names = per_cell(target[1], len(x), "labels")
    ids, codes = patient_codes(target[2], len(x))
    known = np.isin(names, forest.classes)
    if not known.any():
        raise DiscoveryError("no_common_class", "The two cohorts have no cell type in common.", "Are both labelled alike?", "labels")
    other, cells = np.unique(names[~known], return_counts=True)
    scores = f1_scores(names[known], forest.predict(x[known], None, stop), np.asarray(ids)[codes][known], config.bootstrap, config.seed)
    return Transfer(forest, drawn, scores, dict(zip(other.tolist(), cells.tolist())))
