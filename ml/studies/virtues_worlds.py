"""VirTues and retrieval on simulated multiplex cohorts whose biology and laboratories know nothing of each other.

`python -m ml.studies.virtues_worlds [train|worlds|discovery|write] [--quick]`: each cell is computed once and kept, `write` puts the tables
of what is there between the `worlds` marks of docs/results/retrieval.md and virtues.md. Everything that is fitted without labels (means,
deviations, networks) is fitted on other patients of the same laboratories.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.simulate.multiplex import MultiplexConfig
from ml.simulate.multiplex_cohort import CohortConfig, multiplex_patient, site_name
from ml.simulate.niches import NICHES
from ml.simulate.programmes import CELL_TYPES
from ml.studies.cells import ROOT, Cells, study_folder
from ml.studies.virtues_worlds_counts import cluster_counts, confusions
from ml.studies.virtues_worlds_discovery import Discovery, shuffled
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
from ml.studies.virtues_worlds_network import Training, reconstruction, spread, train, virtues

# World -> what its cohorts differ in. "tied": three in four patients are treated where their diagnosis is at home.
WORLDS: dict[str, dict[str, Any]] = {
    "independent": {},
    "tied": {"confounding": 0.75},
    "two panels": {"panels": ("broad", "stroma")},
}
BASELINES: dict[str, float] = {"mean intensities": 0.0, "mean intensities and surroundings": CONTEXT_PX}
# Row -> whether its weights were trained. The other one has the weights that the training began with.
LEARNED: dict[str, bool] = {"VirTues": True, "VirTues, not trained": False}
PARTS = ("train", "worlds", "discovery", "write")
COLOURS = "colours of H&E"


@dataclass(frozen=True)
class Size:
    """How much is computed: a cohort per seed. patches, cells: drawn per field, cells of every `cell_every`-th field only (they are what
    costs most). reference: other patients, for what is fitted without labels. typed, untrained: worlds in which cells are looked at, and
    in which that control is run. reconstructed: fields of the cohort whose niches' directions are looked at and of which a crop is
    reconstructed, and of the reference for the correlated markers."""

    seeds: tuple[int, ...] = (0,)
    patients: int = 40
    reference: int = 24
    sites: int = 3
    tissues: tuple[int, int] = (1, 1)
    size_px: int = 512
    patches: int = 200
    cells: int = 300
    cell_every: int = 5
    folds: int = 4
    worlds: tuple[str, ...] = ("independent", "two panels", "tied")
    typed: tuple[str, ...] = ("independent",)
    untrained: tuple[str, ...] = ("independent",)
    reconstructed: int = 12
    training: Training = field(default_factory=Training)
    discovery: Discovery = field(default_factory=Discovery)

    def config(self, world: str) -> CohortConfig:
        """The law of the cohorts of a world."""
        image = MultiplexConfig(size_px=self.size_px)
        return CohortConfig(n_sites=self.sites, tissues=self.tissues, image=image, **WORLDS[world])


QUICK = Size(
    patients=14,
    reference=4,
    size_px=256,
    patches=60,
    cells=60,
    folds=2,
    worlds=("independent",),
    reconstructed=2,
    training=Training(width=32, pattern="hv", patients=4, epochs=(1, 1)),
    discovery=Discovery(patients=24, cells=80, step=1.0, shuffles=4),
)


def run(cells: Cells, size: Size) -> None:
    """Computes what is missing: what is true, then every representation."""
    for seed in size.seeds:
        folder = network(cells, size, seed)
        learned = {"training": asdict(size.training), "image": size.config("independent").image.model_dump(mode="json")}
        for world in size.worlds:
            config = size.config(world)
            settings = {"config": config.model_dump(mode="json"), "patients": size.patients}
            key = {"task": "virtues-worlds", "world": world, "seed": seed}
            cells.get({**key, "variant": "cohort"}, settings, partial(_cohort, size, world, seed))
            drawn = [size.patches, *([size.cells, size.cell_every, size.folds] if world in size.typed else [])]
            sampled = {**settings, "reference": size.reference, "drawn": drawn}
            for name, context in BASELINES.items():
                cells.get({**key, "variant": name}, {**sampled, "context": context}, partial(_baseline, size, world, seed, context))
            for name, trained in LEARNED.items():
                if trained or world in size.untrained:
                    embed = partial(virtues, folder, size.training, trained, seed)
                    cells.get({**key, "variant": name}, {**sampled, **learned}, partial(_learned, size, world, seed, embed))
            if world == size.worlds[0]:
                key = {"task": "virtues-reconstruct", "world": world, "seed": seed}
                more = {**learned, "n": size.reconstructed, "patients": size.patients, "reference": size.reference}
                cells.get(key, more, partial(_reconstruction, folder, size, world, seed))
                cells.get({**key, "task": "virtues-spread"}, more, partial(_spread, folder, size, world, seed))


def shuffle(cells: Cells, size: Size, seed: int) -> None:
    """Discovery on shuffled outcomes in the first world, by mean intensities of cells and their surroundings."""
    world = size.worlds[0]
    config, d = size.config(world), size.discovery

    def compute() -> dict[str, Any]:
        norm = standard(reference(size, world, seed))
        people = [multiplex_patient(i, seed, config) for i in range(d.patients)]
        return shuffled(people, mean_intensities(norm, shared_proteins(config.panels), CONTEXT_PX), d, seed)

    settings = {"config": config.model_dump(mode="json"), "discovery": asdict(d), "reference": size.reference}
    cells.get({"task": "virtues-discovery", "world": world, "seed": seed}, settings, compute)


def network(cells: Cells, size: Size, seed: int) -> Path:
    """The folder of the network of a seed, which is trained where it is not there."""
    folder = cells.folder / f"network-{seed}"
    config = size.config(size.worlds[0]).model_copy(update={"confounding": 0.0})
    settings = {"training": asdict(size.training), "config": config.model_dump(mode="json")}
    if not folder.is_dir():  # a cell without its network is of no use
        (cells.folder / f"virtues-training__{seed}.json").unlink(missing_ok=True)
    cells.get({"task": "virtues-training", "seed": seed}, settings, partial(train, folder, size.training, config, seed))
    return folder


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
    embed = mean_intensities(norm, shared_proteins(config.panels), context)
    return figures(size, cohort(size, world, seed), embed, seed, world in size.typed)


def _learned(size: Size, world: str, seed: int, embed: Callable[[], Embed]) -> dict[str, Any]:
    return figures(size, cohort(size, world, seed), embed(), seed, world in size.typed)


def _reconstruction(folder: Path, size: Size, world: str, seed: int) -> dict[str, Any]:
    n = size.reconstructed
    return reconstruction(folder, cohort(size, world, seed)[:n] + reference(size, world, seed)[:n], n)


def _spread(folder: Path, size: Size, world: str, seed: int) -> dict[str, Any]:
    config, given = size.config(world), cohort(size, world, seed)[: size.reconstructed]
    embeds = {name: virtues(folder, size.training, trained, seed) for name, trained in LEARNED.items()}
    plain_one = mean_intensities(standard(reference(size, world, seed)), shared_proteins(config.panels))
    return {name: spread(given, embed) for name, embed in {**embeds, next(iter(BASELINES)): plain_one}.items()}


def figures(size: Size, given: Sequence[Field], embed: Embed, seed: int, typed: bool = True) -> dict[str, Any]:
    """All that the tables need of one representation, as counts per patient and distances between fields. typed: cells, too."""
    s = sample(given, embed, size.patches, size.cells if typed else 0, size.cell_every)
    patient = np.array([f.patient.assigned.index for f in given])
    boxes = np.concatenate(s.niches)
    box_patient = np.repeat(patient, [len(n) for n in s.niches])
    k = len(NICHES) - 1
    return {
        "boxes": cluster_counts(boxes, np.concatenate(s.box_niche), box_patient, k, seed).tolist(),
        "patches": cluster_counts(s.patches, s.patch_niche, patient[s.patch_field], k, seed).tolist(),
        **({"typing": _typing(size, given, s, patient, seed).tolist()} if typed else {}),
        "sets": plain(set_distances(s.niches)),
        "means": plain(cosine_distances(np.stack([n.mean(axis=0) for n in s.niches]))),
        "dim": int(boxes.shape[1]),
    }


def _typing(size: Size, given: Sequence[Field], s: Samples, patient: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    from ml.training.splits import patient_folds

    code = [given[k].patient.code for k in s.cell_field]
    folds = patient_folds(code, size.folds, seed)
    return confusions(s.cells, s.cell_kind, patient[s.cell_field], np.array([folds[c] for c in code]), len(CELL_TYPES))


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
    import torch

    parser = argparse.ArgumentParser(prog="python -m ml.studies.virtues_worlds", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", nargs="?", choices=PARTS, help="one part; default: all")
    parser.add_argument("--quick", action="store_true", help="small, kept apart from the real cells; nothing is written")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cells, size = Cells(study_folder("virtues-worlds", given.quick)), QUICK if given.quick else Size()
    if given.part == "train":
        for seed in size.seeds:
            network(cells, size, seed)
    if given.part in ("worlds", None):
        run(cells, size)
    if given.part in ("discovery", None):
        for seed in size.seeds:
            shuffle(cells, size, seed)
    if given.part in ("write", None):
        from ml.studies.virtues_worlds_documents import put, sections

        for name, text in sections(cells.all(), size).items():
            if given.quick:
                print(text)
            else:
                put(ROOT / "docs" / "results" / name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
