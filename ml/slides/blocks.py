"""Long work over the tiles of a slide in blocks that survive a kill -9: each block is a file that is whole or absent.

A block holds what was computed for the tiles [start, stop) of a grid. All blocks of a run stand on one fixed raster of rows, so that a
run that was interrupted gives the same numbers as one that was not, and at most the block in work is lost.
File: magic, length of the header, header (JSON), the arrays one after the other, SHA-256 of everything before it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.slides.files import whole_file
from ml.slides.findings import FindingCode, SlideError
from ml.types import TileGrid

MAGIC = b"tbblock1"
DIGEST = 32
SHARE = 0.02  # of the tiles of a slide: what a kill may cost at most
SMALLEST, LARGEST = 16, 512  # tiles; below 800 tiles a slide is seconds of work, and a file per tile would be slower than the work
SYNC_FROM = 0.25  # seconds of work: waiting for the disk after less would cost more than doing it again after a power cut
SUFFIX, RUN = ".block", "run.json"


@dataclass(frozen=True)
class Block:
    """What was computed for the tiles [start, start + b).

    arrays: name -> (b, ...); rows of tiles that could not be read hold zeros. readable: (b,) bool. reasons: row of the grid -> why not.
    seconds: how long the block took, waited: how much of that was waiting for tiles.
    """

    start: int
    arrays: dict[str, NDArray[Any]]
    readable: NDArray[np.bool_]
    reasons: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def stop(self) -> int:
        return self.start + len(self.readable)


@dataclass(frozen=True)
class _Known:
    """A good block file: what is remembered of it."""

    rows: int
    bad: dict[int, str]
    seconds: float
    waited: float


def rows_per_block(n: int, seconds_per_tile: float = 0.0, longest: float = 30.0) -> int:
    """Tiles per block: at most 2% of n (but not below 16 tiles), at most 512, and at most `longest` seconds of work."""
    rows = min(max(int(n * SHARE), SMALLEST), LARGEST)
    return max(1, min(rows, int(longest / seconds_per_tile))) if seconds_per_tile > 0 else rows


def grid_hash(grid: TileGrid) -> str:
    """SHA-256 over the corners, the side, the mpp and the slide's size: another grid is another input."""
    digest = hashlib.sha256(np.ascontiguousarray(grid.xy, np.int64).tobytes())
    digest.update(json.dumps([grid.tile_px0, grid.mpp, list(map(int, grid.slide_size))]).encode())
    return digest.hexdigest()


class BlockFolder:
    """The blocks of one run over n tiles.

    inputs: what the run is made of (slide, grid, encoder, weights, code ...), JSON; blocks of other inputs in the same folder are removed,
    and so are damaged ones. rows: tiles per block for a new run; a run that goes on keeps the number it began with.
    """

    def __init__(self, folder: str | Path, n: int, inputs: Mapping[str, Any], rows: int | None = None) -> None:
        self.folder, self.n = Path(folder), n
        canonical = json.dumps([n, dict(inputs)], sort_keys=True, separators=(",", ":"))
        self.fingerprint = hashlib.sha256(canonical.encode()).hexdigest()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows = self._rows_of_before() or rows or rows_per_block(n)
        self._known: dict[int, _Known] = {}
        self._take_up()

    @staticmethod
    def begun(folder: str | Path) -> bool:
        """Whether a run began in this folder."""
        return (Path(folder) / RUN).is_file()

    def __len__(self) -> int:
        """Tiles that are done."""
        return sum(known.rows for known in self._known.values())

    @property
    def complete(self) -> bool:
        return len(self) == self.n

    @property
    def seconds(self) -> tuple[float, float]:
        """(seconds of work, of these waited for tiles) in all blocks, also those of earlier attempts."""
        return sum(k.seconds for k in self._known.values()), sum(k.waited for k in self._known.values())

    @property
    def bad(self) -> dict[int, str]:
        """Row -> why its tile could not be read, of all blocks."""
        return {row: reason for start in sorted(self._known) for row, reason in self._known[start].bad.items()}

    def starts(self) -> list[int]:
        """First rows of the blocks that are still to do, ascending."""
        return [start for start in range(0, self.n, self.rows) if start not in self._known]

    def size(self, start: int) -> int:
        """Tiles of the block that begins at `start`."""
        return min(self.rows, self.n - start)

    def todo(self) -> NDArray[np.int64]:
        """(k,) rows of the grid that are still to do, ascending."""
        parts = [np.arange(start, start + self.size(start), dtype=np.int64) for start in self.starts()]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def write(self, block: Block) -> None:
        """Keeps a block: temporary file, fsync, rename. OSError (ENOSPC ...) leaves the blocks before it as they are.

        The fsync of quick work is left to the system: kill -9 loses no written block; what a power cut spoils is found by its checksum.
        """
        if block.start % self.rows or len(block.readable) != self.size(block.start):
            raise ValueError(f"A block of {len(block.readable)} tiles at {block.start} is not on this run's raster of {self.rows}.")
        arrays = {name: np.ascontiguousarray(array) for name, array in block.arrays.items()}
        header = {
            "fingerprint": self.fingerprint,
            "start": block.start,
            "rows": len(block.readable),
            "arrays": [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()],
            "bad": [[int(row), reason] for row, reason in sorted(block.reasons.items())],
            "seconds": block.seconds,
            "waited": block.waited,
        }
        text = json.dumps(header).encode()
        digest = hashlib.sha256()
        pieces: list[Any] = [MAGIC, len(text).to_bytes(4, "little"), text, *(a.data.cast("B") for a in arrays.values() if a.size)]
        with whole_file(self._path(block.start), durable=block.seconds >= SYNC_FROM) as part, part.open("wb") as file:
            for piece in pieces:
                digest.update(piece)
                file.write(piece)
            file.write(digest.digest())
        self._known[block.start] = _Known(len(block.readable), dict(sorted(block.reasons.items())), block.seconds, block.waited)

    def __iter__(self) -> Iterator[Block]:
        """The blocks in order, one in memory at a time. SlideError BLOCK_DAMAGED removes the bad one, so that trying again makes it new."""
        for start in sorted(self._known):
            block = _read(self._path(start), self.fingerprint)
            if block is None:
                self._forget(start)
                raise SlideError(
                    FindingCode.BLOCK_DAMAGED,
                    f"A block of finished work (tiles {start} to {start + self.rows}) was damaged on the disk.",
                    "Try again: only this block is done again. If it happens more often, check the disk.",
                )
            yield block

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array of all blocks in one piece, (n, ...) each. For small things: everything is in memory at once."""
        blocks = list(self)
        return {name: np.concatenate([b.arrays[name] for b in blocks]) for name in blocks[0].arrays} if blocks else {}

    def forget_bad(self) -> None:
        """Removes the blocks that hold unreadable tiles: they are read again."""
        for start in [start for start, known in self._known.items() if known.bad]:
            self._forget(start)

    def remove(self) -> None:
        """Removes the folder with everything in it."""
        self._known.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:010d}{SUFFIX}"

    def _forget(self, start: int) -> None:
        self._known.pop(start, None)
        self._path(start).unlink(missing_ok=True)

    def _rows_of_before(self) -> int:
        """Tiles per block of the run that was begun here on the same inputs, or 0."""
        with suppress(OSError, ValueError, TypeError, AttributeError):
            run = json.loads((self.folder / RUN).read_text())
            if run.get("fingerprint") == self.fingerprint:
                return max(int(run["rows"]), 0)
        return 0

    def _take_up(self) -> None:
        """Checks every block file; what is damaged, half written or of another input goes."""
        for path in self.folder.iterdir():
            block = _read(path, self.fingerprint) if path.suffix == SUFFIX and not path.name.startswith(".") else None
            fits = block is not None and block.start % self.rows == 0 and len(block.readable) == self.size(block.start)
            if block is not None and fits and path == self._path(block.start):
                self._known[block.start] = _Known(len(block.readable), block.reasons, block.seconds, block.waited)
            elif path.name != RUN and path.is_file():
                path.unlink(missing_ok=True)
        with whole_file(self.folder / RUN) as part:
            part.write_text(json.dumps({"fingerprint": self.fingerprint, "n": self.n, "rows": self.rows}))


def _read(path: Path, fingerprint: str) -> Block | None:
    """The block in a file; None if it is truncated, changed or of another input."""
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    body = memoryview(raw)[:-DIGEST]
    if not raw.startswith(MAGIC) or len(raw) < len(MAGIC) + 4 + DIGEST or hashlib.sha256(body).digest() != raw[-DIGEST:]:
        return None
    first = len(MAGIC) + 4
    first += (length := int.from_bytes(raw[len(MAGIC) : first], "little"))
    header = json.loads(raw[first - length : first])
    if header["fingerprint"] != fingerprint:
        return None
    arrays = {}
    for name, dtype, shape in header["arrays"]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        arrays[name] = np.frombuffer(body[first : first + size], dtype).reshape(shape)
        first += size
    bad = {int(row): str(reason) for row, reason in header["bad"]}
    readable = np.ones(header["rows"], bool)
    readable[[row - header["start"] for row in bad]] = False
    return Block(header["start"], arrays, readable, bad, header["seconds"], header["waited"])


def free_bytes(folder: str | Path) -> int:
    """What is free for us on the disk that holds a folder (which need not exist yet)."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
