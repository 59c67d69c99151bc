"""A mask of cells in the store: a zarr array of int32 labels, read by parts; and the outlines that a viewer lays over an image."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.multiplex.zarr_pyramid import TILE
from ml.slides.findings import FindingCode, SlideError

FORMAT = "tissueboard-cell-mask/1"
CHUNK = 512
MAX_LEVEL = 3  # above it a cell is a pixel or two, and outlines are a blur
LINE = (255, 255, 255, 230)


def write_mask(folder: str | Path, labels: NDArray[np.int32]) -> None:
    """labels: (rows, cols) int32. The folder must not exist yet."""
    import zarr

    every: Any = {"write_empty_chunks": True}  # then a missing file is a lost part
    array = zarr.create_array(
        str(folder), shape=labels.shape, dtype="int32", chunks=(CHUNK, CHUNK), config=every, attributes={"format": FORMAT}
    )
    array[:] = labels


def read_labels(folder: str | Path, y: int = 0, x: int = 0, height: int | None = None, width: int | None = None) -> NDArray[np.int32]:
    """A part of a mask, cut off at its edge; the whole of it by default. Errors: SlideError FILE_MISSING, MASK_UNREADABLE (a lost part)."""
    import zarr

    folder = Path(folder)
    if not (folder / "zarr.json").is_file():
        raise SlideError(FindingCode.FILE_MISSING, "The mask of the cells is not there any more.", "Bring it in again.")
    try:
        array: Any = zarr.open_array(str(folder), mode="r")
        if array.attrs.get("format") != FORMAT:
            raise ValueError("another format")
        rows, cols = array.shape
        y1 = rows if height is None else min(y + height, rows)
        x1 = cols if width is None else min(x + width, cols)
        for row in range(y // CHUNK, -(-y1 // CHUNK)):
            for col in range(x // CHUNK, -(-x1 // CHUNK)):
                if not (folder / "c" / str(row) / str(col)).is_file():
                    raise ValueError("a part is lost")
        found: NDArray[np.int32] = np.asarray(array[y:y1, x:x1])
    except Exception as reason:
        sentence = f"The mask of the cells cannot be read ({reason if isinstance(reason, ValueError) else type(reason).__name__})."
        raise SlideError(FindingCode.MASK_UNREADABLE, sentence, "Bring it in again.") from reason
    return found


def outlines(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels of a cell that touch another cell or none, to the right or below or the other way round: (rows, cols) bool."""
    edge = np.zeros(labels.shape, bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge & (labels > 0)


def outline_tile(folder: str | Path, size: tuple[int, int], level: int, col: int, row: int) -> bytes:
    """PNG of one tile of 256 px with the outlines in white on nothing; level 0 is full resolution, nothing is drawn above level 3.

    size: (width, height) of the image. Errors: SlideError TILE_NOT_THERE, FILE_MISSING, MASK_UNREADABLE.
    """
    from PIL import Image

    step = 2**level if 0 <= level <= 30 else 0
    width, height = (-(-n // step) if step else 0 for n in size)
    if not step or not (0 <= col < -(-width // TILE) and 0 <= row < -(-height // TILE)):
        raise SlideError(FindingCode.TILE_NOT_THERE, f"Level {level} has no tile in column {col}, row {row}.", "", f"level {level}")
    picture = np.zeros((min(TILE, height - row * TILE), min(TILE, width - col * TILE), 4), np.uint8)
    if level <= MAX_LEVEL:
        # One pixel more all round, so that outlines do not end at the tile's edge.
        top, left = row * TILE * step, col * TILE * step
        y, x = max(0, top - step), max(0, left - step)
        part = read_labels(folder, y, x, (TILE + 1) * step + top - y, (TILE + 1) * step + left - x)[::step, ::step]
        edge = outlines(part)[(top - y) // step :, (left - x) // step :][: picture.shape[0], : picture.shape[1]]
        picture[: edge.shape[0], : edge.shape[1]][edge] = LINE
    out = io.BytesIO()
    Image.fromarray(picture, "RGBA").save(out, "PNG", compress_level=3)
    return out.getvalue()
