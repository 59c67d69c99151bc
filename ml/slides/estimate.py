"""What features of a slide will need: bytes on the disk, seconds. Asked before the work starts."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.slides.blocks import free_bytes
from ml.slides.findings import FindingCode, SlideError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PER_TILE = 16 + 4  # corner (2 x int64) and tissue share (float32)
PER_FILE = 64 * 1024  # headers of the file and of its blocks
PROBE_TILES = 4


@dataclass(frozen=True)
class Estimate:
    """Of one slide. tiles: how many. seconds: of one process, None where nothing was measured. bytes: of the finished file."""

    tiles: int
    seconds: float | None
    bytes: int


def bag_bytes(n: int, dim: int) -> int:
    """Bytes of a finished feature file of n tiles, float32."""
    return n * (dim * 4 + PER_TILE) + PER_FILE


def working_bytes(n: int, dim: int) -> int:
    """Bytes while it is made: the blocks and the finished file lie beside each other for a moment."""
    return 2 * bag_bytes(n, dim)


def check_disk(folder: str | Path, needed: int, there: int = 0) -> None:
    """SlideError DISK_TOO_FULL when `needed` bytes, of which `there` are written already, do not fit on the disk that holds the folder."""
    missing, free = needed - there, free_bytes(folder)
    if missing > free:
        raise SlideError(
            FindingCode.DISK_TOO_FULL,
            f"This takes {told(missing)} on the disk and {told(free)} are free.",
            f"Free {told(missing - free)} on the disk that holds the store, then try again. Nothing was started.",
        )


def disk_full(folder: str | Path, missing: int) -> SlideError:
    """The error for a disk that became full during the work. missing: bytes that are still to be written."""
    free = free_bytes(folder)
    return SlideError(
        FindingCode.DISK_FULL,
        f"The disk is full: {told(missing)} are still to be written and {told(free)} are free.",
        f"Free at least {told(max(missing - free, 1))} and try again; what is finished is kept and the work goes on from there.",
    )


def told(size: int) -> str:
    """Bytes in words: "3.2 GB"."""
    value, unit = float(size), "bytes"
    for bigger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, bigger
    return f"{value:.3g} {unit}" if unit != "bytes" else f"{size} bytes"


def seconds_per_tile(compute: Callable[[NDArray[np.uint8]], object], out_px: int) -> float:
    """Seconds per tile of (b, out_px, out_px, 3) uint8 -> anything, by a few white tiles after one to warm up.

    An upper bound where large batches are faster, as on a GPU.
    """
    tiles = np.full((PROBE_TILES, out_px, out_px, 3), 255, np.uint8)
    compute(tiles[:1])
    start = time.perf_counter()
    compute(tiles)
    return (time.perf_counter() - start) / PROBE_TILES
