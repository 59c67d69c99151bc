"""Tiles of many slides as one stream of batches, for a whole run: several threads decode ahead, the order stays, a bad tile is not fatal.

Decoding releases Python's lock, so threads are enough: no copies between processes and no start-up per slide. A batch is cut into small
parts that all threads work on, so that the memory is that of a fixed number of batches, however many threads there are.
"""

from __future__ import annotations

import math
import os
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.slides.findings import SlideError
from ml.slides.reader import Slide, open_slide
from ml.slides.resample import TORCH
from ml.types import TileGrid

AHEAD = 3  # batches that are read before they are asked for
PART = 32  # tiles that one thread reads at a time


@dataclass(frozen=True)
class TileSource:
    """What to read of one slide. rows: (n,) int64, which tiles of the grid, in this order; None means all. mpp: um per px0 or None."""

    path: Path
    grid: TileGrid
    mpp: float | None = None
    rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class TileBatch:
    """Tiles of one slide.

    source: index of the TileSource. rows: (b,) int64 rows of its grid. tiles: (b, px, px, 3) uint8 RGB; they stay as they are for as long
    as anybody holds them or a part of them (numpy slice, torch tensor), then their memory takes another batch.
    readable: (b,) bool; a tile that cannot be decoded is white. reasons: row -> why, for those.
    refused: why the slide cannot be read at all; then there are no rows, and no other batch of this source. reading: how the slide is
    read ("direct JPEG", "OpenSlide" ...), "" if refused.
    """

    source: int
    rows: NDArray[np.int64]
    tiles: NDArray[np.uint8]
    readable: NDArray[np.bool_]
    reasons: dict[int, str] = field(default_factory=dict)
    refused: SlideError | None = None
    reading: str = ""


def tile_batches(
    sources: Iterable[TileSource],
    out_px: int,
    batch: int = 256,
    threads: int | None = None,
    ahead: int = AHEAD,
    engine: str = TORCH,
    tell_refused: bool = False,
) -> Iterator[TileBatch]:
    """Batches of at most `batch` tiles, sources in order, rows in order, never two slides in one batch.

    threads: that decode, by default the cores this process may use. ahead: batches read before they are asked for, at least 1; memory is
    (ahead + 2) * batch * out_px^2 * 3 bytes, what the reader of the stream keeps of earlier batches, and the decoded tiles that two
    slides keep (at most 256 MB each). engine: "torch", or "pillow" where torch is not wanted (ml.slides.resample). The next slide is
    opened while this one is read. Closing the iterator, or leaving the loop by an error, stops the threads and closes the files.

    A slide that cannot be read at all (missing, damaged, no mpp, too coarse): its SlideError is raised when its turn comes, or with
    tell_refused one batch without rows says so in `refused` and the run goes on.
    """
    run = _Run(out_px, batch, engine, len(os.sched_getaffinity(0)) if threads is None else threads, ahead)
    try:
        planned = run.plan(iter(sources))
        waiting: deque[_Pending] = deque()
        while True:
            while len(waiting) <= ahead and (pending := next(planned, None)) is not None:
                waiting.append(pending)
            if not waiting:
                return
            done = run.finish(waiting.popleft())
            if done is None:
                continue
            if done.refused is not None and not tell_refused:
                raise done.refused
            yield done
    finally:
        run.stop()


@dataclass
class _Opened:
    """A slide that is being opened. slide: set when it is open. refused: its SlideError has been told."""

    number: int
    source: TileSource
    slide: Future[Slide]
    refused: bool = False


@dataclass
class _Pending:
    """A batch whose parts are being read. last: no other batch of its slide follows."""

    opened: _Opened
    rows: NDArray[np.int64]
    tiles: NDArray[np.uint8]
    parts: list[Future[dict[int, str]]]
    last: bool


class _Room:
    """Memory of batches, used again: the first touch of fresh memory costs processor time for every tile.

    A batch is a new array over the memory. numpy's slices and torch's tensors keep that array alive, so that the memory comes back when
    the last of them is gone, whatever a reader of the stream keeps.
    """

    def __init__(self, size: int, most: int) -> None:
        self.size = size
        self._free: deque[NDArray[np.uint8]] = deque(maxlen=most)  # what comes back beyond these is let go

    def take(self, shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(self.size, np.uint8)
        # Through a memoryview: the base of a plain slice would be `memory`, and nobody could tell when the batch is gone.
        tiles = np.frombuffer(memoryview(memory), np.uint8, math.prod(shape))
        weakref.finalize(tiles, self._free.append, memory).atexit = False
        return tiles.reshape(shape)


class _Run:
    """The threads of one stream, and the slides that they have open."""

    def __init__(self, out_px: int, batch: int, engine: str, threads: int, ahead: int) -> None:
        self.out_px, self.batch, self.engine = out_px, batch, engine
        self.pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix="tiles")
        self.open: list[_Opened] = []
        self.room = _Room(batch * out_px * out_px * 3, ahead + 2)

    def plan(self, sources: Iterator[TileSource]) -> Iterator[_Pending]:
        """The batches in order, each handed to the threads when it is asked for; the next slide is opened when one begins.

        The threads take work in the order it was given, so a part never waits for an opening that stands behind it.
        """
        numbered = ((number, source, rows) for number, source in enumerate(sources) if len(rows := _rows_of(source)))
        following = self._begin(next(numbered, None))
        while following is not None:
            (opened, rows), following = following, self._begin(next(numbered, None))
            for start in range(0, len(rows), self.batch):
                if opened.refused:
                    break
                yield self._hand_out(opened, rows[start : start + self.batch], start + self.batch >= len(rows))

    def finish(self, pending: _Pending) -> TileBatch | None:
        """The batch when all its parts are read; None for what was planned of a slide that has been refused before."""
        opened = pending.opened
        try:
            slide = opened.slide.result()
        except SlideError as error:
            if opened.refused:
                return None
            opened.refused = True
            nothing = np.empty((0, self.out_px, self.out_px, 3), np.uint8)
            return TileBatch(opened.number, np.empty(0, np.int64), nothing, np.empty(0, bool), refused=error)
        reasons = {row: reason for part in pending.parts for row, reason in part.result().items()}
        readable = ~np.isin(pending.rows, list(reasons)) if reasons else np.ones(len(pending.rows), bool)
        reading = slide.reading.how
        if pending.last:
            slide.close()
            self.open.remove(opened)
        return TileBatch(opened.number, pending.rows, pending.tiles, readable, reasons, reading=reading)

    def stop(self) -> None:
        """No part is started any more; those that run end (a few tiles each); all files are closed."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        for opened in self.open:
            if not opened.slide.cancelled() and opened.slide.exception() is None:
                opened.slide.result().close()
        self.open.clear()

    def _begin(self, item: tuple[int, TileSource, NDArray[np.int64]] | None) -> tuple[_Opened, NDArray[np.int64]] | None:
        if item is None:
            return None
        number, source, rows = item
        opened = _Opened(number, source, self.pool.submit(_open, source, self.out_px))
        self.open.append(opened)
        return opened, rows

    def _hand_out(self, opened: _Opened, rows: NDArray[np.int64], last: bool) -> _Pending:
        tiles = self.room.take((len(rows), self.out_px, self.out_px, 3))
        parts = [
            self.pool.submit(_read_part, opened, rows[start : start + PART], tiles[start : start + PART], self.engine)
            for start in range(0, len(rows), PART)
        ]
        return _Pending(opened, rows, tiles, parts, last)


def _rows_of(source: TileSource) -> NDArray[np.int64]:
    return np.arange(len(source.grid)) if source.rows is None else np.asarray(source.rows, np.int64)


def _open(source: TileSource, out_px: int) -> Slide:
    """The slide, ready to be read. Errors: SlideError of opening, MPP_MISSING, LEVEL_TOO_LOW."""
    slide = open_slide(source.path, mpp=source.mpp)
    try:
        slide.check_mpp(source.grid.tile_um / out_px)
        _ = slide.reading  # the index of its tiles is read now, not when the first of them is waited for
    except BaseException:
        slide.close()
        raise
    return slide


def _read_part(opened: _Opened, rows: NDArray[np.int64], out: NDArray[np.uint8], engine: str) -> dict[int, str]:
    """Fill out (p, px, px, 3); row -> why, for the tiles that cannot be decoded. Of a refused slide nothing is read."""
    if opened.slide.exception() is not None:
        return {}
    slide, grid = opened.slide.result(), opened.source.grid
    try:
        slide.cut(grid, rows, out.shape[1], engine, out)
        return {}
    except SlideError:
        return _read_one_by_one(slide, grid, rows, out, engine)


def _read_one_by_one(slide: Slide, grid: TileGrid, rows: NDArray[np.int64], out: NDArray[np.uint8], engine: str) -> dict[int, str]:
    reasons = {}
    for i, row in enumerate(rows):
        try:
            slide.cut(grid, rows[i : i + 1], out.shape[1], engine, out[i : i + 1])
        except SlideError as error:
            out[i], reasons[int(row)] = 255, error.sentence
    return reasons
