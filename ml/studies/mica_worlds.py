"""MICA in the three worlds: C of what reads virtual or measured proteins or H&E alone, and of the true hazard, on the same folds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.panel import HEX_PANEL
from ml.mica.config import MicaFitConfig
from ml.simulate.bags import SimulatedBag, simulate_bags
from ml.simulate.worlds import WORLDS, World
from ml.studies.cells import Cells
from ml.survival.folds import assign_folds
from ml.types import Outcomes

Values = NDArray[Any]
# name -> (modality, which proteins its tokens are made of)
NETWORKS: dict[str, tuple[str, str]] = {
    "MICA, virtual proteins": ("both", "virtual"),
    "MICA, measured proteins": ("both", "measured"),
    "H&E alone": ("he", "virtual"),
    "virtual proteins alone": ("codex", "virtual"),
    "measured proteins alone": ("codex", "measured"),
}
# name -> whose means over the slide a ridge Cox model reads
LINEAR: dict[str, tuple[str, ...]] = {
    "ridge Cox, H&E means": ("he",),
    "ridge Cox, virtual means": ("virtual",),
    "ridge Cox, H&E and virtual means": ("he", "virtual"),
    "ridge Cox, measured means": ("measured",),
}
TRUTH = "true hazard"
PENALIZER = 0.1  # per patient, on standardised means


@dataclass(frozen=True)
class Size:
    """How much is computed: a cohort per seed. width, layers: of the networks (released: 256, 2)."""

    seeds: tuple[int, ...] = (0, 1, 2)
    patients: int = 400
    reference: int = 80
    size_px: int = 1280
    folds: int = 5
    epochs: int = 6
    width: int = 64
    layers: int = 1
    worlds: tuple[World, ...] = WORLDS
    networks: tuple[str, ...] = tuple(NETWORKS)


QUICK = Size(
    seeds=(0,),
    patients=30,
    reference=10,
    size_px=768,
    folds=2,
    epochs=1,
    width=16,
    worlds=("invisible",),
    networks=("MICA, virtual proteins",),
)


def fit_config(name: str, size: Size, seed: int) -> MicaFitConfig:
    """A small MICA; where it is not the released one, the study says so."""
    return MicaFitConfig(
        modality=NETWORKS[name][0],  # type: ignore[arg-type]
        width=size.width,
        layers=size.layers,
        ffn=2 * size.width,
        heads=4,
        epochs=size.epochs,
        lr=1e-3,
        accumulate=8,
        folds=size.folds,
        seed=seed,
        bootstrap=20,
        horizon_days=365.0,
    )


def run(cells: Cells, size: Size) -> None:
    """Computes what is missing of the table's cells: outcomes and cards, then networks and ridge models."""
    cohort = {"patients": size.patients, "reference": size.reference, "size_px": size.size_px, "folds": size.folds}
    for seed in size.seeds:
        for world in size.worlds:
            key = {"task": "mica", "world": world, "seed": seed}
            cells.get({**key, "variant": "cohort"}, cohort, partial(_cohort, size, world, seed))
            cells.get({**key, "variant": "linear"}, {**cohort, "penalizer": PENALIZER}, partial(_linear, size, world, seed))
            for name in size.networks:
                config = fit_config(name, size, seed)
                settings = {**cohort, "config": config.model_dump(mode="json")}
                cells.get({**key, "variant": name}, settings, partial(_network, size, world, seed, name, config))


@lru_cache(maxsize=1)
def bags(size: Size, world: World, seed: int) -> tuple[list[SimulatedBag], Outcomes, dict[str, int]]:
    """Patients, their outcomes, and the fold that holds each out: the same in every variant."""
    people = simulate_bags(size.patients, world, seed, size.reference, size.size_px)
    names = tuple(b.patient for b in people)
    outcomes = Outcomes(names, np.array([b.time for b in people]), np.array([b.event for b in people]), "OS")
    return people, outcomes, dict(zip(names, assign_folds(names, outcomes.event, size.folds, seed).tolist()))


def _cohort(size: Size, world: World, seed: int) -> dict[str, Any]:
    """Outcomes, folds, the true hazard, and the predictability card of the virtual proteins on these patients."""
    from ml.hex.evaluate import evaluate, predictability_card

    people, outcomes, folds = bags(size, world, seed)
    slides = [b.patient for b in people for _ in range(len(b.he))]
    virtual, measured = (np.concatenate([getattr(b, name) for b in people]) for name in ("virtual", "measured"))
    figures = evaluate(virtual, measured, slides, slides, HEX_PANEL, draws=20)
    return {
        "patients": list(outcomes.patients),
        "time": outcomes.time.tolist(),
        "event": outcomes.event.tolist(),
        "fold": [folds[p] for p in outcomes.patients],
        "hazard": [round(b.log_hazard, 5) for b in people],
        "tiles": [len(b.he) for b in people],
        "r_within": [round(f.r_within, 4) for f in figures],
        "locked": [row.marker for row in predictability_card(figures) if row.locked],
    }


def _network(size: Size, world: World, seed: int, name: str, config: MicaFitConfig) -> dict[str, Any]:
    from ml.mica.data import MicaBag
    from ml.mica.train import fit

    people, outcomes, folds = bags(size, world, seed)
    tokens = f"codex_{NETWORKS[name][1]}"
    given = [MicaBag(b.patient, b.patient, b.he, getattr(b, tokens), HEX_PANEL, "simulated features", "slot summaries") for b in people]
    done = fit(given, outcomes, config, folds=folds)
    return {"risk": [round(float(r), 6) for r in done.risk], "stopped_by": sorted({str(f.facts["stopped_by"]) for f in done.weights.folds})}


def _linear(size: Size, world: World, seed: int) -> dict[str, Any]:
    """Out-of-fold linear predictors of ridge Cox models on slide means."""
    people, outcomes, folds = bags(size, world, seed)
    fold = np.array([folds[p] for p in outcomes.patients])
    means = {name: np.array([getattr(b, name).mean(axis=0) for b in people]) for name in ("he", "virtual", "measured")}
    return {
        name: [round(float(r), 6) for r in _ridge_cox(outcomes, np.concatenate([means[m] for m in of], axis=1), fold)]
        for name, of in LINEAR.items()
    }


def _ridge_cox(outcomes: Outcomes, x: Values, fold: Values) -> Values:
    from ml.survival.data import prepare
    from ml.survival.ridge import solve, standardise

    risk = np.empty(len(x))
    for k in np.unique(fold):
        seen = fold != k
        mean, scale = standardise(x[seen])
        beta = solve(prepare(outcomes.time[seen], outcomes.event[seen]), (x[seen] - mean) / scale, PENALIZER)
        risk[~seen] = (x[~seen] - mean) / scale @ beta
    return risk
