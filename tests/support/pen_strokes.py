"""Marker strokes drawn on overviews: ink multiplies the light that comes through, its border is out of focus."""

import numpy as np
from scipy import ndimage

# Light that a marker lets through, 0..255 per channel.
INKS = {
    "blue": (30, 60, 170),
    "navy": (25, 35, 110),
    "green": (20, 130, 70),
    "black": (35, 35, 40),
    "red": (200, 30, 45),
}


def with_stroke(overview: np.ndarray, ink: str, seed: int = 0, radius: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    """(picture with a curved stroke of `ink`, where it is (rows, cols) bool). radius: half its width in cells."""
    rng = np.random.default_rng(seed)
    height, width = overview.shape[:2]
    t = np.linspace(0, 1, 1000)[:, None]
    ends = rng.random((4, 2)) * [height, width]
    line = (1 - t) ** 3 * ends[0] + 3 * t * (1 - t) ** 2 * ends[1] + 3 * t**2 * (1 - t) * ends[2] + t**3 * ends[3]
    rows, cols = line.astype(int).T
    away = np.ones((height, width), bool)
    away[rows.clip(0, height - 1), cols.clip(0, width - 1)] = False
    where = ndimage.distance_transform_edt(away) < radius
    cover = ndimage.gaussian_filter(where.astype(np.float32), 1.5)[..., None]
    picture = overview * (1 - cover + cover * np.array(INKS[ink]) / 255.0) + rng.normal(0, 2, overview.shape)
    return picture.clip(0, 255).astype(np.uint8), where
