"""Markers of the simulated multiplex assay, with their UniProt accessions, and three overlapping panels.

A marker reads one or more of the 40 proteins that the simulator's cells carry. Composite and non-protein channels take the accession that
VirTues' example panel gives them (pan-cytokeratin: KRT14, CD31 + vWF: vWF, CD15: FUT4, a nuclear stain: histone H3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ml.hex.panel import HEX_PANEL

Place = Literal["nucleus", "membrane", "cytoplasm", "matrix"]


@dataclass(frozen=True)
class Marker:
    """One channel. uniprot: accession. place: where in (or between) cells it lies. counts: mean counts per px where it is fully positive.

    reads: (protein of HEX_PANEL, weight) pairs; the level of a cell is their weighted sum.
    """

    name: str
    uniprot: str
    place: Place
    counts: float
    reads: tuple[tuple[str, float], ...]


def _marker(name: str, uniprot: str, place: Place, counts: float, *reads: str, **weighted: float) -> Marker:
    return Marker(name, uniprot, place, counts, tuple((r, 1.0) for r in reads) + tuple(weighted.items()))


MARKERS: dict[str, Marker] = {
    m.name: m
    for m in (
        _marker("Histone H3", "P68431", "nucleus", 14.0, "DAPI"),
        _marker("Pan-Cytokeratin", "P02533", "cytoplasm", 12.0, "Pan-Cytokeratin"),
        _marker("E-cadherin", "P12830", "membrane", 6.0, "E-cadherin"),
        _marker("CD45RO", "P08575-8", "membrane", 5.0, "CD45RO", CD45=0.3),
        _marker("CD3e", "P07766", "membrane", 6.0, "CD3e"),
        _marker("CD8a", "P01732", "membrane", 7.0, "CD8"),
        _marker("CD4", "P01730", "membrane", 4.0, "CD4"),
        _marker("FOXP3", "Q9BZS1", "nucleus", 3.5, "FOXP3"),
        _marker("TCF1", "P36402", "nucleus", 3.0, "TCF-1"),
        _marker("PD-1", "Q15116", "membrane", 2.5, "PD-1"),
        _marker("Granzyme B", "P10144", "cytoplasm", 4.0, "Granzyme B"),
        _marker("CD20", "P11836", "membrane", 9.0, "CD20"),
        _marker("CD21", "P20023", "membrane", 6.0, "CD21"),
        _marker("CD138", "P18827", "membrane", 5.0, "CD138"),
        _marker("HLA-DR", "P01903", "membrane", 7.0, "HLA-DR"),
        _marker("CD68", "P34810", "cytoplasm", 6.0, "CD68"),
        _marker("CD163", "Q86VB7", "membrane", 5.0, "CD163"),
        _marker("CD11c", "P20702", "membrane", 4.0, "CD11c"),
        _marker("MPO", "P05164", "cytoplasm", 8.0, "MPO"),
        _marker("CD15", "P22083", "membrane", 5.0, "CD66b"),
        _marker("aSMA", "P62736", "cytoplasm", 11.0, "aSMA"),
        _marker("FAP", "Q12884", "membrane", 4.0, "FAP"),
        _marker("Vimentin", "P08670", "cytoplasm", 9.0, "FAP", aSMA=0.3, CD31=0.7, CD45=0.5),
        _marker("CD31 + vWF", "P04275", "membrane", 7.0, "CD31"),
        _marker("Collagen I", "P02452", "matrix", 8.0, FAP=0.3),
        _marker("MMP9", "P14780", "cytoplasm", 3.0, "MMP9"),
        _marker("CAIX", "Q16790", "membrane", 6.0, "HIF1A"),
        _marker("Ki-67", "P46013", "nucleus", 7.0, "Ki67"),
    )
}

_SHARED = ("Histone H3", "Pan-Cytokeratin", "CD3e", "CD8a", "CD20", "CD68", "aSMA", "Ki-67")
PANELS: dict[str, tuple[str, ...]] = {
    "broad": (*_SHARED, "CD4", "FOXP3", "CD45RO", "HLA-DR", "MPO", "FAP", "Vimentin", "CD31 + vWF", "Collagen I", "CAIX", "TCF1", "PD-1"),
    "lymphoid": (*_SHARED, "CD4", "FOXP3", "CD45RO", "TCF1", "PD-1", "Granzyme B", "CD21", "CD138"),
    "stroma": (*_SHARED[:3], *_SHARED[4:7], "HLA-DR", "CD163", "MPO", "FAP", "Collagen I", "CD31 + vWF", "MMP9", "E-cadherin"),
}


def panel_markers(panel: str) -> tuple[Marker, ...]:
    """The markers of a panel in the order of its channels; KeyError names the panels."""
    if panel not in PANELS:
        raise KeyError(f"There is no panel {panel!r}; there are {', '.join(PANELS)}.")
    return tuple(MARKERS[name] for name in PANELS[panel])


def marker_levels(proteins: NDArray[np.float32], markers: tuple[Marker, ...]) -> NDArray[np.float32]:
    """(n_cells, 40) proteins in the order of HEX_PANEL -> (n_cells, C) float32 levels, 1 = strongly positive."""
    weights = np.zeros((len(HEX_PANEL), len(markers)), np.float32)
    for k, marker in enumerate(markers):
        for protein, weight in marker.reads:
            weights[HEX_PANEL.index(protein), k] = weight
    return np.asarray(proteins @ weights, np.float32)
