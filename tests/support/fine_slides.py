"""Slides of very many small tiles, and an encoder for them that costs next to nothing: for tests and benchmarks of long runs."""

from pathlib import Path

import numpy as np

from ml.simulate.write import write_pyramid

MPP, TILE_PX = 0.5, 32
TILE_UM = MPP * TILE_PX


def write_fine_slide(path: Path, tiles: int, seed: int = 0) -> Path:
    """At least `tiles` tiles of 16 um that are all tissue: a JPEG pyramid of coloured squares of 8 px."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(tiles**0.5)) * TILE_PX
    squares = rng.integers(0, 60, (side // 8, side // 8, 3)) + (150, 60, 130)
    picture = squares.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    return write_pyramid(path, picture, MPP)


class MeanColour:
    """Mean colour of 4 x 4 pieces of a tile: 48 values. Counts the tiles that it was given."""

    name, dim, input_px, tile_um = "mean-colour", 48, TILE_PX, TILE_UM
    device, precision, weights_sha256, resizing = "cpu", "fp32", "0" * 64, "pillow"

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        self.seen += len(tiles)
        pieces = tiles.reshape(len(tiles), 4, TILE_PX // 4, 4, TILE_PX // 4, 3)
        return pieces.mean(axis=(2, 4), dtype=np.float32).reshape(len(tiles), self.dim)
