"""VirTues as a representation of the simulated cohorts: one small pretraining per seed, on other patients, for every world.

The patients that it is trained on are of the same laboratories and in nobody's cohort, so no fold is needed: nobody is embedded by a
network that saw her. Both panels are among them, so one network serves the worlds with one panel and with two.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ml.simulate.multiplex import SimulatedMultiplex
from ml.simulate.multiplex_cohort import CohortConfig
from ml.simulate.multiplex_panel import MARKERS
from ml.simulate.multiplex_truth import NICHE_PX, kept_boxes, true_niches
from ml.studies.virtues_worlds_fields import PATCH_PX, REFERENCE_SEED, Embed, Embedded, Field, fields
from ml.types import MultiplexImage
from ml.virtues.config import VirtuesConfig
from ml.virtues.pretrain_config import VirtuesPretrainConfig

DATASET = "reference"
BATCH = 4  # crops that are encoded at once


@dataclass(frozen=True)
class Training:
    """How the network is trained. It sees crops of `first_crop` px for most of the time, then of a niche: attention over a quarter of the
    places is about a seventh of the work. epochs: of each. patients: one field each. embedding: length of a protein's (random) vector.
    cell_stride, cell_pad: px, of the crops that cells are seen in."""

    width: int = 96
    pattern: str = "hvhv"
    decoder: str = "f"
    embedding: int = 64
    patients: int = 24
    panels: tuple[str, ...] = ("broad", "stroma")
    first_crop: int = 64
    epochs: tuple[int, int] = (24, 4)
    subimages: tuple[int, int] = (1, 1)
    batch: int = 4
    lr: tuple[float, float] = (1e-3, 3e-4)
    cell_stride: int = 84
    cell_pad: int = 120

    def network(self) -> VirtuesConfig:
        """The network of it."""
        return VirtuesConfig(
            patch_size=PATCH_PX,
            model_dim=self.width,
            feedforward_dim=2 * self.width,
            encoder_pattern=self.pattern,
            decoder_pattern=self.decoder,
            num_encoder_heads=4,
            num_decoder_heads=4,
            marker_embedding_dim=self.embedding,
        )

    def stages(self, seed: int) -> tuple[VirtuesPretrainConfig, ...]:
        """The two trainings, the second of which goes on from the first. Sub-images of crop + 32 px, drawn anew where tissue is."""
        crops = (self.first_crop, NICHE_PX)
        return tuple(
            VirtuesPretrainConfig(
                network=self.network(),
                crop=crop,
                subimage=crop + 32,
                subimages=n,
                epochs=epochs,
                batch=self.batch,
                lr=lr,
                held_out=0.0,
                seed=seed,
            )
            for crop, n, epochs, lr in zip(crops, self.subimages, self.epochs, self.lr)
        )


def bank(dim: int) -> Any:
    """A MarkerBank of random vectors, each drawn by its accession alone, of length sqrt(dim): nearly orthogonal. Nothing that a protein
    language model knows is in them."""
    from ml.virtues.markers import MarkerBank

    def vector(accession: str) -> Any:
        drawn = np.random.default_rng(int.from_bytes(sha256(accession.encode()).digest()[:8])).standard_normal(dim)
        return drawn * np.sqrt(dim) / np.linalg.norm(drawn)

    return MarkerBank({m.uniprot: vector(m.uniprot) for m in MARKERS.values()}, "random vectors by accession")


def multiplex(m: SimulatedMultiplex) -> MultiplexImage:
    """As the product holds it."""
    return MultiplexImage(m.image, m.names, 1.0, m.mask, m.tissue_mask)


def train(folder: Path, training: Training, config: CohortConfig, seed: int) -> dict[str, Any]:
    """Trains on patients of nobody's cohort, writes the network to `folder`, gives what it cost. config: its laboratories and fields."""
    from ml.virtues.train import fit
    from ml.virtues.weights import save_fit

    given = fields(training.patients, seed + REFERENCE_SEED, config.model_copy(update={"panels": training.panels, "tissues": (1, 1)}))
    made = [f.image() for f in given]
    images, proteins = [multiplex(m) for m in made], [m.uniprot for m in made]
    names = [f.patient.code for f in given]
    start, stages, running = None, [], folder.parent / f"{folder.name}-running"
    for stage in training.stages(seed):
        points: list[list[float]] = []

        def hear(series: str, x: float, y: float, points: list[list[float]] = points) -> None:
            points.append([round(x, 3), round(y, 4)])
            print(f"{series}: epoch {x:.2f}, loss {y:.4f}", flush=True)

        done = fit(
            images, proteins, names, [DATASET] * len(images), stage, bank(training.embedding), record=hear,
            start=start, checkpoint_dir=running,
        )  # fmt: skip
        start = done.model
        facts = {k: v for k, v in done.metrics().items() if k in ("steps", "seconds", "loss", "stopped_by")}
        stages.append({"crop": stage.crop, "epochs": stage.epochs, "batch": stage.batch, "lr": stage.lr, "curve": points, **facts})
    save_fit(done, folder, salt="simulated", code_version="", label="trained on simulated tissue", inputs={})
    shutil.rmtree(running, ignore_errors=True)  # a training of one epoch may leave none
    parameters = sum(p.numel() for p in done.model.parameters())
    return {"stages": stages, "patients": len(given), "proteins": len(done.proteins), "parameters": parameters}


def virtues(folder: Path, training: Training, trained: bool = True, seed: int = 0) -> Embed:
    """The network that `train` wrote, or one of its shape with the weights that its training began with (and its means and deviations)."""
    model, known, standards = _network(folder, trained, seed)

    def embed(m: SimulatedMultiplex, with_cells: bool = True) -> Embedded:
        from ml.virtues.cells import cell_tokens, cut
        from ml.virtues.embed import Runner
        from ml.virtues.panel import prepare

        ready = prepare(multiplex(m), m.uniprot, known, standards[DATASET])
        runner = Runner(model, ready.embeddings, "cpu")
        seen, side, dim = ready.seen(), NICHE_PX // PATCH_PX, model.config.model_dim
        rows, cols = (v // NICHE_PX for v in seen.shape[1:])
        corners = np.array([(r * NICHE_PX, c * NICHE_PX) for r in range(rows) for c in range(cols)])
        parts = [runner.summaries(cut(seen, corners[at : at + BATCH], NICHE_PX)) for at in range(0, len(corners), BATCH)]
        squares = np.concatenate(parts).reshape(rows, cols, side, side, dim)
        patches = squares.transpose(0, 2, 1, 3, 4).reshape(rows * side, cols * side, dim)
        boxes = kept_boxes(m.tissue_mask) // PATCH_PX
        niches = np.stack([patches[r : r + side, c : c + side].mean(axis=(0, 1)) for r, c in boxes])
        if not with_cells:
            return Embedded(niches, patches, np.empty((0, dim), np.float32))
        pad, stride = training.cell_pad, training.cell_stride
        tokens = cell_tokens(
            runner.summaries, ready.seen(pad), np.pad(m.mask, pad), tile=NICHE_PX, patch=PATCH_PX, dim=dim, stride=stride, batch=BATCH
        )
        return Embedded(niches, patches, tokens.tokens)

    return embed


@lru_cache(maxsize=4)
def _network(folder: Path, trained: bool, seed: int) -> tuple[Any, Any, Any]:
    import torch

    from ml.virtues.model import VirTues
    from ml.virtues.weights import load

    kept = load(folder)
    if trained:
        return kept.model, kept.bank, kept.standards
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return VirTues(kept.model.config).eval(), kept.bank, kept.standards


def reconstruction(folder: Path, given: Sequence[Field], least: int) -> dict[str, Any]:
    """What of masked pixels the network tells, beside both baselines, on one crop of each of `given` (fields of the cohort); the
    correlated markers are learnt on patients that it was trained on. least: crops that those are learnt on, one per field."""
    from ml.virtues.data import source_of
    from ml.virtues.evaluate import crops_of, evaluate
    from ml.virtues.pretrain_config import VirtuesEvaluateConfig

    model, known, standards = _network(folder, True, 0)

    def crops(of: Sequence[Field]) -> list[Any]:
        made = [(f.image(), f.patient.code) for f in of]
        sources = [source_of(multiplex(m), m.uniprot, known, standards[DATASET], unit=code) for m, code in made]
        return [crops_of([source], NICHE_PX)[0] for source in sources]

    config = VirtuesEvaluateConfig(bootstrap=500)
    found = evaluate(model, crops(given[:-least]), crops(given[-least:]), config)
    return {masking: figures.summary() for masking, figures in found.items()}


def spread(given: Sequence[Field], embed: Embed) -> dict[str, float]:
    """Of the niches of some fields: the share of their variance along its first direction, the effective number of directions (squared sum
    over sum of squares of the variances), and the mean r of the true composition with a ridge regression on them, other fields' niches
    fitted (columns that hardly vary left out)."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict

    parts, truth = [embed(f.image(), False).niches for f in given], np.concatenate([true_niches(f.image()) for f in given])
    x = np.concatenate(parts)
    variance = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    group, z = np.repeat(np.arange(len(parts)), [len(p) for p in parts]), (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6)
    told = cross_val_predict(RidgeCV(np.logspace(-1, 4, 8)), z, truth, groups=group, cv=GroupKFold(min(4, len(parts))))
    varied = truth.std(axis=0) > 0.01
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(told.T[varied], truth.T[varied])]
    return {
        "first": float(variance[0] / variance.sum()),
        "directions": float(variance.sum() ** 2 / (variance**2).sum()),
        "linear": float(np.mean(r)),
    }
