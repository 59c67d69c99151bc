"""Whole patients: tissue, picture, clinical facts and outcome, each from its own random stream.

The stream of biology, clinical facts and outcome depends on (seed, index) only, that of stain and scanner on the site
too. So the same (seed, index) at another site is the same patient in another laboratory: give two sites different
indices (`start`) or seeds when they should be different people.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.simulate.assay import niche_fractions
from ml.simulate.biology import Tissue, simulate_tissue
from ml.simulate.clinical import draw_clinical
from ml.simulate.config import SimulatorConfig
from ml.simulate.course import Measurement, Treatment, draw_measurements, draw_treatments
from ml.simulate.outcome import Outcome, simulate_outcome
from ml.simulate.rendering import render
from ml.simulate.stain import SITES, StainLaw
from ml.simulate.write import write_pyramid


@dataclass(frozen=True)
class SimulatedPatient:
    """One patient with the truth. code: e.g. "SIM-A-001" (site letter, index + 1).

    clinical: age, sex, stage, ecog, histology, pack_years, specimen_site, procedure, question.
    fractions: true share of tissue area per niche. stain: law of this slide.
    """

    code: str
    index: int
    seed: int
    site: str
    scanner: str
    stain_batch: str
    clinical: dict[str, Any]
    tissue: Tissue
    fractions: dict[str, float]
    outcome: Outcome
    treatments: list[Treatment]
    markers: list[Measurement]
    stain: StainLaw
    config: SimulatorConfig

    def render(self) -> NDArray[np.uint8]:
        """The slide as (size_px, size_px, 3) uint8 RGB; the same every time."""
        return render(self.tissue, self.stain, stream(self.seed, self.index, "render", self.site))

    def write_slide(self, path: str | Path) -> Path:
        """Render and write a pyramidal JPEG TIFF with mpp; gives the path."""
        return write_pyramid(path, self.render(), self.tissue.mpp, self.config.jpeg_quality or self.stain.jpeg_quality)


def stream(seed: int, index: int, *names: str) -> np.random.Generator:
    """An independent random stream per patient and purpose, whatever was drawn before."""
    return np.random.default_rng([seed, index, *(zlib.crc32(name.encode()) for name in names)])


def simulate_patient(index: int, seed: int, site: str = "Site A", config: SimulatorConfig | None = None) -> SimulatedPatient:
    """Patient `index` (from 0) of the cohort `seed` at `site` (a key of SITES; KeyError names them). Independent of order."""
    if site not in SITES:
        raise KeyError(f"There is no site {site!r}; there are {', '.join(SITES)}.")
    config, where = config or SimulatorConfig(), SITES[site]
    clinical = draw_clinical(stream(seed, index, "clinical"))
    tissue = simulate_tissue(stream(seed, index, "biology"), config, clinical.histology)
    fractions = niche_fractions(tissue)
    outcome = simulate_outcome(fractions, clinical, stream(seed, index, "outcome"), config)
    course = stream(seed, index, "course")
    markers = draw_measurements(course, clinical, tissue.truth)
    treatments = draw_treatments(course, clinical, outcome, markers)
    laboratory = stream(seed, index, "laboratory", site)
    batch = where.draw_batch(laboratory)
    return SimulatedPatient(
        code=f"SIM-{where.letter}-{index + 1:03d}",
        index=index,
        seed=seed,
        site=site,
        scanner=where.scanner,
        stain_batch=batch,
        clinical=clinical.as_dict(),
        tissue=tissue,
        fractions=fractions,
        outcome=outcome,
        treatments=treatments,
        markers=markers,
        stain=where.draw(laboratory, batch),
        config=config,
    )


def simulate_cohort(
    n: int, seed: int, site: str = "Site A", config: SimulatorConfig | None = None, start: int = 0
) -> Iterator[SimulatedPatient]:
    """Patients start .. start + n - 1, one at a time (a patient holds some 10 MB)."""
    for index in range(start, start + n):
        yield simulate_patient(index, seed, site, config)
