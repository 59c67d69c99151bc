"""Label tables from registered images of measured channels: the plain mean of every channel over every tile (HEX spec 1.2, step 2).

The image has to lie on the H&E's own pixels already: registration is external, as in the paper (palom; Methods, CODEX-H&E registration).
Rows are read in bands, so that an image of 57 channels and 40,000 x 40,000 px needs the memory of one band of one channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.errors import HexDataError
from ml.hex.label_tables import LabelTable, check_markers
from ml.hex.panel import HEX_PANEL
from ml.slides.findings import SlideError

BAND_ROWS = 512
Rows = Callable[[int, int], NDArray[Any]]  # (start, stop) -> (stop - start, width), as stored


@dataclass(frozen=True)
class TileCoords:
    """Corners of tiles. xy: (n, 2) int64 px0, top-left. tile_px0: side in px0, None where the file does not say it."""

    xy: NDArray[np.int64]
    tile_px0: float | None


def read_coords(path: str | Path) -> TileCoords:
    """The coordinate file of a slide as CLAM or TRIDENT writes it (`coords` with patch_level, patch_size ...).

    Errors: HexDataError bag_unreadable, coords_missing, no_tiles.
    """
    from ml.slides.foreign_bags import read_places

    with _as_hex(Path(path).name):
        xy, side = read_places(path)
    if not len(xy):
        raise HexDataError("no_tiles", f"{Path(path).name} holds no tile.", "Make the coordinates again.", Path(path).name)
    return TileCoords(xy, side)


def labels_from_image(
    path: str | Path,
    xy: NDArray[np.int64],
    side: int,
    *,
    markers: Sequence[str] | None = None,
    slide: str = "",
    origin: tuple[int, int] = (0, 0),
    tick: Callable[[float], None] | None = None,
) -> LabelTable:
    """Means of all channels over squares of `side` px, unscaled, as the released script writes them.

    path: an OME-TIFF, QPTIFF or stack, a zip or folder of one TIFF per marker, or the OME-Zarr pyramid of ml.multiplex (its level 0).
    xy: (n, 2) int64 px0. markers: names in the order of the channels; those of the file, and HEX's panel for 40 channels without names.
    origin: px0 of the image's first pixel. tick: told the share that is done. A tile over the image's edge is the mean of what is there;
    one with a pixel that is no number has none and is refused. Errors: HexDataError coords_outside, markers_missing, markers_count,
    markers_invalid, labels_not_finite, labels_range, and what the file has wrong under the code of ml.slides.findings in small letters.
    """
    from ml.hex.label_tables import check_values

    path = Path(path)
    with _as_hex(path.name), _opened(path) as image:
        names = _names(path.name, image, markers)
        corners = np.asarray(xy, np.int64).reshape(-1, 2) - np.asarray(origin, np.int64)
        check_inside(corners, (image.width, image.height), path.name)
        values = np.empty((len(corners), image.n), np.float32)
        for channel in range(image.n):
            with image.rows(channel) as rows:
                values[:, channel] = tile_means(rows, (image.height, image.width), corners, side)
            if tick is not None:
                tick((channel + 1) / image.n)
    table = LabelTable(np.full(len(corners), slide, object).astype(str), np.arange(len(corners)), np.asarray(xy, np.int64), values, names)
    check_values(table, path.name)
    return table


def tile_means(rows: Rows, shape: tuple[int, int], xy: NDArray[np.int64], side: int) -> NDArray[np.float64]:
    """(n,) float64 means of one channel of `shape` (height, width) over the squares at xy (px of the image), cut off at its edges.

    Each pixel is added up once: rows between two edges of tiles are summed, and squares are differences of prefix sums. float64 is exact
    for integers of 16 bits. NaN where a pixel of the square is no finite number. Crow FC. Summed-area tables. SIGGRAPH 1984.
    """
    height, width = shape
    order = np.argsort(xy[:, 1], kind="stable")
    x, y = xy[order, 0], xy[order, 1]
    left, right = (int(x.min()), int(min(x.max() + side, width))) if len(xy) else (0, 0)
    sums, bad = np.zeros(len(xy)), np.zeros(len(xy), bool)
    for top in range(0, height, BAND_ROWS):
        bottom = min(top + BAND_ROWS, height)
        seen = slice(int(np.searchsorted(y, top - side, "right")), int(np.searchsorted(y, bottom, "left")))
        if seen.start == seen.stop:
            continue
        band = rows(top, bottom)[:, left:right]
        squares = (x[seen] - left, y[seen] - top, side)
        if band.dtype.kind == "f" and not (finite := np.isfinite(band)).all():
            bad[seen] |= _sums(~finite, *squares) > 0
            band = np.where(finite, band, 0)
        sums[seen] += _sums(band, *squares)
    area = (np.minimum(x + side, width) - x) * (np.minimum(y + side, height) - y)
    means = np.empty(len(xy))
    means[order] = np.where(bad, np.nan, sums / area)
    return means


def check_inside(xy: NDArray[np.int64], size: tuple[int, int], what: str) -> None:
    """HexDataError coords_outside unless all corners lie on a picture of `size` (width, height) px; says how many and the first."""
    outside = ((xy < 0) | (xy >= np.asarray(size))).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        first = f"first the one at {tuple(xy[row].tolist())}"
        sentence = f"{int(outside.sum())} of {len(xy)} tiles lie outside {what} of {size[0]} x {size[1]} px, {first}."
        hint = "Check that the coordinates are of this slide, in pixels of its level 0."
        raise HexDataError("coords_outside", sentence, hint, f"tile {row}")


def _sums(band: NDArray[Any], x: NDArray[np.int64], y: NDArray[np.int64], side: int) -> NDArray[np.float64]:
    """Sums over the part of each square that lies in the band."""
    height, width = band.shape
    above, below = np.clip(y, 0, height), np.clip(y + side, 0, height)
    cuts = np.unique(np.concatenate([above, below]))
    table = np.zeros((len(cuts), width + 1))
    for i, (start, stop) in enumerate(pairwise(cuts), 1):
        np.add.reduce(band[start:stop], axis=0, dtype=np.float64, out=table[i, 1:])
    np.cumsum(table, axis=0, out=table)
    np.cumsum(table, axis=1, out=table)
    a, b = np.searchsorted(cuts, above), np.searchsorted(cuts, below)
    end = np.minimum(x + side, width)
    found: NDArray[np.float64] = table[b, end] - table[a, end] - table[b, x] + table[a, x]
    return found


@dataclass(frozen=True)
class _Image:
    """An open image. n: channels. names: as the file says, or None. rows(channel): a context manager that gives Rows."""

    n: int
    width: int
    height: int
    names: list[str] | None
    rows: Callable[[int], Any]


@contextmanager
def _opened(path: Path) -> Iterator[_Image]:
    if (path / "zarr.json").is_file():
        from ml.multiplex.zarr_pyramid import OpenImage

        pyramid = OpenImage(path)
        n, height, width = pyramid.facts["shape"]

        @contextmanager
        def stored(channel: int) -> Iterator[Rows]:
            yield lambda start, stop: pyramid.read(channel, 0, start, 0, stop - start, width)

        yield _Image(n, width, height, list(pyramid.facts["names"]), stored)
        return
    from ml.multiplex.files import open_multiplex
    from ml.slides.findings import FindingCode, Severity

    with open_multiplex(path) as opened:
        if wrong := [f for f in opened.findings if f.severity == Severity.ERROR]:
            raise SlideError(FindingCode(wrong[0].code), wrong[0].sentence, wrong[0].hint, wrong[0].where)

        @contextmanager
        def plane(channel: int) -> Iterator[Rows]:
            with opened.plane(channel) as one:
                yield one.rows

        yield _Image(opened.n_channels, opened.width, opened.height, opened.names, plane)


def _names(file: str, image: _Image, given: Sequence[str] | None) -> tuple[str, ...]:
    names = given if given is not None else image.names
    if names is None and image.n == len(HEX_PANEL):
        return HEX_PANEL
    if names is None:
        sentence = f"{file} has {image.n} channels and does not say what they are."
        raise HexDataError("markers_missing", sentence, "Give the marker names in the order of the channels.", file)
    names = check_markers(names, file)
    if len(names) != image.n:
        sentence = f"{len(names)} marker names were given for the {image.n} channels of {file}."
        raise HexDataError("markers_count", sentence, "Give one name per channel, in the order of the planes.", file)
    return names


@contextmanager
def _as_hex(file: str) -> Iterator[None]:
    """What the readers of slides and images say, as HEX says it."""
    try:
        yield
    except SlideError as error:
        where = ", ".join(filter(None, (file, error.where)))
        raise HexDataError(str(error.code).lower(), error.sentence, error.hint, where) from error
