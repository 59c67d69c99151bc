"""VirTues on one real field: `python -m ml.studies.virtues_mibi [pitch|fit|reconstruct|write] [--quick]`; without a name everything.

A small network is pretrained on a part of the field (half an hour of one core) and asked for what was masked in squares that it
never saw. Each cell is one file and is computed once; the training goes on where it was stopped. `write` puts the section into
docs/results/virtues.md.
--quick: a minute's worth, kept apart; it writes nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ml.studies.cells import ROOT, Cells, data_folder, study_folder
from ml.virtues.config import VirtuesConfig
from ml.virtues.pretrain_config import MASKINGS, VirtuesEvaluateConfig, VirtuesPretrainConfig

PARTS = ("pitch", "fit", "reconstruct", "write")
REPORT = ROOT / "docs" / "results" / "virtues.md"
FACTORS = (1, 2, 4)


@dataclass(frozen=True)
class Size:
    """How much is computed. factor: pixels of the file per pixel of the network. gap: px between training and held-out squares."""

    factor: int = 2
    crop: int = 64
    gap: int = 16
    min_tissue: float = 0.05
    width: int = 96
    pattern: str = "hvhv"
    decoder: str = "f"
    epochs: int = 75
    batch: int = 4
    lr: float = 1e-3
    subimages: int = 34
    max_seconds: float = 3600.0
    bootstrap: int = 1000
    seed: int = 0


QUICK = replace(Size(), width=32, pattern="hv", epochs=1, subimages=1, bootstrap=50)


def pretrain_config(size: Size) -> VirtuesPretrainConfig:
    """The recipe; where it is not the published one the document says so."""
    network = VirtuesConfig(
        model_dim=size.width,
        feedforward_dim=2 * size.width,
        encoder_pattern=size.pattern,
        decoder_pattern=size.decoder,
        num_encoder_heads=4,
        num_decoder_heads=4,
    )
    return VirtuesPretrainConfig(
        network=network,
        pitch_um=0.39 * size.factor,
        crop=size.crop,
        subimage=size.crop + 16,
        subimages=size.subimages,
        min_tissue=size.min_tissue,
        epochs=size.epochs,
        batch=size.batch,
        lr=size.lr,
        held_out=0.0,
        max_seconds=size.max_seconds,
        seed=size.seed,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 where the field is not there."""
    parser = argparse.ArgumentParser(prog="python -m ml.studies.virtues_mibi", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", nargs="?", choices=PARTS, help="one part; default: all")
    parser.add_argument("--quick", action="store_true", help="small, kept apart, nothing written")
    given = parser.parse_args(arguments)
    try:
        data = data_folder()
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    cells = Cells(study_folder("virtues_mibi", given.quick))
    compute(cells, data, PARTS if given.part is None else (given.part,), QUICK if given.quick else Size())
    return 0


def compute(cells: Cells, data: Path, wanted: Sequence[str], size: Size) -> None:
    """Computes what is missing of the wanted parts, on one core; the document last."""
    import torch

    torch.set_num_threads(1)
    settings = {"config": pretrain_config(size).model_dump(mode="json"), "gap": size.gap}
    if "pitch" in wanted:
        cells.get({"task": "pitch"}, {"factors": FACTORS}, partial(_pitch, data))
    if "fit" in wanted or "reconstruct" in wanted:
        cells.get({"task": "fit"}, settings, partial(_fit, cells.folder, data, size))
    if "reconstruct" in wanted:
        for masking in MASKINGS:
            config = VirtuesEvaluateConfig(maskings=(masking,), bootstrap=size.bootstrap, seed=size.seed)
            more = {**settings, "evaluate": config.model_dump(mode="json")}
            cells.get({"task": "reconstruct", "masking": masking}, more, partial(_reconstruct, cells.folder, data, size, config))
    if "write" in wanted and size == Size():
        from ml.studies.virtues_mibi_report import section, written

        REPORT.write_text(written(REPORT.read_text() if REPORT.is_file() else "", section(cells.all())))
        print(f"Written: {REPORT.relative_to(ROOT)}")


def _pitch(data: Path) -> dict[str, Any]:
    """Per pitch: markers that are empty in the tissue, and how reliable the others are."""
    from ml.studies.virtues_mibi_data import coarser, counts, reliability
    from ml.virtues.preprocess import empty_channels, tissue_mask, upper_quantiles

    names, values = counts(data)
    found = {}
    for factor in FACTORS:
        small = coarser(values, factor)
        tissue = tissue_mask(small)
        empty = empty_channels(small, upper_quantiles(small, tissue))
        found[str(factor)] = {
            "empty": [n for n, e in zip(names, empty) if e],
            "tissue": float(tissue.mean()),
            "reliability": {n: round(r, 4) for n, r in reliability(names, values, factor, tissue).items()},
        }
    return found


def _field(data: Path, size: Size) -> tuple[Any, Any, Any, tuple[str, ...]]:
    """(image with its tissue, held-out squares, bank, accessions with a random vector)."""
    from ml.studies.virtues_mibi_data import PROTEINS, bank_for, field, squares
    from ml.virtues.preprocess import tissue_mask

    image = field(data, size.factor)
    image = replace(image, tissue=tissue_mask(image.values))
    bank, random = bank_for([PROTEINS[m] for m in image.markers], data)
    return image, squares(image, size.crop, size.gap), bank, random


def _fit(folder: Path, data: Path, size: Size) -> dict[str, Any]:
    from ml.studies.virtues_mibi_data import PROTEINS
    from ml.virtues.checkpoint import save_weights
    from ml.virtues.train import fit

    image, held, bank, random = _field(data, size)
    points: list[list[float]] = []
    began = time.process_time()

    def hear(series: str, x: float, y: float) -> None:
        points.append([round(x, 3), round(y, 4)])
        print(f"{series}: epoch {x:.2f}, loss {y:.4f}", flush=True)

    done = fit(
        [image],
        [[PROTEINS[m] for m in image.markers]],
        ["the field"],
        ["mibi"],
        pretrain_config(size),
        bank,
        allowed=[held.allowed],
        checkpoint_dir=folder / "running",
        record=hear,
    )
    save_weights(done.model, folder / "weights")
    # A call that went on from a checkpoint did a part of the steps: those after the whole epochs that its first point has behind it.
    here = 1 - int(points[0][0] - 1e-6) / points[-1][0]
    source = done.fitted[0]
    return {
        **{k: v for k, v in done.metrics().items() if k in ("steps", "seconds", "loss", "stopped_by")},
        "cpu_seconds_per_step": (time.process_time() - began) / (here * done.facts.steps),
        "curve": points,
        "markers": list(source.names),
        "dropped": [list(d) for d in source.dropped],
        "random": [n for n, p in zip(source.names, source.proteins) if p in random],
        "cells": [list(c) for c in held.cells],
        "allowed": float(held.allowed.mean()),
        "parameters": sum(p.numel() for p in done.model.parameters()),
    }


def _reconstruct(folder: Path, data: Path, size: Size, config: VirtuesEvaluateConfig) -> dict[str, Any]:
    from ml.studies.virtues_mibi_data import PROTEINS
    from ml.virtues.checkpoint import load_weights
    from ml.virtues.data import source_of, standard_of
    from ml.virtues.evaluate import Crop, crops_of, evaluate
    from ml.virtues.tiling import Shares

    image, held, bank, _ = _field(data, size)
    source = source_of(
        image,
        [PROTEINS[m] for m in image.markers],
        bank,
        standard_of([image], [held.allowed]),
        unit="the field",
        allowed=held.allowed,
    )
    enough = Shares(source.tissue).of(held.corners, size.crop) >= size.min_tissue
    crops = [Crop(source.crop(r, c, size.crop), source.names, source.embeddings, f"{r},{c}") for r, c in held.corners[enough].tolist()]
    found = evaluate(load_weights(folder / "weights"), crops, crops_of([source], size.crop, size.min_tissue), config)
    return {**found[config.maskings[0]].summary(), "squares": len(enough), "signal": [float(np.mean(c.values > 0)) for c in crops]}


if __name__ == "__main__":
    sys.exit(main())
