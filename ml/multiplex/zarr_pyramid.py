"""Multiplex images on disk: an OME-Zarr 0.5 pyramid (zarr 3) that napari reads, written once in bands and never held in memory.

Axes c, y, x; chunks 1 x 256 x 256, in shards of 1 x 1024 x 1024 where a level is larger than that. Every level is half of the one before by
the mean of 2 x 2 pixels (integers rounded half up, NaN left out), in the type of the original. OME-NGFF 0.5 specification.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.multiplex.signal import Signal
from ml.slides.findings import FindingCode, SlideError

FORMAT = "tissueboard-multiplex/1"
TILE = 256
SHARD = 1024
JPEG_QUALITY = 90
OPEN_IMAGES = 16
MAX_SHOWN = 8
# Of the first channels: blue, green, red, yellow, the order of most fluorescence panels (nuclei first).
COLOURS = ("4d6dff", "00d000", "ff4040", "ffd700")
Bands = Callable[[int], Iterator[NDArray[Any]]]


@dataclass(frozen=True)
class Shown:
    """One channel of a picture: its index, its colour (six hexadecimal digits) and the stored values drawn as black and as full colour."""

    channel: int
    colour: str
    low: float
    high: float


def level_shapes(height: int, width: int) -> list[tuple[int, int]]:
    """(height, width) of every level; the last fits into one tile."""
    shapes = [(height, width)]
    while max(shapes[-1]) > TILE:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return shapes


def halve(rows: NDArray[Any]) -> NDArray[Any]:
    """Means of 2 x 2 pixels: (h, w) -> (ceil(h/2), ceil(w/2)) of the same type. At an odd edge the mean of what is there."""
    wide = np.float64 if rows.dtype.kind == "f" else np.int64 if rows.dtype.itemsize > 2 else np.int32
    if rows.dtype.kind == "f" and not (finite := np.isfinite(rows)).all():
        with np.errstate(invalid="ignore", divide="ignore"):
            return (_pairs(np.where(finite, rows, 0), wide) / _pairs(finite, np.int32)).astype(rows.dtype)
    sums = _pairs(rows, wide)
    n = np.full(sums.shape, 4, np.int32)
    if rows.shape[0] % 2:
        n[-1] //= 2
    if rows.shape[1] % 2:
        n[:, -1] //= 2
    if rows.dtype.kind == "f":
        return (sums / n).astype(rows.dtype)
    # floor(mean + 1/2), for negative values too: n is 1, 2 or 4, and n // 2 is how far its division shifts.
    return ((sums + n // 2) >> (n // 2)).astype(rows.dtype)


def _pairs(rows: NDArray[Any], wide: Any) -> NDArray[Any]:
    """Sums of 2 x 2 cells in the type `wide`; an odd edge counts once."""
    down = np.empty((-(-rows.shape[0] // 2), rows.shape[1]), wide)
    whole = rows.shape[0] // 2
    np.add(rows[0 : 2 * whole : 2], rows[1::2], out=down[:whole], dtype=wide)
    down[whole:] = rows[2 * whole :]
    both = np.empty((down.shape[0], -(-rows.shape[1] // 2)), wide)
    whole = rows.shape[1] // 2
    np.add(down[:, 0 : 2 * whole : 2], down[:, 1::2], out=both[:, :whole])
    both[:, whole:] = down[:, 2 * whole :]
    return both


class _Level:
    """Takes the rows of one level of one channel, writes them in whole bands and hands half of them on."""

    def __init__(self, array: Any, channel: int, band: int, below: _Level | None) -> None:
        self.array, self.channel, self.band, self.below = array, channel, band, below
        self.at, self.waiting, self.held = 0, [], 0

    def add(self, rows: NDArray[Any]) -> None:
        while len(rows):
            part = rows[: self.band - self.held]
            self.waiting.append(part)
            self.held += len(part)
            rows = rows[len(part) :]
            if self.held == self.band:
                self.flush()

    def flush(self) -> None:
        if not self.held:
            return
        rows = self.waiting[0] if len(self.waiting) == 1 else np.concatenate(self.waiting)
        self.waiting, self.held = [], 0
        self.array[self.channel, self.at : self.at + len(rows), :] = rows
        self.at += len(rows)
        if self.below is not None:
            self.below.add(halve(rows))

    def finish(self) -> None:
        self.flush()
        if self.below is not None:
            self.below.finish()


def write_pyramid(
    folder: str | Path, shape: tuple[int, int, int], dtype: Any, bands: Bands, names: Sequence[str], mpp: float,
    tick: Callable[[float], None] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Writes an image of shape (channels, height, width) once; gives the facts of every channel (Signal.facts).

    bands(channel) gives its rows from the top, in pieces of any height. mpp: um per pixel. tick: told the share that is done.
    The folder must not exist yet; what is in it is whole only when this returns.
    """
    import zarr

    channels, height, width = shape
    group = zarr.open_group(str(folder), mode="w-", zarr_format=3)
    arrays = [_create(group, str(i), channels, h, w, dtype) for i, (h, w) in enumerate(level_shapes(height, width))]
    found = []
    for channel in range(channels):
        level: _Level | None = None
        for array in reversed(arrays):
            level = _Level(array, channel, array.shards[1] if array.shards else 2 * TILE, level)
        assert level is not None
        signal, rows = Signal(dtype), 0
        for band in bands(channel):
            signal.add(band)
            level.add(band)
            rows += len(band)
            if tick is not None:
                tick((channel + rows / height) / channels)
        level.finish()
        if rows != height:
            raise ValueError(f"channel {channel} has {rows} rows, not {height}")
        found.append(signal.facts())
    _describe(group, shape, dtype, names, mpp, found)
    return found


def _create(group: Any, name: str, channels: int, height: int, width: int, dtype: Any) -> Any:
    shards = (1, SHARD, SHARD) if max(height, width) > SHARD else None
    # A chunk of zeros must be a file too: only then does a missing file mean a lost chunk.
    every: Any = {"write_empty_chunks": True}
    options: Any = {"chunks": (1, TILE, TILE), "shards": shards, "dimension_names": ("c", "y", "x"), "config": every}
    return group.create_array(name, shape=(channels, height, width), dtype=dtype, **options)


def _describe(group: Any, shape: tuple[int, int, int], dtype: Any, names: Sequence[str], mpp: float, found: list[dict[str, Any]]) -> None:
    shapes = level_shapes(*shape[1:])
    axes = [{"name": "c", "type": "channel"}] + [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    datasets = []
    for i in range(len(shapes)):
        um, off = mpp * 2**i, mpp * (2**i - 1) / 2  # off: the centre of its first pixel from that of the first pixel of level 0
        steps = [{"type": "scale", "scale": [1.0, um, um]}, {"type": "translation", "translation": [0.0, off, off]}]
        datasets.append({"path": str(i), "coordinateTransformations": steps})
    windows = [{"start": f["low"], "end": f["high"], "min": f["min"], "max": f["max"]} for f in found]
    omero = [
        {"label": n, "color": COLOURS[i % len(COLOURS)], "active": i < len(COLOURS), "window": w}
        for i, (n, w) in enumerate(zip(names, windows))
    ]
    multiscales = [{"name": "multiplex image", "axes": axes, "datasets": datasets, "type": "mean"}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales, "omero": {"channels": omero}}
    # Written last: without it the folder is no finished image.
    group.attrs["tissueboard"] = {
        "format": FORMAT,
        "names": list(names),
        "mpp": mpp,
        "dtype": str(np.dtype(dtype)),
        "shape": list(shape),
        "levels": [list(s) for s in shapes],
        "channels": found,
    }


class OpenImage:
    """A pyramid that is open for reading; safe to use from many threads."""

    def __init__(self, folder: Path) -> None:
        import zarr

        self.folder = folder
        try:
            group = zarr.open_group(str(folder), mode="r")
            facts: Any = group.attrs.get("tissueboard", {})
            if facts.get("format") != FORMAT:
                raise ValueError("another format")
            self.facts: dict[str, Any] = facts
            self.arrays: list[Any] = [group[str(i)] for i in range(len(facts["levels"]))]
        except Exception as reason:
            raise _unreadable(folder, f"it cannot be opened ({type(reason).__name__})") from reason

    def read(self, channel: int, level: int, y: int, x: int, height: int, width: int) -> NDArray[Any]:
        """Pixels of one channel of a level, cut off at the image's edge. SlideError MULTIPLEX_UNREADABLE where a part is lost: a zarr
        reader would give zeros without saying so."""
        array = self.arrays[level]
        _, rows, cols = array.shape
        y1, x1 = min(y + height, rows), min(x + width, cols)
        step = array.shards[1] if array.shards else array.chunks[1]
        for row in range(y // step, -(-y1 // step)):
            for col in range(x // step, -(-x1 // step)):
                if not (self.folder / str(level) / "c" / str(channel) / str(row) / str(col)).is_file():
                    raise _unreadable(self.folder, f"a part of level {level} is lost")
        try:
            return np.asarray(array[channel, y:y1, x:x1])
        except Exception as reason:
            raise _unreadable(self.folder, f"level {level} cannot be decoded ({type(reason).__name__})") from reason


class ImageCache:
    """Open images by path and time of writing, least recently used out first."""

    def __init__(self, capacity: int = OPEN_IMAGES) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, int], OpenImage] = OrderedDict()

    def __call__(self, folder: str | Path) -> OpenImage:
        folder = Path(folder)
        try:
            key = (str(folder), (folder / "zarr.json").stat().st_mtime_ns)
        except OSError as reason:
            raise _unreadable(folder, "it is not there", FindingCode.FILE_MISSING) from reason
        with self._lock:
            known = self._open.get(key) or OpenImage(folder)
            self._open[key] = known
            self._open.move_to_end(key)
            while len(self._open) > self.capacity:
                self._open.popitem(last=False)
            return known


image_cache = ImageCache()


def render_tile(folder: str | Path, level: int, col: int, row: int, channels: Sequence[Shown]) -> bytes:
    """JPEG of one tile of 256 px: the channels in their colours, added up. level 0 is full resolution.

    Errors: SlideError TILE_NOT_THERE, CHANNEL_NOT_THERE, FILE_MISSING, MULTIPLEX_UNREADABLE.
    """
    from PIL import Image

    opened = image_cache(folder)
    levels = opened.facts["levels"]
    if not 0 <= level < len(levels):
        hint = f"Levels are 0 (full resolution) to {len(levels) - 1}."
        raise SlideError(FindingCode.TILE_NOT_THERE, f"There is no level {level}.", hint, f"level {level}")
    height, width = levels[level]
    if not (0 <= col < -(-width // TILE) and 0 <= row < -(-height // TILE)):
        sentence = f"Level {level} has no tile in column {col}, row {row}."
        hint = f"It has columns 0 to {-(-width // TILE) - 1} and rows 0 to {-(-height // TILE) - 1}."
        raise SlideError(FindingCode.TILE_NOT_THERE, sentence, hint, f"level {level}, column {col}, row {row}")
    size = (min(TILE, height - row * TILE), min(TILE, width - col * TILE))
    picture = np.zeros((*size, 3), np.float32)
    for shown in channels[:MAX_SHOWN]:
        if not 0 <= shown.channel < len(opened.facts["names"]):
            sentence = f"There is no channel {shown.channel}."
            raise SlideError(FindingCode.CHANNEL_NOT_THERE, sentence, f"Channels are 0 to {len(opened.facts['names']) - 1}.")
        values = opened.read(shown.channel, level, row * TILE, col * TILE, TILE, TILE).astype(np.float32)
        share = np.clip((np.nan_to_num(values, nan=shown.low) - shown.low) / max(shown.high - shown.low, 1e-30), 0, 1)
        picture += share[..., None] * np.frombuffer(bytes.fromhex(shown.colour), np.uint8).astype(np.float32)
    out = io.BytesIO()
    # No colour is thinned out (4:4:4): a cell may be three pixels wide.
    Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8)).save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def _unreadable(folder: Path, why: str, code: FindingCode = FindingCode.MULTIPLEX_UNREADABLE) -> SlideError:
    return SlideError(code, f"The pyramid of this image cannot be read: {why}.", "Import the original again.")
