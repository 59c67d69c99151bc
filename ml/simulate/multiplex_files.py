"""A simulated field as files that other programs read: OME-TIFF with named channels, mask, cell table, panel."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from ml.simulate.multiplex import MPP, SimulatedMultiplex
from ml.simulate.niches import NICHES
from ml.simulate.programmes import CELL_TYPES


class MultiplexFiles(NamedTuple):
    """Where the files of one field lie."""

    image: Path
    mask: Path
    cells: Path
    panel: Path


def write_multiplex(folder: str | Path, stem: str, m: SimulatedMultiplex) -> MultiplexFiles:
    """<stem>.ome.tif (float32 counts, channel names, um per px), <stem>_mask.tif (int32 labels), <stem>_cells.csv, <stem>_panel.csv."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = MultiplexFiles(*(folder / f"{stem}{end}" for end in (".ome.tif", "_mask.tif", "_cells.csv", "_panel.csv")))
    size = {f"PhysicalSize{axis}": MPP for axis in "XY"} | {f"PhysicalSize{axis}Unit": "µm" for axis in "XY"}
    metadata: dict[str, Any] = {"axes": "CYX", "Channel": {"Name": list(m.names)}, **size}
    options: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib", "software": "tissueboard simulator"}
    tifffile.imwrite(files.image, m.image, ome=True, metadata=metadata, tile=(256, 256), **options)
    resolution = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(files.mask, m.mask, metadata=None, **resolution, **options)
    cells = m.cells
    _write(
        files.cells,
        ("cell_id", "cell_type", "niche", "x_um", "y_um"),
        zip(
            cells.id.tolist(),
            [CELL_TYPES[k] for k in cells.kind],
            [NICHES[k] for k in cells.niche],
            np.round(cells.x_um.astype(float), 2).tolist(),
            np.round(cells.y_um.astype(float), 2).tolist(),
        ),
    )
    _write(files.panel, ("channel", "name", "uniprot"), ((k, x.name, x.uniprot) for k, x in enumerate(m.markers, 1)))
    return files


def _write(path: Path, head: tuple[str, ...], rows: Any) -> None:
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([head, *rows])
