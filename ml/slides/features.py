"""Feature bags on disk: HDF5 in the layout that TRIDENT writes and CLAM reads, with our own facts beside it.

Datasets `features` (n, d) float32 and `coords` (n, 2) int64 (top-left corners, px0); TRIDENT's attributes sit on `coords`, the
encoder's name on `features`. Ours: `mpp`, `tile_px0` on `coords`, `sha256` on `features`, `tissue` (n,) float32, and `skipped` (k, 3)
int64 with `skipped_reasons` for tiles that could not be read and are left out.
Zhang A. et al. Accelerating data processing and benchmarking of AI models for pathology. arXiv:2502.06750 (TRIDENT).
Lu MY. et al. Data-efficient and weakly supervised computational pathology on whole-slide images. Nat Biomed Eng 2021 (CLAM).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.slides.bag_writer import SHA256, bag_writer, features_sha256, invalid
from ml.slides.findings import FindingCode, SlideError
from ml.types import FeatureBag, TileGrid


@dataclass(frozen=True)
class BagFacts:
    """What a file says about itself. skipped: row -> reason. attrs: of the file itself. sha256: over the vectors, "" in foreign files."""

    n: int
    dim: int
    encoder: str
    sha256: str
    skipped: dict[int, str] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)


def write_bag(path: str | Path, bag: FeatureBag, attrs: Mapping[str, Any] | None = None) -> None:
    """Write a bag; the file is whole or absent (temporary file, read back, fsync, rename).

    attrs: more facts for `coords`, e.g. name (of the slide, without identifiers), patch_size (px that the encoder saw), overlap,
    target_magnification. Error: SlideError BAG_INVALID when features and grid do not belong together or hold NaN.
    """
    features = np.ascontiguousarray(bag.features, np.float32)
    _validate(features, bag.grid)
    with bag_writer(path, bag.grid, features.shape[1], bag.encoder, attrs) as writer:
        writer.append(features)


def read_rows(path: str | Path, rows: ArrayLike) -> NDArray[np.float32]:
    """(k, d) float32: the vectors of k tiles in the order asked for, without reading the others where the file's layout allows.

    Errors: IndexError for a row that is not there; SlideError as `read_bag`.
    """
    path, wanted = Path(path), np.asarray(rows, np.int64)
    with _open(path) as file, _readable(path):
        stored = cast(h5py.Dataset, file["features"])
        n, lead = stored.shape[-2], stored.ndim == 3
        if wanted.size and (wanted.min() < 0 or wanted.max() >= n):
            raise IndexError(f"The file {path.name} holds the rows 0 to {n - 1}; {wanted.min()} to {wanted.max()} were asked for.")
        offset = stored.id.get_offset()
        plain = stored.chunks is None and stored.compression is None and stored.dtype == np.dtype("<f4") and not stored.is_virtual
        if offset is not None and plain and not stored.external:
            if path.stat().st_size < offset + stored.size * 4:
                raise OSError("its vectors end before their time")
            return np.array(np.memmap(path, "<f4", "r", offset, (n, stored.shape[-1]))[wanted])
        return _gather(stored, wanted, lead)


def _gather(stored: h5py.Dataset, wanted: NDArray[np.int64], lead: bool) -> NDArray[np.float32]:
    """Rows of a chunked dataset: each chunk that holds one is read once."""
    out = np.empty((len(wanted), stored.shape[-1]), np.float32)
    step = max(stored.chunks[-2] if stored.chunks else 0, 64)
    order = np.argsort(wanted, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(wanted[order] // step)) + 1):
        if len(members):
            first, last = int(wanted[members[0]]), int(wanted[members[-1]]) + 1
            piece = stored[0, first:last] if lead else stored[first:last]
            out[members] = piece[wanted[members] - first]
    return out


def check_bag(path: str | Path, contents: bool = True) -> BagFacts:
    """What a file holds, after opening it and counting; contents also compares the vectors with their checksum, in bounded memory.

    A file is done only if this passes. Errors: SlideError FILE_MISSING, BAG_UNREADABLE, BAG_INVALID.
    """
    path = Path(path)
    with _open(path) as file, _readable(path):
        features, coords = cast(h5py.Dataset, file["features"]), cast(h5py.Dataset, file["coords"])
        n, dim = features.shape[-2:]
        told = cast(h5py.Dataset, file["skipped"])[:, 0].tolist() if "skipped" in file else []
        reasons = cast(h5py.Dataset, file["skipped_reasons"]).asstr()[:].tolist() if told else []
        attrs = {name: _plain(value) for name, value in file.attrs.items()}
        facts = BagFacts(n, dim, _encoder(file), str(features.attrs.get(SHA256, "")), dict(zip(told, reasons)), attrs)
        places = coords.shape[-2]
    if n != places:
        raise invalid(f"there are {n} feature vectors for {places} tiles")
    if contents and facts.sha256:
        with _readable(path):
            found = features_sha256(path)
        if found != facts.sha256:
            raise invalid("its vectors are not those that were written")
    return facts


def read_bag(path: str | Path, mpp: float | None = None) -> FeatureBag:
    """Read a bag that we or TRIDENT wrote (also with a leading batch axis of one).

    mpp: um per px0, needed only for files that do not state it (TRIDENT's do not).
    Errors: SlideError FILE_MISSING, BAG_UNREADABLE (truncated or not HDF5), BAG_INVALID, MPP_MISSING.
    """
    path = Path(path)
    with _open(path) as file, _readable(path):
        features = _flat(np.asarray(file["features"]), 2).astype(np.float32, copy=False)
        xy = _flat(np.asarray(file["coords"]), 2).astype(np.int64, copy=False)
        tissue = np.asarray(file["tissue"], np.float32) if "tissue" in file else None
        facts, encoder = {**dict(file.attrs), **dict(file["coords"].attrs)}, _encoder(file)
    grid = _grid(path, xy, facts, tissue, mpp)
    _validate(features, grid)
    return FeatureBag(features, grid, encoder)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What h5py says about a damaged file, as a finding."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise SlideError(
            FindingCode.BAG_UNREADABLE,
            f"The feature file {path.name} is truncated or not a feature file ({error}).",
            "Run the encoder on the slide again.",
        ) from error


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    if not path.is_file():
        raise SlideError(FindingCode.FILE_MISSING, f"There is no feature file {path.name}.", "Run the encoder on the slide.")
    with _readable(path):
        file = h5py.File(path, "r")
    with file:
        yield file


def _encoder(file: h5py.File) -> str:
    facts = {**dict(file.attrs), **dict(file["coords"].attrs)}
    return str(_plain(file["features"].attrs.get("name", facts.get("encoder", "unknown"))))


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value


def _grid(path: Path, xy: NDArray[np.int64], facts: Mapping[str, Any], tissue: NDArray[np.float32] | None, mpp: float | None) -> TileGrid:
    mpp = float(facts["mpp"]) if "mpp" in facts else mpp
    if mpp is None:
        raise SlideError(
            FindingCode.MPP_MISSING,
            f"The feature file {path.name} does not say how many micrometres a pixel is.",
            "Give the mpp of its slide.",
            "coords",
        )
    side = facts.get("tile_px0", facts.get("patch_size_level0"))
    if side is None:
        raise SlideError(
            FindingCode.BAG_INVALID,
            f"The feature file {path.name} does not say how large its tiles are.",
            "The attribute patch_size_level0 of coords is missing: write the file again with it.",
            "coords",
        )
    side = float(side)
    corner = xy.max(axis=0) + int(np.ceil(side)) if len(xy) else np.zeros(2, np.int64)
    size = (int(facts.get("level0_width", corner[0])), int(facts.get("level0_height", corner[1])))
    return TileGrid(xy=xy, tile_px0=side, mpp=mpp, slide_size=size, tissue=tissue)


def _flat(array: NDArray[Any], axes: int) -> NDArray[Any]:
    """Drop the leading batch axis of one that slide-level tools expect and some files carry."""
    return array[0] if array.ndim == axes + 1 and array.shape[0] == 1 else array


def _validate(features: NDArray[np.float32], grid: TileGrid) -> None:
    problem = ""
    if features.ndim != 2 or grid.xy.ndim != 2 or grid.xy.shape[1] != 2:
        problem = f"features must be (n, d) and coords (n, 2); they are {features.shape} and {grid.xy.shape}"
    elif len(features) != len(grid):
        problem = f"there are {len(features)} feature vectors for {len(grid)} tiles"
    elif grid.tissue is not None and len(grid.tissue) != len(grid):
        problem = f"there are {len(grid.tissue)} tissue shares for {len(grid)} tiles"
    elif not np.isfinite(features).all():
        problem = f"{int((~np.isfinite(features)).any(axis=1).sum())} feature vectors hold NaN or infinity"
    if problem:
        raise invalid(problem)
