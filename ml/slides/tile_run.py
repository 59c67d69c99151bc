"""Something computed for every tile of one or many slides, in blocks that survive a kill: one stream of tiles for the whole run.

A thread reads ahead and lays tiles together into blocks, also of the next slide, while the last block is computed. A tile that cannot be
read is told and skipped, up to a limit. One slide that fails does not stop the others.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ml.slides.blocks import Block, BlockFolder, grid_hash, rows_per_block
from ml.slides.estimate import FULL, disk_full, seconds_per_tile
from ml.slides.findings import FindingCode, SlideError
from ml.slides.loader import TileBatch, TileSource, tile_batches
from ml.slides.resample import TORCH
from ml.types import TileGrid

Tiles = NDArray[np.uint8]
# (b, px, px, 3) uint8 RGB -> name -> (b, ...)
Compute = Callable[[Tiles], Mapping[str, NDArray[Any]]]
T = TypeVar("T")

BAD_SHARE, BAD_MOST = 0.01, 500
LOADER_BATCH = 256
AHEAD = 2  # blocks that are read while one is computed
PLANNED = 2  # slides whose tiles are known before they are read


def bad_limit(n: int) -> int:
    """How many unreadable tiles of n are skipped: 1%, at least one, at most 500. More mean that the slide is damaged."""
    return min(max(int(n * BAD_SHARE), 1), BAD_MOST)


@dataclass(frozen=True)
class SlideWork:
    """One slide of a run.

    source: what to read, or a function that finds out (opens the slide, makes the mask) when its turn comes. blocks: folder of its blocks.
    inputs: what makes its tiles others (checksum of the slide); the grid is added.
    """

    name: str
    source: TileSource | Callable[[], TileSource]
    blocks: Path
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TilesDone:
    """A slide whose tiles are all computed. Read `folder`, then `folder.remove()`. kept: (n,) bool, the tiles that could be read.

    done_before: tiles that an earlier attempt had finished. reading: how this attempt read the slide, "" if there was nothing left to read.
    """

    work: SlideWork
    grid: TileGrid
    folder: BlockFolder
    done_before: int
    reading: str = ""

    @property
    def kept(self) -> NDArray[np.bool_]:
        kept = np.ones(len(self.grid), bool)
        kept[list(self.folder.bad)] = False
        return kept


def run_tiles(
    works: Iterable[SlideWork],
    compute: Compute,
    out_px: int,
    inputs: Mapping[str, Any],
    progress: Callable[[str, int, int], object] = lambda name, done, n: None,
    limit: Callable[[int], int] = bad_limit,
    engine: str = TORCH,
) -> Iterator[TilesDone | tuple[SlideWork, SlideError]]:
    """Every slide when it is done, or with the error that stopped it; slides follow one another without a gap.

    out_px: side of a tile in px. inputs: what makes the results others (encoder, weights, code). limit: n -> unreadable tiles that may be.
    engine: how tiles are resized, "torch" or "pillow" (ml.slides.resample); where it may differ, `inputs` has to name it.
    progress: called after each block with name, tiles done, tiles; what it raises goes on.
    Raises SlideError DISK_FULL (for all slides); what `compute` raises goes on. Finished blocks stay in any case.
    """
    yield from _Run(works, compute, out_px, inputs, progress, limit, engine).results()


def run_one(work: SlideWork, compute: Compute, out_px: int, inputs: Mapping[str, Any], **more: Any) -> TilesDone:
    """`run_tiles` of one slide; its error is raised (TOO_MANY_BAD_TILES, NO_TISSUE, those of the reader)."""
    for found in run_tiles([work], compute, out_px, inputs, **more):
        if isinstance(found, TilesDone):
            return found
        raise found[1]
    raise AssertionError("A run over one slide gave nothing.")


@dataclass
class _Plan:
    """A slide that is under way."""

    work: SlideWork
    source: TileSource
    folder: BlockFolder
    done_before: int
    allowed: int
    reading: str = ""

    def check(self) -> None:
        bad, n = self.folder.bad, self.folder.n
        if len(bad) > self.allowed:
            row, reason = next(iter(bad.items()))
            x, y = self.source.grid.xy[row]
            raise SlideError(
                FindingCode.TOO_MANY_BAD_TILES,
                f"{len(bad)} tiles of the slide cannot be read; {self.allowed} of {n} may be skipped. The first: {reason}",
                "Copy the slide again from the scanner or archive. The finished tiles are kept; trying again reads the bad ones once more.",
                f"x {x}, y {y} px0",
            )


class _Run:
    def __init__(self, works: Any, compute: Compute, out_px: int, inputs: Any, progress: Any, limit: Any, engine: str) -> None:
        self.works, self.compute, self.out_px, self.inputs = iter(works), compute, out_px, dict(inputs)
        self.progress, self.limit, self.engine = progress, limit, engine
        self.under_way: list[_Plan] = []
        # Filled by the reading thread: slides that are done without reading, or that could not be begun.
        self.ended: deque[TilesDone | tuple[SlideWork, SlideError]] = deque()
        self.per_tile: float | None = None

    def results(self) -> Iterator[TilesDone | tuple[SlideWork, SlideError]]:
        while True:
            stream = ahead(self._blocks(), AHEAD)
            try:
                waiting = None
                for plan, start, tiles, readable, reasons in stream:
                    # Until the first block things are opened and imported: that is no speed of reading.
                    waited = 0.0 if waiting is None else time.perf_counter() - waiting
                    yield from self._drain()
                    self._block(plan, start, tiles, readable, reasons, waited)
                    if plan.folder.complete:
                        self.under_way.remove(plan)
                        yield _done(plan)
                    waiting = time.perf_counter()
                yield from self._drain()
                return
            except SlideError as error:
                # Blocks come in order, so it is about the first slide that is not finished; the others are taken up again.
                if error.code == FindingCode.DISK_FULL or not self.under_way:
                    raise
                yield self.under_way.pop(0).work, error
            finally:
                stream.close()

    def _drain(self) -> Iterator[TilesDone | tuple[SlideWork, SlideError]]:
        while self.ended:
            yield self.ended.popleft()

    def _block(self, plan: _Plan, start: int, tiles: Tiles, readable: Any, reasons: dict[int, str], waited: float) -> None:
        began = time.perf_counter()
        arrays = {name: np.asarray(array) for name, array in self.compute(tiles).items()}
        if not readable.all():
            arrays = {name: np.where(readable.reshape(-1, *[1] * (a.ndim - 1)), a, a.dtype.type(0)) for name, a in arrays.items()}
        seconds = waited + time.perf_counter() - began
        try:
            plan.folder.write(Block(start, arrays, readable, reasons, seconds, waited))
        except OSError as error:
            if error.errno not in FULL:
                raise
            size = sum(a.nbytes for a in arrays.values()) / len(readable)
            raise disk_full(plan.folder.folder, int(size * (2 * plan.folder.n - len(plan.folder)))) from error
        self.progress(plan.work.name, len(plan.folder), plan.folder.n)
        plan.check()

    def _blocks(self) -> Iterator[tuple[_Plan, int, Tiles, NDArray[np.bool_], dict[int, str]]]:
        """In the reading thread: the tiles of all slides, laid together into blocks."""
        plans: dict[int, _Plan] = {}
        under_construction: dict[str, Any] = {}
        # A thread of its own: the loader asks for the next slide when one begins, and a tissue mask takes its time.
        sources = ahead(self._sources(plans), PLANNED)
        try:
            for batch in tile_batches(sources, self.out_px, LOADER_BATCH, engine=self.engine):
                for finished in [number for number in list(plans) if number < batch.source]:
                    del plans[finished]  # its grid would stay in memory for the whole run
                plans[batch.source].reading = batch.reading
                yield from _lay(plans[batch.source], batch, under_construction)
        finally:
            sources.close()

    def _sources(self, plans: dict[int, _Plan]) -> Iterator[TileSource]:
        numbers = count()
        for plan in [*self.under_way]:  # left over from a stream that was broken off
            plans[next(numbers)] = plan
            yield _rest(plan)
        for work in self.works:
            try:
                plan = self._plan(work)
                plan.check()
            except SlideError as error:
                self.ended.append((work, error))
                continue
            if plan.folder.complete:
                self.ended.append(_done(plan))
                continue
            self.under_way.append(plan)
            plans[next(numbers)] = plan
            yield _rest(plan)

    def _plan(self, work: SlideWork) -> _Plan:
        source = work.source() if callable(work.source) else work.source
        n = len(source.grid)
        if not n:
            raise SlideError(
                FindingCode.NO_TISSUE,
                f"No tile of {source.grid.tile_um:g} um has enough tissue.",
                "Check the slide; it may be empty or too small.",
            )
        inputs = {**self.inputs, **work.inputs, "grid": grid_hash(source.grid), "px": self.out_px}
        rows = None
        if not BlockFolder.begun(work.blocks):
            if self.per_tile is None:
                self.per_tile = seconds_per_tile(self.compute, self.out_px)
            rows = rows_per_block(n, self.per_tile)
        try:
            folder, allowed = BlockFolder(work.blocks, n, inputs, rows), self.limit(n)
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise disk_full(work.blocks, n) from error
        if len(folder.bad) > allowed:
            # What stopped the last attempt may have been the network or the disk: those tiles get a second chance.
            folder.forget_bad()
        return _Plan(work, source, folder, len(folder), allowed)


def _rest(plan: _Plan) -> TileSource:
    return TileSource(plan.source.path, plan.source.grid, plan.source.mpp, plan.folder.todo())


def _done(plan: _Plan) -> TilesDone:
    return TilesDone(plan.work, plan.source.grid, plan.folder, plan.done_before, plan.reading)


def _lay(plan: _Plan, batch: TileBatch, open_block: dict[str, Any]) -> Iterator[tuple[_Plan, int, Tiles, Any, dict[int, str]]]:
    """Cuts a batch at the edges of blocks and gives each block when it is whole; an unfinished one waits in `open_block`."""
    at, rows = 0, plan.folder.rows
    while at < len(batch.rows):
        start = int(batch.rows[at]) // rows * rows
        size = plan.folder.size(start)
        if not open_block and at + size <= len(batch.rows):
            whole = slice(at, at + size)
            reasons = {row: reason for row, reason in batch.reasons.items() if start <= row < start + size}
            yield plan, start, batch.tiles[whole], batch.readable[whole], reasons
            at += size
            continue
        if not open_block:
            shape = (size, *batch.tiles.shape[1:])
            open_block.update(tiles=np.empty(shape, np.uint8), readable=np.empty(size, bool), reasons={}, filled=0)
        filled = open_block["filled"]
        take = min(size - filled, len(batch.rows) - at)
        open_block["tiles"][filled : filled + take] = batch.tiles[at : at + take]
        open_block["readable"][filled : filled + take] = batch.readable[at : at + take]
        open_block["reasons"] |= {row: reason for row, reason in batch.reasons.items() if start <= row < start + size}
        open_block["filled"], at = filled + take, at + take
        if open_block["filled"] == size:
            yield plan, start, open_block["tiles"], open_block["readable"], open_block["reasons"]
            open_block.clear()


def ahead(items: Iterator[T], depth: int) -> Generator[T]:
    """The items, made up to `depth` ahead in a thread; their error is raised here, after the items before it."""
    made: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(what: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                made.put((what, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # it belongs to the thread that asked
            put("error", error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=make, name="tiles ahead", daemon=True)
    thread.start()
    try:
        while True:
            what, value = made.get()
            if what == "error":
                raise value
            if what == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join()
