"""Writing a feature bag block by block: memory stays flat, a full disk is told by the system, the file is whole and checked or absent.

The vectors lie in one piece (contiguous, uncompressed): a full read is one copy, and a row is found by its number. HDF5 makes the file with
the room for them; they are then written straight into that room, so that an error of the disk never meets HDF5 in the middle of its work.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from ml.slides.files import whole_file
from ml.slides.findings import FindingCode, SlideError
from ml.types import TileGrid

SHA256 = "sha256"
READ_BACK = 1 << 24  # bytes at a time


class BagWriter:
    """Takes the vectors of a bag in order. Made by `bag_writer`."""

    def __init__(self, path: Path, offset: int | None, n: int, dim: int) -> None:
        self.n, self.dim, self.rows = n, dim, 0
        self._digest = hashlib.sha256()
        self._at = offset or 0
        self._file = os.open(path, os.O_WRONLY)
        if n * dim:
            os.posix_fallocate(self._file, self._at, n * dim * 4)  # a disk that is too full is known before anything is written

    def append(self, features: NDArray[np.float32]) -> None:
        """(k, dim) float32, the vectors of the next k tiles. SlideError BAG_INVALID: wrong shape, NaN or infinity. OSError: the disk."""
        features = np.ascontiguousarray(features, "<f4")
        if features.ndim != 2 or features.shape[1] != self.dim or self.rows + len(features) > self.n:
            raise invalid(f"vectors of shape {features.shape} were given after {self.rows} of {self.n} tiles with {self.dim} values each")
        if not np.isfinite(features).all():
            raise invalid(f"{int((~np.isfinite(features)).any(axis=1).sum())} feature vectors hold NaN or infinity")
        left = features.data.cast("B") if features.size else memoryview(b"")
        self._digest.update(left)
        while left:
            written = os.pwrite(self._file, left, self._at)
            self._at, left = self._at + written, left[written:]
        self.rows += len(features)

    def close(self) -> None:
        os.close(self._file)

    def sha256(self) -> str:
        return self._digest.hexdigest()


@contextmanager
def bag_writer(
    path: str | Path,
    grid: TileGrid,
    dim: int,
    encoder: str,
    attrs: Mapping[str, Any] | None = None,
    skipped: Sequence[tuple[int, int, int, str]] = (),
    facts: Mapping[str, Any] | None = None,
) -> Iterator[BagWriter]:
    """A file for the vectors of the tiles of `grid`; after the block it is complete, read back, synced and renamed, or absent.

    attrs: more for `coords` (name, patch_size ...). facts: more for the file itself. skipped: (row, x px0, y px0, reason) of the tiles
    that could not be read, which are not among those of the grid.
    Errors: SlideError BAG_INVALID (not all vectors came, or what lies on the disk is not what was written); OSError of the disk.
    """
    with whole_file(path) as part:
        offset = _frame(part, grid, dim, encoder, dict(attrs or {}), skipped, dict(facts or {}))
        writer = BagWriter(part, offset, len(grid), dim)
        try:
            yield writer
        finally:
            writer.close()
        if writer.rows != len(grid):
            raise invalid(f"there are {writer.rows} feature vectors for {len(grid)} tiles")
        with h5py.File(part, "r+") as file:
            file["features"].attrs[SHA256] = writer.sha256()
        if features_sha256(part) != writer.sha256():
            raise invalid("what was read back from the disk is not what was written")


def features_sha256(path: str | Path) -> str:
    """SHA-256 over the vectors of a file, row by row in float32, read in bounded memory. Errors of h5py."""
    digest = hashlib.sha256()
    with h5py.File(path, "r") as file:
        stored = cast(h5py.Dataset, file["features"])
        step = max(1, READ_BACK // max(1, int(np.prod(stored.shape[1:])) * 4))
        for start in range(0, stored.shape[0], step):
            digest.update(np.ascontiguousarray(stored[start : start + step], "<f4").tobytes())
    return digest.hexdigest()


def _frame(part: Path, grid: TileGrid, dim: int, encoder: str, attrs: dict[str, Any], skipped: Any, facts: dict[str, Any]) -> int | None:
    """Everything but the vectors; where in the file they go (None: there are none)."""
    with h5py.File(part, "w") as file:
        file.attrs.update(facts)
        stored = _reserve(file, "features", (len(grid), dim))
        stored.attrs.update({"name": encoder, "encoder": encoder, SHA256: "0" * 64})
        coords = file.create_dataset("coords", data=np.asarray(grid.xy, np.int64))
        coords.attrs.update({**trident_attrs(grid), "encoder": encoder, **attrs})
        if grid.tissue is not None:
            file.create_dataset("tissue", data=np.asarray(grid.tissue, np.float32))
        places = np.array([row[:3] for row in skipped], np.int64).reshape(-1, 3)
        told = file.create_dataset("skipped", data=places)
        told.attrs["columns"] = "row, x px0, y px0"
        file.create_dataset("skipped_reasons", data=[row[3] for row in skipped], dtype=h5py.string_dtype(), shape=(len(places),))
        offset = stored.id.get_offset()
    return None if offset is None else int(offset)


def _reserve(file: h5py.File, name: str, shape: tuple[int, int]) -> h5py.Dataset:
    """A contiguous float32 dataset that has its place in the file at once and is not filled."""
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_layout(h5py.h5d.CONTIGUOUS)
    create.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    create.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    create.set_obj_track_times(False)  # the same bag is the same bytes
    return h5py.Dataset(h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(shape), create))


def trident_attrs(grid: TileGrid) -> dict[str, Any]:
    """What TRIDENT keeps on `coords`. Without a word about the px that the encoder saw, tiles count as read at level 0."""
    magnification = round(10.0 / grid.mpp, 2)  # the field's convention: 0.25 um per px0 is 40x
    side = round(grid.tile_px0)
    return {
        "patch_size": side,
        "patch_size_level0": side,
        "level0_magnification": magnification,
        "target_magnification": magnification,
        "overlap": 0,
        "level0_width": grid.slide_size[0],
        "level0_height": grid.slide_size[1],
        "name": "",
        "mpp": grid.mpp,
        "tile_px0": grid.tile_px0,
    }


def invalid(problem: str) -> SlideError:
    return SlideError(FindingCode.BAG_INVALID, f"The feature bag is not valid: {problem}.", "Run the encoder on the slide again.")
