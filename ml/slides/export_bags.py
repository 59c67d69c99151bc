"""Our bags as the files that TRIDENT and CLAM write, so that tools built on those read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ml.slides.bag_writer import bag_writer
from ml.slides.features import read_bag
from ml.slides.files import whole_file
from ml.types import TileGrid


def export_trident(bag_file: str | Path, out: str | Path, name: str) -> list[Path]:
    """<out>/<mag>x_<px>px_0px_overlap/features_<encoder>/<name>.h5 and .../patches/<name>_patches.h5. Errors as `read_bag`."""
    bag = read_bag(bag_file)
    attrs = _own_attrs(bag_file) | {"name": name}
    magnification, px = float(attrs["target_magnification"]), int(attrs["patch_size"])
    folder = Path(out) / f"{magnification:g}x_{px}px_0px_overlap"
    features = folder / f"features_{_plain(bag.encoder)}" / f"{name}.h5"
    with bag_writer(features, bag.grid, bag.features.shape[1], bag.encoder, attrs) as writer:
        writer.append(bag.features)
    patches = folder / "patches" / f"{name}_patches.h5"
    _coords(patches, bag.grid.xy, attrs)
    return [features, patches]


def export_clam(bag_file: str | Path, out: str | Path, name: str) -> list[Path]:
    """<out>/h5_files/<name>.h5, <out>/pt_files/<name>.pt and <out>/patches/<name>.h5. Errors as `read_bag`."""
    import torch

    bag = read_bag(bag_file)
    h5, pt, patches = (
        Path(out) / folder / f"{name}{suffix}" for folder, suffix in (("h5_files", ".h5"), ("pt_files", ".pt"), ("patches", ".h5"))
    )
    with bag_writer(h5, bag.grid, bag.features.shape[1], bag.encoder, {"name": name}) as writer:
        writer.append(bag.features)
    with whole_file(pt) as part:
        torch.save(torch.from_numpy(np.ascontiguousarray(bag.features)), part)
    _coords(patches, bag.grid.xy, {**clam_attrs(bag.grid), "name": name})
    return [h5, pt, patches]


EXPORTS = {"trident": export_trident, "clam": export_clam}


def clam_attrs(grid: TileGrid) -> dict[str, Any]:
    """What CLAM keeps on `coords`: the tile in px of level 0."""
    return {
        "patch_size": round(grid.tile_px0),
        "patch_level": 0,
        "downsample": np.array([1.0, 1.0]),
        "level_dim": np.array(grid.slide_size),
        "downsampled_level_dim": np.array(grid.slide_size),
    }


def _own_attrs(bag_file: str | Path) -> dict[str, Any]:
    with h5py.File(bag_file, "r") as file:
        return dict(file["coords"].attrs)


def _coords(path: Path, xy: NDArray[np.int64], attrs: dict[str, Any]) -> None:
    with whole_file(path) as part, h5py.File(part, "w") as file:
        file.create_dataset("coords", data=np.asarray(xy, np.int64)).attrs.update(attrs)


def _plain(name: str) -> str:
    """An encoder's name as part of a folder's name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
