"""her2st: the HEX head with its losses on the features of some sections, evaluated on others, beside simple predictors.

C2, C3 and C4 are neighbouring sections of one patient: what is learned on C2 and holds on C3 may hold for that patient alone. A1 is another
patient; of its picture there is only a copy at 3.2 um per px, so it is a stress test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.colour import nuclear_density
from ml.hex.config import HexFitConfig
from ml.hex.group_ridge import group_ridge
from ml.studies.cells import Cells
from ml.studies.her2st import Section, her2st_genes, load_section
from ml.studies.spots import from_other_blocks, section_figures

Values = NDArray[Any]
ENCODER = "he-descriptors"
A1_MPP = 3.2


@dataclass(frozen=True)
class Fit:
    """Sections to fit on, their resolution in um per px (None: their own), sections to predict. smoothed: FDS is run here, too; it is slow
    with 785 genes. seeds: how many of the size's."""

    fit_on: tuple[str, ...]
    mpp: float | None
    predict: tuple[str, ...]
    smoothed: bool
    seeds: int


FITS: dict[str, Fit] = {
    "C2": Fit(("C2",), None, ("C3", "C4"), True, 2),
    "C": Fit(("C2", "C3", "C4"), None, ("A1",), False, 1),
    "C shrunk": Fit(("C2", "C3", "C4"), A1_MPP, ("A1",), True, 1),
}
LOSSES: dict[str, dict[str, Any]] = {
    "head, MSE": {"loss": "mse", "fds": False},
    "head, MSE + FDS": {"loss": "mse", "fds": True},
    "head, ALF": {"loss": "adaptive", "fds": False},
    "head, ALF + FDS": {"loss": "adaptive", "fds": True},
}
SIMPLE = ("ridge, same features", "nuclear density")
WITHIN = ("ridge within the section", "coordinates", "section mean")


@dataclass(frozen=True)
class Size:
    """How much is computed. genes: the first so many of the 785."""

    seeds: tuple[int, ...] = (0, 1)
    epochs: int = 80
    genes: int = 785
    draws: int = 500
    losses: tuple[str, ...] = tuple(LOSSES)


QUICK = Size(seeds=(0,), epochs=6, genes=12, draws=20, losses=("head, MSE", "head, ALF + FDS"))


def head_config(genes: tuple[str, ...], loss: str, seed: int, epochs: int) -> HexFitConfig:
    """The head on fixed features. FDS acts for the same share of the training as released (epochs 10 to 50 of 120)."""
    return HexFitConfig(
        encoder=ENCODER,
        markers=genes,
        tile_um=112.0,
        trained_layers=0,
        augmentation="none",
        epochs=epochs,
        batch=48,
        seed=seed,
        fds_start_smooth=max(1, round(epochs * 10 / 120)),
        fds_until=max(2, round(epochs * 50 / 120)),
        **LOSSES[loss],
    )


def run(cells: Cells, data: Path, size: Size) -> None:
    """Computes what is missing of the table's cells."""
    for name, fit in FITS.items():
        settings = {"fit_on": fit.fit_on, "mpp": fit.mpp, "genes": size.genes, "draws": size.draws}
        for simple in SIMPLE:
            cells.get({"task": "her2st", "fit": name, "variant": simple}, settings, partial(_simple, data, fit, simple, size))
        wanted = [loss for loss in size.losses if fit.smoothed or not LOSSES[loss]["fds"]]
        for loss, seed in ((loss, seed) for loss in wanted for seed in size.seeds[: fit.seeds]):
            config = head_config(her2st_genes(data)[: size.genes], loss, seed, size.epochs)
            key = {"task": "her2st", "fit": name, "variant": loss, "seed": seed}
            cells.get(key, {**settings, "config": config.model_dump(mode="json")}, partial(_head, data, fit, config, size))
    for within, section in ((within, section) for within in WITHIN for section in ("C3", "C4", "A1")):
        key = {"task": "her2st", "fit": "itself", "variant": within, "section": section}
        cells.get(key, {"genes": size.genes, "draws": size.draws, "level": "left out"}, partial(_within, data, section, within, size))


@lru_cache(maxsize=8)
def _section(data: Path, name: str, mpp: float | None) -> tuple[Section, Values]:
    """A section and its features, (n, 32)."""
    from ml.encoders.runtime import load_encoder

    section = load_section(data, name, at_mpp=mpp)
    return section, load_encoder(ENCODER)(section.tiles)


@dataclass(frozen=True)
class Spots:
    """A section as the predictors see it: features (n, d), density (n, 1), truth (n, G), its blocks and places."""

    name: str
    features: Values
    density: Values
    truth: Values
    blocks: NDArray[np.int64]
    grid: Values
    genes: tuple[str, ...]


def _group(data: Path, names: tuple[str, ...], mpp: float | None, genes: int) -> list[Spots]:
    group = []
    for name in names:
        section, features = _section(data, name, mpp)
        density = nuclear_density(section.tiles)[:, None]
        group.append(Spots(name, features, density, section.expression[:, :genes], section.blocks, section.grid, section.genes[:genes]))
    return group


def _simple(data: Path, fit: Fit, which: str, size: Size) -> dict[str, Any]:
    """Ridge on the encoder's features, or on nuclear density alone; the penalty is chosen by holding out blocks of the fitting sections."""
    fit_on, predict = _group(data, fit.fit_on, fit.mpp, size.genes), _group(data, fit.predict, None, size.genes)
    inputs = (lambda s: s.density) if which == "nuclear density" else (lambda s: s.features)
    groups = [f"{s.name} {b}" for s in fit_on for b in s.blocks]
    truth = np.concatenate([s.truth for s in fit_on])
    ridge = group_ridge(np.concatenate([inputs(s) for s in fit_on]), truth, groups)
    return {"penalty": ridge.penalty, "sections": {s.name: _figures(ridge.predict(inputs(s)), s, size) for s in predict}}


def _head(data: Path, fit: Fit, config: HexFitConfig, size: Size) -> dict[str, Any]:
    """The head, fitted on all spots of the fitting sections.

    `fit_features` holds patients out; a few spots are given twice, as somebody else, so that one fold's model sees every spot. The unit of
    the labels is then that of the fitting sections alone.
    """
    from ml.hex.model import head_on
    from ml.hex.train import fit_features

    fit_on, predict = _group(data, fit.fit_on, fit.mpp, size.genes), _group(data, fit.predict, None, size.genes)
    features, truth = (np.concatenate([getattr(s, name) for s in fit_on]) for name in ("features", "truth"))
    mean, sd = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    z, again = ((features - mean) / sd).astype(np.float32), 16
    people = ["fitted"] * len(z) + ["again"] * again
    fitted = fit_features(
        np.concatenate([z, z[:again]]),
        np.concatenate([truth, truth[:again]]),
        people,
        people,
        config.markers,
        config,
        folds={"fitted": 1, "again": 0},
    )
    fold = fitted.weights.folds[0]
    answers = {s.name: np.maximum(head_on(fold.model, ((s.features - mean) / sd).astype(np.float32)), 0) for s in predict}
    facts = {k: v for k, v in fold.facts.items() if k in ("steps", "loss", "seconds", "stopped_by")}
    return {"facts": facts, "sections": {s.name: _figures(answers[s.name], s, size) for s in predict}}


def _within(data: Path, section: str, which: str, size: Size) -> dict[str, Any]:
    """What reads the section's own expression: ridge fitted on other blocks of it, nearest spots of other blocks, its mean."""
    spots = _group(data, (section,), None, size.genes)[0]
    truth = np.asarray(spots.truth, np.float64)
    if which == "section mean":
        answer = np.tile(truth.mean(axis=0), (len(truth), 1))
    elif which == "coordinates":
        answer = from_other_blocks(spots.grid, truth, spots.blocks)
    else:
        answer = np.empty(truth.shape)
        for block in np.unique(spots.blocks):
            mine = spots.blocks == block
            ridge = group_ridge(spots.features[~mine], truth[~mine], spots.blocks[~mine])
            # Without the level: the mean of all other blocks is low where this block is high, which alone would give a negative r.
            answer[mine] = spots.features[mine] / ridge.scale @ ridge.weights
    return {"sections": {spots.name: _figures(answer, spots, size)}}


def _figures(values: Values, spots: Spots, size: Size) -> dict[str, Any]:
    return section_figures(values, spots.truth, spots.blocks, size.draws, seed=17)


def of_task(cells: list[dict[str, Any]], fit: str, variant: str, section: str) -> Iterator[dict[str, Any]]:
    """Figures of a variant on a section, one per seed."""
    for cell in cells:
        key = cell["key"]
        if key["task"] == "her2st" and key["fit"] == fit and key["variant"] == variant and section in cell["result"]["sections"]:
            yield cell["result"]["sections"][section]
