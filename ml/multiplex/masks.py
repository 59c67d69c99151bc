"""Label masks of cells as they come: a TIFF (steinbock, cellpose, Mesmer ...) or an npz with the key `mask` (spora); 0 is no cell.

Ids need not be consecutive and are kept as they are: the cell table names them.
"""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from ml.slides.sniff import content_kind

logging.getLogger("tifffile").setLevel(logging.CRITICAL)
NPZ_KEY = "mask"
MAX_ID = 2**31 - 1
MAX_MASK_BYTES = 4 << 30
MAX_COUNTED = 50_000_000  # ids up to here are counted without sorting the pixels
PLAUSIBLE_CELL_UM2 = (10.0, 2000.0)  # the median: below it a lymphocyte's nucleus, above it several cells in one
TIFF_HINT = "Save the labels as a TIFF of 16 or 32 bits, or as an npz with the key mask."


def read_mask(path: str | Path, size: tuple[int, int] | None = None) -> NDArray[np.int32]:
    """(rows, cols) int32 labels. size: (width, height) that the mask has to have.

    Floats are taken where all are whole numbers. Errors: SlideError FILE_MISSING, EMPTY_FILE, MASK_UNREADABLE, MASK_NOT_LABELS, MASK_EMPTY,
    MASK_SIZE_DIFFERS.
    """
    path = Path(path)
    if not path.is_file():
        raise SlideError(FindingCode.FILE_MISSING, f"There is no file {path.name}.", "Check the path; nothing was read.")
    kind = content_kind(path)
    if kind == "empty":
        raise SlideError(FindingCode.EMPTY_FILE, "The file is empty (0 bytes).", "The copy failed: copy it again.")
    if kind not in ("tiff", "zip"):
        raise SlideError(FindingCode.MASK_UNREADABLE, f"This is no mask (its content is {kind}).", TIFF_HINT)
    try:
        stored = _of_tiff(path) if kind == "tiff" else _of_npz(path)
    except (SlideError, MemoryError):
        raise
    except Exception as reason:
        sentence = f"The mask cannot be read ({type(reason).__name__})."
        raise SlideError(FindingCode.MASK_UNREADABLE, sentence, "Copy or export it again.") from reason
    stored = stored.reshape([n for n in stored.shape if n != 1] or [1, 1])
    if stored.ndim != 2:
        sentence = f"The mask has the shape {' x '.join(map(str, stored.shape))}; one picture of labels is needed."
        raise SlideError(FindingCode.MASK_NOT_LABELS, sentence, TIFF_HINT)
    if size is not None and (stored.shape[1], stored.shape[0]) != tuple(size):
        sentence = f"The mask has {stored.shape[1]} x {stored.shape[0]} pixels, the image {size[0]} x {size[1]}."
        hint = "Give the mask that was made from this image, at its full resolution."
        raise SlideError(FindingCode.MASK_SIZE_DIFFERS, sentence, hint)
    return _labels(stored)


def cell_areas(labels: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(ids, pixels of each), by id, without 0."""
    if int(labels.max(initial=0)) <= MAX_COUNTED:
        counts = np.bincount(labels.ravel())
        ids = np.flatnonzero(counts)
        areas = counts[ids]
    else:
        ids, areas = np.unique(labels, return_counts=True)
    there = ids > 0
    return ids[there].astype(np.int64), areas[there].astype(np.int64)


def mask_facts(labels: NDArray[np.int32], mpp: float) -> dict[str, Any]:
    """n_cells, max_id, median_px, median_um2, covered (share of the pixels in a cell). mpp: um per pixel of the image."""
    ids, areas = cell_areas(labels)
    median = float(np.median(areas))
    return {
        "n_cells": len(ids),
        "max_id": int(ids[-1]),
        "median_px": median,
        "median_um2": median * mpp * mpp,
        "covered": float(areas.sum() / labels.size),
    }


def mask_findings(file: str, facts: dict[str, Any], mpp: float) -> list[Finding]:
    """Cells of an implausible size: an error, because then the um per pixel of the image is most likely wrong, or the mask another's."""
    low, high = PLAUSIBLE_CELL_UM2
    if low <= facts["median_um2"] <= high:
        return []
    sentence = f"At {mpp:.4g} um per pixel the median cell has {facts['median_um2']:.3g} um2; {low:g} to {high:g} are usual."
    hint = "Check the um per pixel of the image, and that the mask has one label per cell; if both are right, confirm it."
    return [Finding(FindingCode.CELL_AREA_IMPLAUSIBLE, Severity.ERROR, file, "", sentence, hint)]


def _labels(stored: NDArray[Any]) -> NDArray[np.int32]:
    if stored.dtype.kind not in "uif":
        sentence = f"The mask is stored as {stored.dtype}: it says where cells are, not which pixels are of one cell."
        raise SlideError(FindingCode.MASK_NOT_LABELS, sentence, "Export the labels, one number per cell.")
    if stored.dtype.kind == "f" and (not np.isfinite(stored).all() or (stored != np.rint(stored)).any()):
        sentence = "The mask holds values that are no whole numbers: it is no picture of labels."
        raise SlideError(FindingCode.MASK_NOT_LABELS, sentence, TIFF_HINT)
    low, high = stored.min(), stored.max()
    if low < 0 or high > MAX_ID:
        sentence = f"The labels go from {int(low)} to {int(high)}; they have to lie between 0 and {MAX_ID}."
        raise SlideError(FindingCode.MASK_NOT_LABELS, sentence, "Number the cells from 1; 0 is no cell.")
    if high == 0:
        raise SlideError(FindingCode.MASK_EMPTY, "The mask holds no cell: every pixel is 0.", "Check that it is the right file.")
    labels: NDArray[np.int32] = stored.astype(np.int32)
    if len(seen := np.unique(labels[labels > 0])) == 1:
        from scipy import ndimage

        if (pieces := ndimage.label(labels)[1]) > 1:
            sentence = f"All {pieces} separate pieces of the mask have one label ({int(seen[0])}): it does not tell the cells apart."
            raise SlideError(FindingCode.MASK_NOT_LABELS, sentence, "Export the labels, one number per cell.")
    return labels


def _of_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        pages = [page for page in tif.pages if not getattr(page, "subfiletype", 0) & 1] if len(tif.pages) < 100 else list(tif.pages)
        if not pages:
            raise SlideError(FindingCode.MASK_UNREADABLE, "The TIFF holds no picture.", "Copy or export it again.")
        if len(pages) != 1:
            sentence = f"The file holds {len(pages)} pictures; a mask is one."
            raise SlideError(FindingCode.MASK_NOT_LABELS, sentence, "Save the picture of the whole cells as a file of its own.")
        page: Any = pages[0]
        if page.nbytes > MAX_MASK_BYTES:
            raise _too_large(page.nbytes)
        found: NDArray[Any] = np.asarray(page.asarray())
        return found


def _of_npz(path: Path) -> NDArray[Any]:
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    if f"{NPZ_KEY}.npy" not in sizes:
        keys = ", ".join(sorted(name.removesuffix(".npy")[:40] for name in sizes)[:5])
        raise SlideError(FindingCode.MASK_UNREADABLE, f"The npz holds no key mask, but {keys}.", "Save the labels under the key mask.")
    if sizes[f"{NPZ_KEY}.npy"] > MAX_MASK_BYTES:
        raise _too_large(sizes[f"{NPZ_KEY}.npy"])
    with np.load(path, allow_pickle=False) as opened:
        found: NDArray[Any] = opened[NPZ_KEY]
    return found


def _too_large(size: int) -> SlideError:
    sentence = f"The mask would need {size / 2**30:.0f} GiB; at most {MAX_MASK_BYTES >> 30} are taken."
    return SlideError(FindingCode.MASK_UNREADABLE, sentence, "Cut it to the image's field.")
