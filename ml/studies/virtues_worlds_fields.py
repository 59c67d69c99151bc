"""Fields of simulated cohorts, what is true of them, and a representation of them as samples of niches, patches and cells.

A representation is a function from an image to an `Embedded`. Mean intensities are one, and stay in every table as what to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ml.simulate.multiplex import SimulatedMultiplex
from ml.simulate.multiplex_cohort import CohortConfig, MultiplexPatient, multiplex_patient
from ml.simulate.multiplex_panel import MARKERS, PANELS
from ml.simulate.multiplex_truth import NICHE_PX, kept_boxes, majority_niches
from ml.virtues.preprocess import Standard, preprocess, upper_quantiles

F32, F64, I64 = NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]
PATCH_PX = 8
CONTEXT_PX = 12.0  # sd of the neighbourhood that "intensities around" looks at
REFERENCE_SEED = 500_000  # added to the seed: patients that representations are trained and standardised on, nobody of the cohort


@dataclass(frozen=True)
class Field:
    """Tissue k of a patient; its image (20 MB at 512 px) is made when asked for, and kept as long as the field."""

    patient: MultiplexPatient
    k: int

    def image(self) -> SimulatedMultiplex:
        """The same every time."""
        return self._made

    @cached_property
    def _made(self) -> SimulatedMultiplex:
        return self.patient.multiplex(self.k)


@dataclass(frozen=True)
class Embedded:
    """niches: (k, d) of the kept central boxes, row by row. patches: (H // 8, W // 8, d). cells: (n, d) in the order of the cell table, or
    (0, d) where they were not asked for."""

    niches: F32
    patches: F32
    cells: F32


# An image, and whether its cells are wanted.
Embed = Callable[[SimulatedMultiplex, bool], Embedded]


@dataclass(frozen=True)
class Samples:
    """What is kept of all fields. niches: per field (k, d); box_niche: per field (k,) true majority niche. patches (n, d), patch_niche and
    patch_field (n,); cells (m, d), cell_kind and cell_field (m,): drawn per field, the same for every representation."""

    niches: list[F32]
    box_niche: list[I64]
    patches: F32
    patch_niche: I64
    patch_field: I64
    cells: F32
    cell_kind: I64
    cell_field: I64


@lru_cache(maxsize=2)
def fields(n_patients: int, seed: int, config: CohortConfig) -> tuple[Field, ...]:
    """All tissues of the patients 0 .. n - 1 of the cohort `seed`."""
    people = [multiplex_patient(i, seed, config) for i in range(n_patients)]
    return tuple(Field(p, k) for p in people for k in range(len(p.tissues)))


def standard(given: Sequence[Field]) -> Standard:
    """Means and deviations per accession over these fields."""
    return Standard.of((m.uniprot, m.image, m.tissue_mask) for m in (f.image() for f in given))


def shared_proteins(panels: Sequence[str]) -> tuple[str, ...]:
    """Accessions that all these panels have, in the order of the first."""
    return tuple(MARKERS[name].uniprot for name in PANELS[panels[0]] if all(name in PANELS[p] for p in panels))


def standardised(m: SimulatedMultiplex, norm: Standard, proteins: Sequence[str]) -> F32:
    """(C, H, W) of these proteins, as VirTues sees them."""
    rows = [m.uniprot.index(p) for p in proteins]
    raw = m.image[rows]
    return preprocess(raw, upper_quantiles(raw, m.tissue_mask), *norm.rows(proteins))


def mean_intensities(norm: Standard, proteins: Sequence[str], context_px: float = 0.0) -> Embed:
    """Means of standardised intensities over boxes, patches and cells. context_px: patches and cells look at a Gaussian neighbourhood, too:
    its mean is appended to their own."""

    def embed(m: SimulatedMultiplex, with_cells: bool = True) -> Embedded:
        x = standardised(m, norm, proteins)
        niches = np.stack([x[:, r : r + NICHE_PX, c : c + NICHE_PX].mean(axis=(1, 2)) for r, c in kept_boxes(m.tissue_mask)])
        seen = [x]
        if context_px:
            seen.append(np.stack([ndimage.gaussian_filter(channel, context_px, truncate=3.0) for channel in x]))
        patches = np.concatenate([patch_means(v) for v in seen], axis=2)
        cells = np.concatenate([cell_means(v, m) for v in seen], axis=1) if with_cells else np.empty((0, patches.shape[2]), np.float32)
        return Embedded(niches, patches, cells)

    return embed


def patch_means(x: F32) -> F32:
    """(C, H, W) -> (H // 8, W // 8, C)."""
    rows, cols = (v // PATCH_PX for v in x.shape[1:])
    blocks = x[:, : rows * PATCH_PX, : cols * PATCH_PX].reshape(len(x), rows, PATCH_PX, cols, PATCH_PX)
    return np.moveaxis(blocks.mean(axis=(2, 4)), 0, -1)


def cell_means(x: F32, m: SimulatedMultiplex) -> F32:
    """(C, H, W) -> (n cells, C) in the order of the cell table."""
    inside = m.mask > 0
    place = np.searchsorted(m.cells.id, m.mask[inside])
    area = np.bincount(place, minlength=len(m.cells))
    return np.stack([np.bincount(place, channel[inside], minlength=len(m.cells)) / area for channel in x], axis=1).astype(np.float32)


def sample(given: Sequence[Field], embed: Embed, patches: int, cells: int, cell_every: int = 1) -> Samples:
    """Embeds every field and keeps up to so many patches (of tissue) and cells of each, drawn without looking at the representation.

    cell_every: cells of each so-many-th field only, beginning with the first.
    """
    rows = [
        _one(f, embed, patches, 0 if i % cell_every else cells, np.random.default_rng([31, f.patient.seed, f.patient.assigned.index, f.k]))
        for i, f in enumerate(given)
    ]
    columns = list(zip(*rows))
    which = [np.repeat(np.arange(len(rows)), [len(part) for part in columns[k]]) for k in (3, 5)]
    joined = [np.concatenate(columns[k]) for k in (2, 3, 4, 5)]
    return Samples(list(columns[0]), list(columns[1]), joined[0], joined[1], which[0], joined[2], joined[3], which[1])


def _one(field: Field, embed: Embed, patches: int, cells: int, rng: np.random.Generator) -> tuple[Any, ...]:
    m = field.image()
    e = embed(m, cells > 0)
    truth = majority_niches(m, PATCH_PX).astype(np.int64)
    row, col = _some(rng, np.argwhere(truth > 0), patches).T
    chosen = _some(rng, np.arange(len(m.cells)), cells)
    return e.niches, box_niches(m), e.patches[row, col], truth[row, col], e.cells[chosen], m.cells.kind[chosen].astype(np.int64)


def _some(rng: np.random.Generator, rows: NDArray[Any], most: int) -> NDArray[Any]:
    return rows[np.sort(rng.permutation(len(rows))[:most])]


def box_niches(m: SimulatedMultiplex) -> I64:
    """(k,) the niche that covers most of the tissue of each kept box."""
    parts = (m.niche_map[r : r + NICHE_PX, c : c + NICHE_PX] for r, c in kept_boxes(m.tissue_mask))
    return np.array([1 + np.bincount(part.ravel(), minlength=7)[1:].argmax() for part in parts], np.int64)


def pictures(given: Sequence[Field]) -> Iterator[NDArray[np.uint8]]:
    """H&E of each field."""
    for field in given:
        yield field.patient.picture(field.k)
