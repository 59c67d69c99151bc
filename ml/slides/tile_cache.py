"""Decoded tiles kept in memory that is used again and again: fresh memory for each tile costs as much as half of decoding it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Key = tuple[int, int]

SLAB_TILES = 32  # tiles allocated at a time


@dataclass
class Lent:
    """A kept tile, and how many read it just now."""

    pixels: Rgb
    readers: int = 0


class TileCache:
    """At most `capacity` bytes of decoded tiles of one shape, the least recently used ones dropped first. Thread-safe.

    A tile is lent for reading only: its memory is given to another tile when nobody reads it any more.
    """

    def __init__(self, shape: tuple[int, int, int], capacity: int) -> None:
        self.shape = shape
        self.slots = max(SLAB_TILES, capacity // int(np.prod(shape)))
        self._kept: OrderedDict[Key, Lent] = OrderedDict()
        self._free: list[Rgb] = []
        self._allocated = 0
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Memory allocated so far."""
        return self._allocated * int(np.prod(self.shape))

    def lend(self, key: Key, make: Callable[[Rgb], None]) -> Lent:
        """The tile of `key`; make(pixels) fills it where it is not kept. To be given back. Errors: those of make."""
        with self._lock:
            lent = self._kept.get(key)
            if lent is not None:
                self._kept.move_to_end(key)
                lent.readers += 1
                return lent
            pixels = self._room()
        try:
            make(pixels)
        except BaseException:
            with self._lock:
                self._free.append(pixels)
            raise
        with self._lock:
            return self._keep(key, pixels)

    def give_back(self, key: Key, lent: Lent) -> None:
        """The tile is not read any more by the one that it was lent to."""
        with self._lock:
            lent.readers -= 1
            if not lent.readers and self._kept.get(key) is not lent:
                self._free.append(lent.pixels)

    def __contains__(self, key: Key) -> bool:
        return key in self._kept

    def _room(self) -> Rgb:
        """Memory for one tile; the caller holds the lock. Tiles that are being read are never taken."""
        if not self._free and self._allocated >= self.slots:
            for key, kept in self._kept.items():
                if not kept.readers:
                    del self._kept[key]
                    return kept.pixels
        if not self._free:  # also when all are being read: a thread must not wait for another one
            self._allocated += SLAB_TILES
            self._free.extend(np.empty((SLAB_TILES, *self.shape), np.uint8))
        return self._free.pop()

    def _keep(self, key: Key, pixels: Rgb) -> Lent:
        """The new tile, counted as being read, in the place of the same one of another thread; unread, that one's memory is free."""
        before = self._kept.get(key)
        if before is not None and not before.readers:
            self._free.append(before.pixels)
        self._kept[key] = kept = Lent(pixels, 1)
        self._kept.move_to_end(key)
        return kept
