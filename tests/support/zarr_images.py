"""OME-Zarr images as other programs write them: 0.4 (zarr 2) and 0.5 (zarr 3), with shards or without, whole or with a lost chunk."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from multiplex_pictures import NAME, PANEL


def write_zarr(
    folder: Path, picture: np.ndarray, version: str = "0.5", names: tuple[str, ...] | None = PANEL, axes: str = "cyx", um: float = 0.5,
    unit: str | None = "micrometer", chunks: tuple[int, ...] | None = None, shards: tuple[int, ...] | None = None, every: bool = True,
    **more: Any,
) -> Path:  # fmt: skip
    """picture: (channels, height, width); axes may name t and z. every: write chunks of zeros, too. The patient's name is in it."""
    import zarr

    three = version == "0.5"
    shape = tuple({"c" if "c" in axes else "z": picture.shape[0], "y": picture.shape[1], "x": picture.shape[2]}.get(a, 1) for a in axes)
    group = zarr.open_group(str(folder), mode="w", zarr_format=3 if three else 2)
    chunks = chunks or tuple({"c": 1, "y": 128, "x": 128}.get(a, 1) for a in axes)
    config: Any = {"write_empty_chunks": every}
    options: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if not three else {}
    array = group.create_array("0", shape=shape, dtype=picture.dtype, chunks=chunks, shards=shards, config=config, **(options | more))
    array[:] = picture.reshape(shape)
    kinds = {"c": {"type": "channel"}, "t": {"type": "time"}}
    described = [{"name": a, **kinds.get(a, {"type": "space"} | ({"unit": unit} if unit and a in "yxz" else {}))} for a in axes]
    scale = [um if a in "yx" else 1.0 for a in axes]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    multiscale = {"name": NAME, "axes": described, "datasets": datasets}
    attributes: dict[str, Any] = {"multiscales": [multiscale | ({} if three else {"version": "0.4"})]}
    if names:
        attributes["omero"] = {"channels": [{"label": name, "color": "ffffff"} for name in names]}
    group.attrs.update({"ome": attributes | {"version": "0.5"}} if three else attributes)
    return folder


def zip_tree(folder: Path, target: Path) -> Path:
    """The folder with all below it, stored, as the top folder of an archive."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")
    return target
