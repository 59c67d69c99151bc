"""VirTues and retrieval on simulated multiplex cohorts whose biology and laboratories know nothing of each other.

`python -m ml.studies.virtues_worlds [worlds|write] [--quick]`: each cell is computed once and kept, `write` prints the tables of what is
there. Everything that is fitted without labels (means, deviations, networks) is fitted on other patients of the same laboratories.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.simulate.multiplex import MultiplexConfig
from ml.simulate.multiplex_cohort import CohortConfig, site_name
from ml.simulate.niches import NICHES
from ml.simulate.programmes import CELL_TYPES
from ml.studies.cells import Cells, study_folder
from ml.studies.virtues_worlds_counts import cluster_counts, confusions
from ml.studies.virtues_worlds_fields import (
    CONTEXT_PX,
    REFERENCE_SEED,
    Embed,
    Field,
    Samples,
    fields,
    mean_intensities,
    pictures,
    sample,
    shared_proteins,
    standard,
)

# World -> what its cohorts differ in. "tied": three in four patients are treated where their diagnosis is at home.
WORLDS: dict[str, dict[str, Any]] = {
    "independent": {},
    "tied": {"confounding": 0.75},
    "two panels": {"panels": ("broad", "stroma")},
}
BASELINES: dict[str, float] = {"mean intensities": 0.0, "mean intensities and surroundings": CONTEXT_PX}
LEARNED = ("VirTues",)
COLOURS = "colours of H&E"


@dataclass(frozen=True)
class Size:
    """How much is computed: a cohort per seed. patches, cells: drawn per field. reference: other patients, for what is fitted without
    labels."""

    seeds: tuple[int, ...] = (0, 1)
    patients: int = 60
    reference: int = 24
    sites: int = 3
    tissues: tuple[int, int] = (1, 2)
    size_px: int = 512
    patches: int = 200
    cells: int = 150
    folds: int = 5
    worlds: tuple[str, ...] = tuple(WORLDS)

    def config(self, world: str) -> CohortConfig:
        """The law of the cohorts of a world."""
        image = MultiplexConfig(size_px=self.size_px)
        return CohortConfig(n_sites=self.sites, tissues=self.tissues, image=image, **WORLDS[world])


QUICK = Size(seeds=(0,), patients=14, reference=4, size_px=256, patches=60, cells=60, folds=2, worlds=("independent",))


def run(cells: Cells, size: Size) -> None:
    """Computes what is missing: what is true, then every representation."""
    for seed in size.seeds:
        for world in size.worlds:
            config = size.config(world)
            settings = {"config": config.model_dump(mode="json"), "patients": size.patients}
            key = {"task": "virtues-worlds", "world": world, "seed": seed}
            cells.get({**key, "variant": "cohort"}, settings, partial(_cohort, size, world, seed))
            sampled = {**settings, "reference": size.reference, "drawn": [size.patches, size.cells, size.folds]}
            for name, context in BASELINES.items():
                cells.get({**key, "variant": name}, {**sampled, "context": context}, partial(_baseline, size, world, seed, context))


def cohort(size: Size, world: str, seed: int) -> tuple[Field, ...]:
    """The fields that everything is measured on."""
    return fields(size.patients, seed, size.config(world))


def reference(size: Size, world: str, seed: int) -> tuple[Field, ...]:
    """Fields of other patients of the same laboratories."""
    return fields(size.reference, seed + REFERENCE_SEED, size.config(world))


def _cohort(size: Size, world: str, seed: int) -> dict[str, Any]:
    """Facts of the fields, true distances, and the distances of their colours."""
    from ml.simulate.multiplex_truth import colour_histogram, true_niches

    given = cohort(size, world, seed)
    facts = [f.patient.facts() for f in given]
    truth = [true_niches(f.image()) for f in given]
    colours = np.stack([colour_histogram(p) for p in pictures(given)])
    return {
        "patient": [f.patient.assigned.index for f in given],
        "diagnosis": [x["diagnosis"] for x in facts],
        "site": [x["site"] for x in facts],
        "panel": [x["panel"] for x in facts],
        "response": [x["response"] for x in facts],
        "sites": [site_name(k) for k in range(size.sites)],
        "truth": plain(set_distances(truth)),
        "colours": plain(np.abs(colours[:, None] - colours[None]).sum(axis=2) / 2),
    }


def _baseline(size: Size, world: str, seed: int, context: float) -> dict[str, Any]:
    config = size.config(world)
    norm = standard(reference(size, world, seed))
    return figures(size, cohort(size, world, seed), mean_intensities(norm, shared_proteins(config.panels), context), seed)


def figures(size: Size, given: Sequence[Field], embed: Embed, seed: int) -> dict[str, Any]:
    """All that the tables need of one representation, as counts per patient and distances between fields."""
    s = sample(given, embed, size.patches, size.cells)
    patient = np.array([f.patient.assigned.index for f in given])
    boxes = np.concatenate(s.niches)
    box_patient = np.repeat(patient, [len(n) for n in s.niches])
    k = len(NICHES) - 1
    return {
        "boxes": cluster_counts(boxes, np.concatenate(s.box_niche), box_patient, k, seed).tolist(),
        "patches": cluster_counts(s.patches, s.patch_niche, patient[s.patch_field], k, seed).tolist(),
        "typing": _typing(size, given, s, patient, seed).tolist(),
        "sets": plain(set_distances(s.niches)),
        "means": plain(cosine_distances(np.stack([n.mean(axis=0) for n in s.niches]))),
        "dim": int(boxes.shape[1]),
    }


def _typing(size: Size, given: Sequence[Field], s: Samples, patient: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    from ml.training.splits import patient_folds

    code = [f.patient.code for f in given]
    folds = patient_folds(code, size.folds, seed)
    fold = np.array([folds[c] for c in code])
    return confusions(s.cells, s.cell_kind, patient[s.cell_field], fold[s.cell_field], len(CELL_TYPES))


def set_distances(sets: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """(n, n) exact 2-Wasserstein distances between sets of vectors with uniform weights."""
    from ml.transport.wasserstein import wasserstein2

    out = np.zeros((len(sets), len(sets)))
    weights = [np.full(len(x), 1 / len(x)) for x in sets]
    for i in range(len(sets)):
        for j in range(i):
            out[i, j] = out[j, i] = wasserstein2(sets[i], weights[i], sets[j], weights[j])
    return out


def cosine_distances(means: NDArray[Any]) -> NDArray[np.float64]:
    """(n, n) 1 - cosine of the angle between vectors, centred on their mean (raw ones all point the same way)."""
    x = means.astype(float) - means.mean(axis=0)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return 1 - x @ x.T


def plain(distance: NDArray[Any]) -> list[list[float]]:
    """Five digits of each entry."""
    return [[float(f"{v:.5g}") for v in row] for row in distance]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m ml.studies.virtues_worlds", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", nargs="?", choices=("worlds", "write"), help="one part; default: both")
    parser.add_argument("--quick", action="store_true", help="small, kept apart from the real cells")
    given = parser.parse_args(arguments)
    cells = Cells(study_folder("virtues-worlds", given.quick))
    if given.part != "write":
        run(cells, QUICK if given.quick else Size())
    if given.part != "worlds":
        from ml.studies.virtues_worlds_report import report

        print(report(cells.all()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
