"""Whole discoveries from cell tokens to their figures, kept step by step in a folder: one that was stopped goes on where it was.

What is kept belongs to its input: each step's file carries a key of the tokens, patients and settings that made it, and is made again
where the key is another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

from ml.discovery.biomarkers import Biomarkers, Null, discover, least_of_a_class
from ml.discovery.checks import Floats, Labels, Tokens, cell_tokens, of_patients, per_cell, two_classes
from ml.discovery.config import BiomarkerConfig, BiomarkerRunConfig, GraphConfig, LeidenConfig, RiskGroupConfig
from ml.discovery.errors import DiscoveryError, Progress, Stop
from ml.discovery.fingerprints import shares
from ml.discovery.graph import CellGraph, neighbour_graph
from ml.discovery.leiden import Cluster, leiden, small_clusters
from ml.discovery.risk_groups import PatientGroups, RiskGroups, patient_groups, risk_groups
from ml.types import Outcomes

GRAPH, CLUSTERS, NULL, GROUPS = "graph.npz", "clusters.npz", "null.json", "groups.npz"


@dataclass(frozen=True)
class BiomarkerRun:
    """patients: p with cells and a response. response (p,). shares (p, m) of the m clusters. rows: (n,) which of the cells took part;
    the clusters count within them. left_out: patients with cells and no response."""

    patients: tuple[str, ...]
    response: NDArray[np.bool_]
    clusters: tuple[Cluster, ...]
    shares: Floats
    rows: NDArray[np.bool_]
    left_out: tuple[str, ...]
    found: Biomarkers


@dataclass(frozen=True)
class RiskRun:
    """groups: of all patients with cells; found: on those with an outcome."""

    groups: PatientGroups
    found: RiskGroups
    outcomes: Outcomes


def responders(response: Mapping[str, bool], patients: Labels, config: BiomarkerConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(patients with cells and a response, patients with cells and none), both in order, before anything long is begun.

    Raises DiscoveryError: no_outcome, single_class, too_few_patients.
    """
    ids = np.unique(np.asarray(patients, dtype=np.str_)).tolist()
    known, missing = tuple(p for p in ids if p in response), tuple(p for p in ids if p not in response)
    if not known:
        sentence = "No patient with cells has a response."
        raise DiscoveryError("no_outcome", sentence, "Do both tables use the same patient codes?", "response")
    two_classes(of_patients(response, known), least_of_a_class(config), f"{config.folds} x {config.outer_folds} folds")
    return known, missing


def run_biomarkers(
    tokens: ArrayLike,
    patients: Labels,
    response: Mapping[str, bool],
    config: BiomarkerRunConfig,
    folder: Path,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> BiomarkerRun:
    """Clusters of the cells of patients with a response, and their biomarkers. tokens: (n, d) float32; patients: n ids.

    Raises DiscoveryError (those of each step), Cancelled.
    """
    x = cell_tokens(tokens)
    ids = per_cell(patients, len(x), "patients")
    known, left_out = responders(response, ids, config.biomarkers)
    rows = np.isin(ids, known)
    x, ids = (x, ids) if rows.all() else (x[rows], ids[rows])
    folder.mkdir(parents=True, exist_ok=True)
    clusters = _clusters(x, config.graph, config.leiden, folder, progress, stop)
    who, share = shares(clusters, ids, len(x))
    y = of_patients(response, who)
    null = _null(folder / NULL)
    last = _part(progress, 0.5, 1.0)
    try:
        found = discover(share, y, who, config.biomarkers, null, lambda state: _keep_null(folder / NULL, state), last, stop)
    except DiscoveryError as refused:
        if refused.code != "state_of_other_input":
            raise
        found = discover(share, y, who, config.biomarkers, None, lambda state: _keep_null(folder / NULL, state), last, stop)
    return BiomarkerRun(who, y, clusters, share, rows, left_out, found)


def run_risk_groups(
    tokens: ArrayLike,
    patients: Labels,
    outcomes: Outcomes,
    config: RiskGroupConfig,
    folder: Path,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> RiskRun:
    """Groups of patients by their cells, merged to high and low risk. tokens: (n, d) float32; patients: n ids; times in days.

    Raises DiscoveryError, SurvivalDataError, SplitError (as `risk_groups`), Cancelled.
    """
    x = cell_tokens(tokens)
    ids = per_cell(patients, len(x), "patients")
    folder.mkdir(parents=True, exist_ok=True)
    settings = config.model_dump_json(include={"cell_clusters", "groups", "starts", "seed"})

    def make() -> dict[str, NDArray[Any]]:
        made = patient_groups(x, ids, config, _part(progress, 0.0, 0.6), stop)
        return {"patients": np.asarray(made.patients), "shares": made.shares, "group": made.group, "kind": made.kind}

    kept = _kept(folder / GROUPS, _key(x, "\x1f".join(ids.tolist()), settings), make)
    groups = PatientGroups(tuple(kept["patients"].tolist()), kept["shares"], kept["group"], kept["kind"])
    return RiskRun(groups, risk_groups(groups, outcomes, config, _part(progress, 0.6, 1.0), stop), outcomes)


def _clusters(
    x: Tokens, graph: GraphConfig, config: LeidenConfig, folder: Path, progress: Progress | None, stop: Stop | None
) -> tuple[Cluster, ...]:
    """As `cluster_cells`, graph and clusters each kept."""
    key = _key(x, _settings(graph, {"block"}))

    def graph_arrays() -> dict[str, NDArray[Any]]:
        made = neighbour_graph(x, graph, _part(progress, 0.0, 0.25), stop)
        return {"edges": made.edges, "weights": made.weights}

    def cluster_arrays() -> dict[str, NDArray[Any]]:
        kept = _kept(folder / GRAPH, key, graph_arrays)
        found = small_clusters(leiden(CellGraph(len(x), kept["edges"], kept["weights"]), config, _part(progress, 0.25, 0.5), stop), config)
        return {
            "resolution": np.array([c.resolution for c in found]),
            "label": np.array([c.label for c in found]),
            "cells": np.concatenate([c.cells for c in found]),
            "ends": np.cumsum([len(c) for c in found]),
        }

    kept = _kept(folder / CLUSTERS, sha256((key + _settings(config)).encode()).hexdigest(), cluster_arrays)
    parts = np.split(kept["cells"], kept["ends"][:-1])
    return tuple(Cluster(r, c, cells) for r, c, cells in zip(kept["resolution"].tolist(), kept["label"].tolist(), parts))


def _kept(file: Path, key: str, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The arrays of a step: read where they were kept under this key, else made and kept."""
    if file.exists():
        with np.load(file) as opened:
            if str(opened["key"]) == key:
                return {name: opened[name] for name in opened.files if name != "key"}
    made = make()
    half = file.with_suffix(".half.npz")
    np.savez(half, key=np.asarray(key), **made)  # type: ignore[arg-type]
    os.replace(half, file)
    return made


def _keep_null(file: Path, state: Null) -> None:
    half = file.with_suffix(".half")
    half.write_text(json.dumps({"key": state.key, "nested": state.nested, "printed": state.printed}))
    os.replace(half, file)


def _null(file: Path) -> Null | None:
    if not file.exists():
        return None
    kept = json.loads(file.read_text())
    return Null(kept["key"], tuple(kept["nested"]), tuple(kept["printed"]))


def _settings(config: BaseModel, but: set[str] | None = None) -> str:
    return config.model_dump_json(exclude=but)


def _key(x: Tokens, *texts: str) -> str:
    made = sha256(np.ascontiguousarray(x))  # type: ignore[arg-type]
    for text in (str(x.shape), *texts):
        made.update(b"\x1e" + text.encode())
    return made.hexdigest()


def _part(progress: Progress | None, start: float, end: float) -> Progress | None:
    return None if progress is None else lambda share, doing: progress(start + (end - start) * share, doing)
