"""Patients with multiplex images: biology, laboratory and course come from streams that know nothing of each other.

Per patient and seed: "clinical" and "biology" give diagnosis, tissue and outcome; "laboratory" gives site, batch and panel; "assay" and
"render" the noise. So another laboratory changes no cell, and another tissue no gain. `confounding` alone ties site to diagnosis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from ml.simulate.assay import niche_fractions
from ml.simulate.biology import Tissue, simulate_tissue
from ml.simulate.clinical import Clinical, draw_clinical
from ml.simulate.cohort import stream
from ml.simulate.config import Composition
from ml.simulate.course import Measurement, Treatment, draw_measurements, draw_treatments
from ml.simulate.multiplex import MultiplexConfig, SimulatedMultiplex, choose_fields, crop_tissue, image_field
from ml.simulate.outcome import Outcome, simulate_outcome
from ml.simulate.rendering import render
from ml.simulate.stain import SITES, Site, StainLaw

# Diagnosis -> histology (which decides on glands and drugs), and the law of its niches. Their mixtures overlap: no niche tells it for sure.
DIAGNOSES: dict[str, tuple[str, Composition]] = {
    "acinar adenocarcinoma": ("adenocarcinoma", Composition(tumour_core=6.0, stroma=9.0, normal=0.8, necrosis_share=(1.0, 6.0))),
    "lepidic adenocarcinoma": (
        "adenocarcinoma",
        Composition(tumour_core=3.0, stroma=1.5, normal=12.0, necrosis_share=(0.5, 8.0), tls_mean=0.8),
    ),
    "squamous cell carcinoma": (
        "squamous cell carcinoma",
        Composition(tumour_core=14.0, stroma=4.0, normal=0.6, necrosis_share=(3.0, 4.0), tls_mean=0.6),
    ),
    "lymphoepithelial carcinoma": (
        "squamous cell carcinoma",
        Composition(tumour_core=5.0, stroma=5.0, normal=0.6, necrosis_share=(0.5, 8.0), margin_um=(60.0, 120.0), tls_mean=12.0),
    ),
}


class Response(BaseModel):
    """Log odds of response to treatment, linear in what is true of the whole tissue: fractions of niches, share of CD8 among T cells."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    intercept: float = 0.5
    tls: float = Field(default=16.0, description="per fraction of tissue above 0.06")
    necrosis: float = Field(default=-12.0, description="per fraction of tissue above 0.08")
    cd8: float = Field(default=3.0, description="per share above 3/8")

    def log_odds(self, fractions: dict[str, float], cd8_share: float) -> float:
        """Of one patient."""
        return (
            self.intercept
            + self.tls * (fractions["tls"] - 0.06)
            + self.necrosis * (fractions["necrosis"] - 0.08)
            + self.cd8 * (cd8_share - 0.375)
        )


class CohortConfig(BaseModel):
    """What a cohort is like. Frozen, so that it can key a cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_patients: int = Field(default=60, ge=1)
    n_sites: int = Field(default=3, ge=1, le=26)
    batches: int = Field(default=3, ge=1, description="per site")
    panels: tuple[str, ...] = Field(default=("broad",), min_length=1, description="keys of PANELS; each patient has one, drawn at random")
    tissues: tuple[int, int] = Field(default=(1, 3), description="fewest and most fields per patient")
    confounding: float = Field(default=0.0, ge=0, le=1, description="share of patients whose site follows from the diagnosis")
    image: MultiplexConfig = MultiplexConfig()
    response: Response = Response()


@dataclass(frozen=True)
class Assignment:
    """What is drawn of a patient before there is any tissue. site, batch: numbers from 0."""

    code: str
    index: int
    diagnosis: str
    site: int
    batch: int
    panel: str


@dataclass(frozen=True)
class MultiplexPatient:
    """One patient with the truth. tissues: her fields, cut from one tissue without overlap. fractions: niches of the whole tissue.

    responder: answered to treatment; log_odds: what that was drawn from. Images are made when asked for: they take some 20 MB each.
    """

    assigned: Assignment
    seed: int
    clinical: Clinical
    tissues: tuple[Tissue, ...]
    fractions: dict[str, float]
    outcome: Outcome
    responder: bool
    log_odds: float
    treatments: list[Treatment]
    markers: list[Measurement]
    image: MultiplexConfig

    @property
    def code(self) -> str:
        """E.g. "MX-A-001": letter of the site, index + 1."""
        return self.assigned.code

    def multiplex(self, k: int = 0) -> SimulatedMultiplex:
        """The image of her field k; the same every time."""
        return image_field(self.tissues[k], self.image, self._stream("assay", k))

    def picture(self, k: int = 0) -> NDArray[np.uint8]:
        """H&E of the same field, (size, size, 3) uint8 RGB at 1 um per px, stained at her site."""
        site = stain_site(self.assigned.site)
        law = site.draw(self._stream("stain", k), site.batches[self.assigned.batch % len(site.batches)])
        return render(self.tissues[k], law, self._stream("render", k))

    def _stream(self, name: str, k: int) -> np.random.Generator:
        return stream(self.seed, self.assigned.index, name, str(self.assigned.site), str(k))

    def facts(self) -> dict[str, Any]:
        """Plain values: what a table of patients holds."""
        a, o = self.assigned, self.outcome
        return {
            "patient": a.code,
            "diagnosis": a.diagnosis,
            "site": site_name(a.site),
            "batch": f"{site_name(a.site)} batch {a.batch + 1}",
            "panel": a.panel,
            "age": self.clinical.age,
            "sex": self.clinical.sex,
            "stage": self.clinical.stage,
            "time_days": o.time_days,
            "event": o.event,
            "response": "responder" if self.responder else "non-responder",
            "tissues": len(self.tissues),
        }


def site_name(site: int) -> str:
    """ "Site A" for 0."""
    return f"Site {chr(ord('A') + site)}"


def stain_site(site: int) -> Site:
    """How H&E is stained and scanned at site 0..25: the simulator's two, then others of a mean stain drawn between and beyond them."""
    name, known = site_name(site), SITES.get(site_name(site))
    if known is not None:
        return known
    draw, (one, two) = np.random.default_rng([271, site]), (s.mean for s in SITES.values())

    def between(a: Any, b: Any) -> Any:
        share = draw.uniform(-0.3, 1.3)
        return tuple(x + share * (y - x) for x, y in zip(a, b)) if isinstance(a, tuple) else a + share * (b - a)

    fields = StainLaw.__dataclass_fields__
    mean = replace(one, **{f: between(getattr(one, f), getattr(two, f)) for f in fields if f != "jpeg_quality"})
    letter = name[-1]
    return Site(name, letter, f"Simulated scanner {letter}", tuple(f"{letter}-batch-{i}" for i in (1, 2, 3)), mean)


def assign(index: int, seed: int, config: CohortConfig) -> Assignment:
    """Diagnosis from the stream of the clinic; site, batch and panel from that of the laboratory."""
    names = list(DIAGNOSES)
    kind = int(stream(seed, index, "diagnosis").integers(len(names)))
    laboratory = stream(seed, index, "laboratory")
    site, batch = int(laboratory.integers(config.n_sites)), int(laboratory.integers(config.batches))
    panel = config.panels[int(laboratory.integers(len(config.panels)))]
    if laboratory.random() < config.confounding:
        site = kind % config.n_sites
    return Assignment(f"MX-{site_name(site)[-1]}-{index + 1:03d}", index, names[kind], site, batch, panel)


def multiplex_patient(index: int, seed: int, config: CohortConfig | None = None) -> MultiplexPatient:
    """Patient `index` (from 0) of the cohort `seed`, independent of order."""
    config = config or CohortConfig()
    a = assign(index, seed, config)
    histology, composition = DIAGNOSES[a.diagnosis]
    image = config.image.model_copy(update={"site": a.site, "batch": a.batch, "panel": a.panel, "composition": composition})
    clinical = replace(draw_clinical(stream(seed, index, "clinical")), histology=histology)
    whole = simulate_tissue(stream(seed, index, "biology"), image.slide, histology)
    places = stream(seed, index, "fields")
    wanted = int(places.integers(config.tissues[0], config.tissues[1] + 1))
    corners = choose_fields(whole, image.size_px, wanted, places)
    # a seed per field: labels and noise of two fields of a patient are independent
    fields = tuple(replace(crop_tissue(whole, *xy, image.size_px), seed=whole.seed ^ (k + 1)) for k, xy in enumerate(corners))
    fractions = niche_fractions(whole)
    outcome = simulate_outcome(fractions, clinical, stream(seed, index, "outcome"), image.slide)
    log_odds = config.response.log_odds(fractions, whole.truth["cd8_share"])
    course = stream(seed, index, "course")
    markers = draw_measurements(course, clinical, whole.truth)
    return MultiplexPatient(
        assigned=a,
        seed=seed,
        clinical=clinical,
        tissues=fields,
        fractions=fractions,
        outcome=outcome,
        responder=bool(stream(seed, index, "response").random() < 1 / (1 + np.exp(-log_odds))),
        log_odds=log_odds,
        treatments=draw_treatments(course, clinical, outcome, markers),
        markers=markers,
        image=image,
    )


def simulate_multiplex_cohort(
    n_patients: int = 60, n_sites: int = 3, seed: int = 0, config: CohortConfig | None = None, **more: Any
) -> Iterator[MultiplexPatient]:
    """Patients 0 .. n_patients - 1, one at a time. more: fields of CohortConfig (panels, tissues, confounding, image, ...)."""
    base = config or CohortConfig()
    config = CohortConfig.model_validate(
        {**{f: getattr(base, f) for f in CohortConfig.model_fields}, "n_patients": n_patients, "n_sites": n_sites, **more}
    )
    for index in range(n_patients):
        yield multiplex_patient(index, seed, config)
