"""What the cell types are and which of the 40 proteins each carries.

Levels are arbitrary units with 1 = strongly positive; the published direction of each marker is what counts
(lineage markers of the HEX panel), not an exact amount.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ml.hex.panel import HEX_PANEL

CELL_TYPES: tuple[str, ...] = (
    "tumour",
    "fibroblast",
    "myofibroblast",
    "endothelial",
    "b_cell",
    "follicular_dendritic",
    "cd4_t",
    "regulatory_t",
    "cd8_t",
    "plasma",
    "macrophage",
    "dendritic",
    "neutrophil",
    "pneumocyte",
    "ghost",
)
CODE: dict[str, int] = {name: i for i, name in enumerate(CELL_TYPES)}

_LYMPHOID = {"CD45": 0.9, "HLA-E": 0.6, "Bcl-2": 0.6, "CD44": 0.6}
_T = {**_LYMPHOID, "CD3e": 1.0, "CD45RO": 0.7, "ICOS": 0.25, "PD-1": 0.3, "LAG3": 0.15}
_MYELOID = {"CD45": 0.7, "HLA-DR": 0.7, "CD44": 0.6, "CD14": 0.5, "VISTA": 0.5, "HLA-E": 0.5, "CD39": 0.4}

PROGRAMMES: dict[str, dict[str, float]] = {
    "tumour": {"Pan-Cytokeratin": 1.0, "EpCAM": 0.9, "E-cadherin": 0.8, "CD44": 0.4, "Ki67": 0.1, "HLA-E": 0.35, "Mac2/Galectin-3": 0.45},
    "fibroblast": {"FAP": 0.35, "aSMA": 0.2, "Collagen IV": 0.5, "CD44": 0.4, "HLA-E": 0.3, "Bcl-2": 0.15},
    "myofibroblast": {"FAP": 1.0, "aSMA": 1.0, "Collagen IV": 0.6, "MMP9": 0.35, "CD44": 0.4, "HLA-E": 0.3},
    "endothelial": {"CD31": 1.0, "Collagen IV": 0.9, "CD39": 0.7, "HLA-E": 0.6, "aSMA": 0.3, "CD44": 0.3},
    "b_cell": {**_LYMPHOID, "CD20": 1.0, "CD40": 0.8, "HLA-DR": 0.8, "CD21": 0.4, "TCF-1": 0.1},
    "follicular_dendritic": {"CD21": 1.0, "CD40": 0.5, "HLA-DR": 0.5, "CD45": 0.2, "VISTA": 0.2},
    "cd4_t": {**_T, "CD4": 1.0, "TCF-1": 0.6},
    "regulatory_t": {**_T, "CD4": 0.9, "FOXP3": 1.0, "ICOS": 0.8, "CD39": 0.8},
    "cd8_t": {**_T, "CD8": 1.0, "Granzyme B": 0.6, "TCF-1": 0.3, "PD-1": 0.5, "LAG3": 0.35},
    "plasma": {"CD138": 1.0, "CD45": 0.4, "CD44": 0.4, "HLA-E": 0.4, "Bcl-2": 0.4},
    "macrophage": {**_MYELOID, "CD68": 1.0, "CD163": 0.8, "Mac2/Galectin-3": 0.8, "CD4": 0.2, "MMP9": 0.3, "PD-L1": 0.3, "CD11c": 0.3},
    "dendritic": {**_MYELOID, "CD11c": 1.0, "HLA-DR": 1.0, "CD40": 0.6, "PD-L1": 0.3},
    "neutrophil": {"CD66b": 1.0, "MPO": 1.0, "MMP9": 0.8, "CD45": 0.5, "CD44": 0.6, "VISTA": 0.4},
    "pneumocyte": {"Pan-Cytokeratin": 0.7, "EpCAM": 0.6, "E-cadherin": 0.6, "HLA-E": 0.4, "HLA-DR": 0.3, "Collagen IV": 0.45},
    "ghost": {"HIF1A": 0.5, "Pan-Cytokeratin": 0.2, "Mac2/Galectin-3": 0.3},
}
DNA: dict[str, float] = {"tumour": 1.0, "ghost": 0.2, "neutrophil": 0.6, "fibroblast": 0.6, "follicular_dendritic": 0.5}

# Proteins that shape hardly tells: they get a large offset per patient and extra scatter per cell.
HIDDEN: tuple[str, ...] = ("PD-1", "LAG3", "VISTA", "ICOS", "CD39", "TCF-1", "HLA-E", "PD-L1", "Bcl-2", "CD45RO")


def programme_matrix() -> NDArray[np.float32]:
    """(cell types, 40) float32 mean level per cell type and marker, a small unspecific background included."""
    matrix = np.full((len(CELL_TYPES), len(HEX_PANEL)), 0.02, np.float32)
    for name, levels in PROGRAMMES.items():
        for marker, level in levels.items():
            matrix[CODE[name], HEX_PANEL.index(marker)] += level
    for name, row in CODE.items():
        matrix[row, HEX_PANEL.index("DAPI")] = DNA.get(name, 0.9)
    return matrix
