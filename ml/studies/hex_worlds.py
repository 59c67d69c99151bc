"""HEX in the three worlds: the compact encoder trained end to end on simulated slides, with and without FDS and ALF, on held-out patients.

The same pictures in all worlds: only what the assay reads differs. Beside it ridge on colour and texture, nuclear density and the oracle
of the slide's mean; and, as the comparison of backbones, what can be run without anybody's weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.config import HexFitConfig
from ml.hex.panel import HEX_PANEL
from ml.simulate import SITES, SimulatorConfig, simulate_patient
from ml.simulate.worlds import WORLDS, World, tissue_grid, world_labels
from ml.studies.cells import Cells

Values = NDArray[Any]
LOSSES: dict[str, dict[str, Any]] = {
    "HEX, MSE": {"loss": "mse", "fds": False},
    "HEX, MSE + FDS": {"loss": "mse", "fds": True},
    "HEX, ALF": {"loss": "adaptive", "fds": False},
    "HEX, ALF + FDS": {"loss": "adaptive", "fds": True},
}
BASELINES = ("ridge on colour and texture", "nuclear density", "slide mean")
TILE_PX = 112  # what he-descriptors take; the compact encoder's 48 px are made from them


@dataclass(frozen=True)
class Size:
    """How much is computed. patients per cohort, size_px: side of a slide at 0.5 um per px; a cohort per seed."""

    seeds: tuple[int, ...] = (0, 1)
    patients: int = 16
    size_px: int = 1280
    epochs: int = 12
    worlds: tuple[World, ...] = WORLDS
    losses: tuple[str, ...] = tuple(LOSSES)


QUICK = Size(seeds=(0,), patients=4, size_px=512, epochs=3, worlds=("mixed",), losses=("HEX, MSE", "HEX, ALF + FDS"))


@dataclass(frozen=True)
class Slides:
    """Tiles of a cohort: images (n, 112, 112, 3) uint8; labels: world -> (n, 40) float32; patients: (n,) ids; sites: patient -> site."""

    images: NDArray[np.uint8]
    labels: dict[World, Values]
    patients: list[str]
    sites: dict[str, str]


@lru_cache(maxsize=2)
def slides(seed: int, patients: int, size_px: int) -> Slides:
    """A cohort of two sites, alternating, whose pictures are the same in every world."""
    config, names = SimulatorConfig(size_px=size_px), list(SITES)
    images, labels, ids, sites = [], {world: [] for world in WORLDS}, [], {}
    for index in range(patients):
        site = names[index % len(names)]
        patient = simulate_patient(index, 7000 + seed, site, config)
        grid, picture = tissue_grid(patient.tissue), patient.render()
        images += [picture[y : y + TILE_PX, x : x + TILE_PX] for x, y in grid.xy]
        for world in WORLDS:
            labels[world].append(world_labels(patient, grid, world, seed))
        ids += [patient.code] * len(grid)
        sites[patient.code] = site
    return Slides(np.stack(images), {w: np.concatenate(v) for w, v in labels.items()}, ids, sites)


def fit_config(loss: str, seed: int, epochs: int, encoder: str = "compact-resnet-48") -> HexFitConfig:
    """Two folds of patients; FDS acts for the same share of the training as released (epochs 10 to 50 of 120)."""
    frozen: dict[str, Any] = {"trained_layers": 0, "augmentation": "none", "epochs": 3 * epochs} if encoder == "he-descriptors" else {}
    return HexFitConfig(
        **{
            "encoder": encoder,
            "epochs": epochs,
            "seed": seed,
            "fds_start_smooth": max(1, round(epochs * 10 / 120)),
            "fds_until": max(2, round(epochs * 50 / 120)),
            "max_seconds": 3600.0,
            **LOSSES[loss],
            **frozen,
        }
    )


def run(cells: Cells, size: Size) -> None:
    """Computes what is missing of the three worlds' cells."""
    cohort = {"patients": size.patients, "size_px": size.size_px}
    for seed in size.seeds:
        for world in size.worlds:
            key = {"task": "worlds", "world": world, "seed": seed}
            cells.get({**key, "variant": "baselines"}, cohort, partial(_baselines, size, world, seed))
            for loss in size.losses:
                config = fit_config(loss, seed, size.epochs)
                settings = {**cohort, "config": config.model_dump(mode="json")}
                cells.get({**key, "variant": loss}, settings, partial(_fit, size, world, seed, config))


def run_backbones(cells: Cells, size: Size) -> None:
    """What stands in for the paper's comparison of backbones: fixed descriptors under the head, and under ridge, in the visible world."""
    for seed in size.seeds:
        world = size.worlds[0]
        config = fit_config("HEX, MSE", seed, size.epochs, "he-descriptors")
        settings = {"patients": size.patients, "size_px": size.size_px, "config": config.model_dump(mode="json")}
        key = {"task": "backbones", "world": world, "seed": seed}
        cells.get({**key, "variant": "he-descriptors, head"}, settings, partial(_descriptors, size, world, seed, config))


def _fit(size: Size, world: World, seed: int, config: HexFitConfig) -> dict[str, Any]:
    from ml.hex.train import fit

    data = slides(seed, size.patients, size.size_px)
    done = fit(data.images, data.labels[world], data.patients, data.patients, HEX_PANEL, config, strata=data.sites)
    truth = done.weights.scale.apply(data.labels[world])
    stopped = sorted({str(fold.facts["stopped_by"]) for fold in done.weights.folds})
    return {"stopped_by": stopped, **figures(done.held_out, truth, data.patients)}


def _baselines(size: Size, world: World, seed: int) -> dict[str, Any]:
    from ml.hex.baselines import baselines
    from ml.training.splits import patient_folds

    data = slides(seed, size.patients, size.size_px)
    folds = patient_folds(data.patients, 2, seed, data.sites)
    truth = np.clip(data.labels[world], 0, 1)
    found = baselines(data.images, truth, data.patients, data.patients, folds)
    return {name: figures(found[name], truth, data.patients) for name in BASELINES}


def _descriptors(size: Size, world: World, seed: int, config: HexFitConfig) -> dict[str, Any]:
    """Both on the same standardised descriptors and folds. Standardised over all tiles: no label takes part."""
    from ml.encoders.runtime import load_encoder
    from ml.hex.baselines import cross_fit_ridge
    from ml.hex.train import fit_features

    data = slides(seed, size.patients, size.size_px)
    features = load_encoder("he-descriptors")(data.images)
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    done = fit_features(features, data.labels[world], data.patients, data.patients, HEX_PANEL, config, strata=data.sites)
    truth = done.weights.scale.apply(data.labels[world])
    ridge = cross_fit_ridge(features, truth, data.patients, done.fold_of)
    return {"head": figures(done.held_out, truth, data.patients), "ridge": figures(ridge, truth, data.patients)}


def figures(values: Values, truth: Values, patients: list[str]) -> dict[str, Any]:
    """r, r2: (slides, 40) within slides, None where a marker does not vary; tiles, slides: how many; locked: by the predictability card."""
    from ml.hex.evaluate import evaluate, predictability_card, slide_figures

    found = slide_figures(values, truth, patients, patients)
    card = predictability_card(evaluate(values, truth, patients, patients, HEX_PANEL, draws=20))
    return {
        "r": _plain(found.r),
        "r2": _plain(found.r2),
        "locked": [row.marker for row in card if row.locked],
        "tiles": len(patients),
        "slides": len(found.slides),
    }


def _plain(values: Values) -> list[list[float | None]]:
    return [[None if not np.isfinite(v) else round(float(v), 4) for v in row] for row in values]
