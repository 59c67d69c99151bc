"""What a laboratory and its scanner do to a picture. Drawn per slide from the site, never from the biology."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class StainLaw:
    """How one slide is stained and scanned.

    hematoxylin, eosin, blood: optical density per unit concentration in R, G, B (Beer-Lambert, natural log).
    hematoxylin_scale, eosin_scale: concentrations. white: RGB of empty glass, 0..255. gamma: tone of the scanner.
    blur_um: sd of the optical blur. noise: sd of sensor noise in grey levels. uneven: relative slow change of thickness.
    jpeg_quality: 0..100.
    """

    hematoxylin: Vector
    eosin: Vector
    blood: Vector
    hematoxylin_scale: float
    eosin_scale: float
    white: Vector
    gamma: float
    blur_um: float
    noise: float
    uneven: float
    jpeg_quality: int


@dataclass(frozen=True)
class Site:
    """A laboratory with its scanner and stain batches; its own mean stain and how much slides scatter about it."""

    name: str
    letter: str
    scanner: str
    batches: tuple[str, ...]
    mean: StainLaw
    batch_sd: float = 0.07
    slide_sd: float = 0.05

    def draw_batch(self, rng: np.random.Generator) -> str:
        """Name of the stain batch of one slide."""
        return self.batches[int(rng.integers(len(self.batches)))]

    def draw(self, rng: np.random.Generator, batch: str) -> StainLaw:
        """Stain law of one slide: site mean, the batch's own fixed deviation, scatter of the slide."""
        if batch not in self.batches:
            raise KeyError(f"{self.name} has no stain batch {batch!r}; it has {', '.join(self.batches)}.")
        fixed = np.random.default_rng([ord(self.letter), self.batches.index(batch)])
        b, s = fixed.normal(0, self.batch_sd, 8), rng.normal(0, self.slide_sd, 8)
        move = b + s
        m = self.mean
        return StainLaw(
            hematoxylin=_tilt(m.hematoxylin, move[0] * 0.6, move[1] * 0.6),
            eosin=_tilt(m.eosin, move[2] * 0.5, move[3] * 0.9),
            blood=m.blood,
            hematoxylin_scale=m.hematoxylin_scale * float(np.exp(1.6 * move[4])),
            eosin_scale=m.eosin_scale * float(np.exp(1.8 * move[5])),
            white=tuple(float(np.clip(w + 14 * s[6], 225, 250)) for w in m.white),  # type: ignore[arg-type]
            gamma=m.gamma * float(np.exp(0.4 * move[7])),
            blur_um=m.blur_um * float(np.exp(2.0 * s[7])),
            noise=m.noise,
            uneven=m.uneven,
            jpeg_quality=m.jpeg_quality,
        )


def _tilt(vector: Vector, red: float, blue: float) -> Vector:
    """The vector with its red and blue parts changed by these relative amounts, same length."""
    v = np.asarray(vector) * np.array([1 + red, 1.0, 1 + blue])
    v *= np.linalg.norm(vector) / np.linalg.norm(v)
    return float(v[0]), float(v[1]), float(v[2])


SITES: dict[str, Site] = {
    site.name: site
    for site in (
        Site(
            "Site A",
            "A",
            "Simulated scanner S40",
            ("A-batch-1", "A-batch-2", "A-batch-3"),
            StainLaw((0.68, 0.66, 0.34), (0.10, 0.86, 0.47), (0.18, 1.30, 0.86), 1.0, 1.0, (244, 243, 244), 1.0, 0.32, 1.6, 0.05, 88),
        ),
        Site(
            "Site B",
            "B",
            "Simulated scanner P20",
            ("B-batch-1", "B-batch-2"),
            StainLaw((0.56, 0.72, 0.40), (0.05, 0.78, 0.36), (0.14, 1.22, 0.74), 1.15, 0.82, (240, 240, 245), 0.93, 0.48, 2.4, 0.09, 82),
        ),
    )
}
