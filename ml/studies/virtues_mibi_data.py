"""One field of MIBI-TOF (breast DCIS, Risom et al. 2022): 41 markers, its proteins, and squares of it that training never sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.types import MultiplexImage
from ml.virtues.markers import MarkerBank

FIELD = Path("imc") / "mibi_dcis" / "Point2203_pt1072_31606"
EMBEDDINGS = Path("imc") / "virtues_example" / "marker_embeddings"
PITCH_UM = 0.39  # of the files: 1,024 px are about 400 um
# Marker -> UniProt. None: P is the mass of phosphorus, Nuc a sum of nuclear channels; neither is a protein. CD45 is the isoform that the
# published vectors hold; PanKRT is KRT14 and HLADRDPDQ the alpha chain of HLA-DR, by the convention of the published panel.
PROTEINS: dict[str, str | None] = {
    "AR": "P10275",
    "CD11c": "P20702",
    "CD14": "P08571",
    "CD20": "P11836",
    "CD3": "P07766",
    "CD31": "P16284",
    "CD36": "P16671",
    "CD4": "P01730",
    "CD44": "P16070",
    "CD45": "P08575-8",
    "CD56": "P13591",
    "CD68": "P34810",
    "CD8": "P01732",
    "CK5": "P13647",
    "CK7": "P08729",
    "COLI": "P02452",
    "COX2": "P35354",
    "ECAD": "P12830",
    "ER": "P03372",
    "FAP": "Q12884",
    "FOXP3": "Q9BZS1",
    "GLUT1": "P11166",
    "GZMB": "P10144",
    "HER2": "P04626",
    "HH3": "P68431",
    "HIF1a": "Q16665",
    "HLADRDPDQ": "P01903",
    "IDO1": "P14902",
    "Ki67": "P46013",
    "MMP9": "P14780",
    "MPO": "P05164",
    "Nuc": None,
    "P": None,
    "P63": "Q9H3D4",
    "PD1": "Q15116",
    "PDL1": "Q9NZQ7",
    "PanKRT": "P02533",
    "SMA": "P62736",
    "Tryptase": "Q15661",
    "VIM": "P08670",
    "pS6": "P62753",
}


@dataclass(frozen=True)
class Squares:
    """What is held out. cells: row, column of the held-out cells of a grid of `across` x `across`. allowed: (h, w) bool, what training may
    touch. corners: (n, 2) of the crops that are measured on. cell_of: (n,) cell of each."""

    cells: tuple[tuple[int, int], ...]
    allowed: NDArray[np.bool_]
    corners: NDArray[np.int64]
    cell_of: tuple[int, ...]


def counts(data: Path) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """(names, (41, 1024, 1024) float32 ion counts) of the field."""
    import tifffile

    files = sorted((data / FIELD).glob("*.tif"))
    return tuple(f.stem for f in files), np.stack([tifffile.imread(f) for f in files]).astype(np.float32)


def field(data: Path, factor: int) -> MultiplexImage:
    """The field at `factor` times its pitch, each pixel the mean of factor x factor."""
    names, values = counts(data)
    return MultiplexImage(coarser(values, factor), names, PITCH_UM * factor)


def coarser(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """(C, h / factor, w / factor): means of factor x factor pixels."""
    c, h, w = values.shape
    result: NDArray[np.float32] = values.reshape(c, h // factor, factor, w // factor, factor).mean(axis=(2, 4))
    return result


def bank_for(proteins: Sequence[str | None], data: Path, seed: int = 0) -> tuple[MarkerBank, tuple[str, ...]]:
    """(bank, accessions whose vector is random): published vectors where there are some, else random ones, orthogonal to each other and to
    the published ones, of their mean length."""
    known = MarkerBank.from_folder(data / EMBEDDINGS)
    wanted = sorted({p for p in proteins if p})
    lacking = tuple(p for p in wanted if p not in known)
    held = np.stack([known.embedding(p) for p in known.embeddings])
    drawn = np.random.default_rng(seed).standard_normal((len(lacking), known.dim))
    basis = np.linalg.qr(np.concatenate([held, drawn]).T)[0].T[len(held) :]
    length = float(np.linalg.norm(held, axis=1).mean())
    vectors = {p: known.embedding(p) for p in wanted if p in known} | dict(zip(lacking, basis * length))
    return MarkerBank(vectors, "published ESM-2 vectors, random ones for the rest"), lacking


def squares(image: MultiplexImage, crop: int, gap: int, across: int = 4) -> Squares:
    """Held-out cells of an across x across grid: one per row and column, each with as many crops as fit; training keeps `gap` px off.

    Of all such arrangements the one whose held-out cells are most like the field: the least mean squared difference of the markers' mean
    counts, each over the field's. It is chosen by the counts alone, before anything is trained.
    """
    side = image.values.shape[1] // across
    cells = image.values.reshape(len(image.values), across, side, across, side).mean(axis=(2, 4))
    whole = np.maximum(image.values.mean(axis=(1, 2)), 1e-9)
    chosen = min(
        permutations(range(across)),
        key=lambda order: float(((np.mean([cells[:, r, c] for r, c in enumerate(order)], axis=0) / whole - 1) ** 2).mean()),
    )
    allowed = np.ones(image.values.shape[1:], bool)
    corners, cell_of = [], []
    for r, c in enumerate(chosen):
        top, left = r * side, c * side
        allowed[max(0, top - gap) : top + side + gap, max(0, left - gap) : left + side + gap] = False
        inside = [(top + i, left + j) for i in range(0, side - crop + 1, crop) for j in range(0, side - crop + 1, crop)]
        corners += inside
        cell_of += [r] * len(inside)
    return Squares(tuple(enumerate(chosen)), allowed, np.array(corners, np.int64), tuple(cell_of))


def reliability(
    names: Sequence[str], values: NDArray[np.float32], factor: int, tissue: NDArray[np.bool_], seed: int = 0
) -> dict[str, float]:
    """Marker -> correlation that two independent measurements of the same tissue would have after preprocessing, pixel by pixel.

    values: (C, h, w) counts; tissue: (h / factor, w / factor), where the 99th percentiles are taken and pixels compared. The counts are
    thinned into two halves (each ion goes to either with probability 1/2), the halves correlated and the result stepped up to whole
    measurements (Spearman-Brown). That takes counts as independent ions: a field that was denoised looks more reliable than it is.
    Markers without signal in a half are left out.
    """
    from ml.virtues.preprocess import blur, clipped_log, upper_quantiles

    first = np.random.default_rng(seed).binomial(values.astype(np.int64), 0.5).astype(np.float32)
    halves = []
    for half in (first, values - first):
        small = coarser(half, factor)
        halves.append(blur(clipped_log(small, upper_quantiles(small, tissue)))[:, tissue])
    found = {}
    for name, a, b in zip(names, *halves):
        if a.std() > 0 and b.std() > 0:
            r = float(np.corrcoef(a, b)[0, 1])
            found[name] = 2 * r / (1 + r)
    return found
