"""Discovery of biomarkers where there is nothing to discover: outcomes are shuffled, and what the recipe says of them is kept.

An estimate that can be believed is 1/2 there on average, and a p that can be believed is uniform. The estimate that the paper prints
chooses and measures on the same patients; it stands beside them. Once the outcomes are the true ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.discovery.config import BiomarkerConfig, GraphConfig, LeidenConfig
from ml.simulate.multiplex_cohort import MultiplexPatient
from ml.studies.virtues_worlds_fields import CONTEXT_PX, Embed


@dataclass(frozen=True)
class Discovery:
    """How much is shuffled. cells: drawn per patient (one field each). step: between the resolutions 4 and 5 (paper: 0.05). The repeats are
    fewer than the paper's, too: 10 splits of the screen, 25 of the joint model. permutations: behind the p of each shuffling."""

    patients: int = 80
    cells: int = 120
    step: float = 0.25
    screen_repeats: int = 2
    joint_repeats: int = 4
    outer_repeats: int = 1
    folds: int = 4
    shuffles: int = 40
    permutations: int = 19
    true_permutations: int = 199

    def recipe(self, seed: int, permutations: int) -> BiomarkerConfig:
        """Of one run."""
        return BiomarkerConfig(
            folds=self.folds,
            outer_folds=self.folds,
            screen_repeats=self.screen_repeats,
            joint_repeats=self.joint_repeats,
            outer_repeats=self.outer_repeats,
            permutations=permutations,
            seed=seed,
        )


def shuffled(people: Sequence[MultiplexPatient], embed: Embed, size: Discovery, seed: int) -> dict[str, Any]:
    """The recipe on the true responses, and on each of so many shufflings. Clusters are found once: outcomes play no part in them."""
    from ml.discovery.fingerprints import shares
    from ml.discovery.leiden import cluster_cells

    tokens, owner = tokens_of(people, embed, size.cells, seed)
    clusters = cluster_cells(tokens, GraphConfig(), LeidenConfig(step=size.step))
    patients, proportions = shares(clusters, owner, len(owner))
    by_code = {p.code: p for p in people}
    response = np.array([by_code[code].responder for code in patients])
    odds = np.array([by_code[code].log_odds for code in patients])
    nulls = []
    for i in range(size.shuffles):
        y = np.random.default_rng([seed, 77, i]).permutation(response)
        nulls.append(one(proportions, y, patients, size.recipe(i + 1, size.permutations)))
    return {
        "patients": len(patients),
        "responders": int(response.sum()),
        "cells": len(owner),
        "clusters": len(clusters),
        "context": CONTEXT_PX,
        "true": one(proportions, response, patients, size.recipe(0, size.true_permutations)),
        "ceiling": auroc(odds, response),
        "nulls": nulls,
    }


def one(proportions: NDArray[np.float64], response: NDArray[np.bool_], patients: Sequence[str], config: BiomarkerConfig) -> dict[str, Any]:
    """nested, printed and p of one run; a run in which no cluster points anywhere tells nothing apart: 1/2 and p = 1."""
    from ml.discovery.biomarkers import discover
    from ml.discovery.errors import DiscoveryError

    try:
        found = discover(proportions, response, patients, config)
    except DiscoveryError as refused:
        if refused.code != "no_cluster_left":
            raise
        return {"nested": 0.5, "printed": 0.5, "p": 1.0}
    return {"nested": round(found.nested.auroc, 5), "printed": round(found.printed, 5), "p": found.p}


def tokens_of(people: Sequence[MultiplexPatient], embed: Embed, most: int, seed: int) -> tuple[NDArray[np.float32], list[str]]:
    """(n, d) standardised tokens of up to so many cells of each patient's first field, and whose each is. Images are not kept."""
    rows, owner = [], []
    for p in people:
        cells = embed(p.multiplex(0), True).cells
        chosen = np.random.default_rng([seed, 78, p.assigned.index]).permutation(len(cells))[:most]
        rows.append(cells[np.sort(chosen)])
        owner += [p.code] * len(chosen)
    x = np.concatenate(rows)
    return ((x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)).astype(np.float32), owner


def auroc(score: NDArray[np.float64], response: NDArray[np.bool_]) -> float:
    """Share of the pairs of a responder and another in which she has the higher score, ties one half."""
    gap = score[response][:, None] - score[~response][None, :]
    return float(((gap > 0) + (gap == 0) / 2).mean())


def uniform_p(p: NDArray[np.float64], permutations: int, seed: int = 0) -> tuple[float, float]:
    """(Kolmogorov-Smirnov distance from the uniform law, its p). A p is one of 1/(n+1) .. 1; each is spread over its step at random."""
    from scipy.stats import kstest

    spread = p - np.random.default_rng(seed).random(len(p)) / (permutations + 1)
    found = kstest(spread, "uniform")
    return float(found.statistic), float(found.pvalue)
