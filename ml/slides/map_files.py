"""Virtual maps on disk: OME-Zarr 0.5 (zarr 3), readable by napari and QuPath, with our own facts beside the channel names.

Axes c, y, x; `scale` is um per cell and `translation` the um of the centre of the first cell from the slide's corner.
OME-NGFF 0.5 specification.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ml.types import VirtualMap

FORMAT = "tissueboard-map/1"


class MapFileError(ValueError):
    """A folder is not a map that we can read: code, sentence, hint."""

    def __init__(self, sentence: str, hint: str = "Run the model on the slide again.") -> None:
        super().__init__(sentence)
        self.code, self.sentence, self.hint = "MAP_UNREADABLE", sentence, hint


def write_map(folder: str | Path, virtual: VirtualMap, mpp: float) -> None:
    """Writes a map as one OME-Zarr group. mpp: um per px0 of its slide. The folder must not exist yet."""
    import zarr

    group = zarr.open_group(str(folder), mode="w-", zarr_format=3)
    channels, rows, cols = virtual.values.shape
    chunk = (1, min(rows, 512), min(cols, 512))
    # A chunk of zeros must be a file too: only then does a missing file mean a lost chunk.
    every: Any = {"write_empty_chunks": True}
    group.create_array(
        "0", data=np.ascontiguousarray(virtual.values, np.float32), chunks=chunk, dimension_names=("c", "y", "x"), config=every
    )
    for name, axes in (("out_of_range", ("y", "x")), ("spread", ("c", "y", "x"))):
        layer = getattr(virtual, name)
        if layer is not None:
            data = np.ascontiguousarray(layer, np.float32)
            group.create_array(name, data=data, chunks=chunk[-data.ndim :], dimension_names=axes, config=every)
    origin = [(o + virtual.step_px0 / 2) * mpp for o in virtual.origin_px0]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "name": "virtual map",
                "axes": [
                    {"name": "c", "type": "channel"},
                    {"name": "y", "type": "space", "unit": "micrometer"},
                    {"name": "x", "type": "space", "unit": "micrometer"},
                ],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [1.0, virtual.pitch_um, virtual.pitch_um]},
                            {"type": "translation", "translation": [0.0, origin[1], origin[0]]},
                        ],
                    }
                ],
            }
        ],
        "omero": {"channels": [{"label": name} for name in virtual.names]},
    }
    group.attrs["tissueboard"] = {
        "format": FORMAT,
        "names": list(virtual.names),
        "pitch_um": virtual.pitch_um,
        "origin_px0": list(virtual.origin_px0),
        "step_px0": virtual.step_px0,
        "unit": virtual.unit,
        "effective_resolution_um": virtual.effective_resolution_um,
        "shape": [channels, rows, cols],
    }


def read_map(folder: str | Path, channel: int | None = None) -> VirtualMap:
    """Reads what `write_map` wrote; of one channel alone, if it is named by its place (IndexError where there is none).

    MapFileError when it is not there, of another format, or chunks are missing (a zarr reader fills these with zeros without saying so).
    """
    import zarr

    folder = Path(folder)
    if not (folder / "zarr.json").is_file():
        raise MapFileError(f"There is no map {folder.name}.")
    group = zarr.open_group(str(folder), mode="r")
    facts: Any = group.attrs.get("tissueboard", {})
    if facts.get("format") != FORMAT:
        raise MapFileError(f"The folder {folder.name} is not a map of tissueboard.")
    names = tuple(facts["names"]) if channel is None else (facts["names"][channel],)
    layers: dict[str, Any] = {}
    for name in ("0", "out_of_range", "spread"):
        if name not in group:
            continue
        array: Any = group[name]
        if array.nchunks_initialized != array.nchunks:
            raise MapFileError(f"The map {folder.name} has lost {array.nchunks - array.nchunks_initialized} of its chunks.")
        part = slice(None) if channel is None or name == "out_of_range" else slice(channel, channel + 1)
        layers[name] = np.asarray(array[part], dtype=np.float32)
    return VirtualMap(
        values=layers["0"],
        names=names,
        pitch_um=float(facts["pitch_um"]),
        origin_px0=(float(facts["origin_px0"][0]), float(facts["origin_px0"][1])),
        step_px0=float(facts["step_px0"]),
        unit=facts["unit"],
        effective_resolution_um=facts["effective_resolution_um"],
        out_of_range=layers.get("out_of_range"),
        spread=layers.get("spread"),
    )
