"""View tiles of a slide in the Deep Zoom scheme that OpenSeadragon reads, and a cache of open slides for the server.

A slide whose own tiles are Deep Zoom tiles is given out as it is (ml.slides.view_tiles); of any other one OpenSlide's tiles are encoded.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from pathlib import Path

from openslide import OpenSlideCache
from openslide.deepzoom import DeepZoomGenerator

from ml.slides.colour_profile import SrgbTiles, profile_of
from ml.slides.findings import FindingCode, SlideError
from ml.slides.reader import Slide, open_slide
from ml.slides.view_tiles import StoredTiles, not_there, serials, stored_tiles, unreadable

JPEG_QUALITY = 80
OPEN_SLIDES = 24
TILE_CACHE_BYTES = 96 * 1024 * 1024


class DeepZoom:
    """The Deep Zoom pyramid of an open slide; pixels as openslide.deepzoom gives them, empty margins cut off."""

    def __init__(self, slide: Slide, tile_size: int = 254, overlap: int = 1) -> None:
        self.slide = slide
        self.generator = DeepZoomGenerator(slide.osr, tile_size=tile_size, overlap=overlap, limit_bounds=True)
        self.profile = profile_of(slide.osr)
        self.serial = next(serials)
        self.broken = False  # OpenSlide answers nothing more on a handle after its first failed read

    @property
    def level_count(self) -> int:
        """Levels are 0 (one pixel) to level_count - 1 (full resolution)."""
        return int(self.generator.level_count)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in px0 of what the viewer shows."""
        width, height = self.generator.level_dimensions[-1]
        return int(width), int(height)

    def dzi(self) -> str:
        """The .dzi descriptor (XML)."""
        return str(self.generator.get_dzi("jpeg"))

    def tile(self, level: int, col: int, row: int) -> bytes:
        """JPEG bytes of one tile. Errors: SlideError TILE_NOT_THERE (no such tile), TILE_UNREADABLE (damaged file)."""
        if not 0 <= level < self.level_count:
            raise not_there(level, col, row, self.level_count, None)
        cols, rows = self.generator.level_tiles[level]
        if not (0 <= col < cols and 0 <= row < rows):
            raise not_there(level, col, row, self.level_count, (cols, rows))
        try:
            picture = self.generator.get_tile(level, (col, row))
        except Exception as error:
            self.broken = True
            raise unreadable(error, level, col, row) from error
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=JPEG_QUALITY, icc_profile=None)
        return out.getvalue()


class SlideCache:
    """Open slides by path, least recently used out first; safe to use from many threads.

    A file that was replaced is opened anew, also by one of the same size and time (a copy from a backup). A slide that falls out stays
    usable for whoever still holds it and is closed when the last holder lets go.
    """

    def __init__(self, capacity: int = OPEN_SLIDES) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, int, int, int, int], DeepZoom | StoredTiles] = OrderedDict()
        self._decoded = OpenSlideCache(TILE_CACHE_BYTES)
        self.srgb = SrgbTiles()

    def __call__(self, path: str | Path) -> DeepZoom | StoredTiles:
        """The open slide with its Deep Zoom pyramid. Errors as ml.slides.reader.open_slide."""
        path = Path(path)
        try:
            stat = path.stat()
        except OSError as error:
            raise SlideError(FindingCode.FILE_MISSING, f"There is no file {path.name}.", "Make the working slide again.") from error
        key = (str(path), stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
        with self._lock:
            known = self._open.get(key)
            if known is not None and not known.broken:
                self._open.move_to_end(key)
                return known
        fresh = stored_tiles(path) or self._encoded(path)
        with self._lock:
            kept = self._open.get(key)
            if kept is None or kept.broken:
                kept = self._open[key] = fresh
            self._open.move_to_end(key)
            while len(self._open) > self.capacity:
                self._open.popitem(last=False)
        return kept

    def _encoded(self, path: Path) -> DeepZoom:
        slide = open_slide(path)
        slide.osr.set_cache(self._decoded)
        return DeepZoom(slide)

    def __len__(self) -> int:
        return len(self._open)

    def clear(self) -> None:
        """Forget all slides (for tests, and before a folder is removed)."""
        with self._lock:
            self._open.clear()


slide_cache = SlideCache()
