"""The declared chains of steps. Each step is a job kind of an app, with the family whose version it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """kind: a job kind. family: whose version it takes. gives: the kind of Prediction that it makes. needs: kinds that come first.

    per: "slide", "image" (of measured channels) or "patient" (then on her index slide). of_cohort: the version must have been
    fitted on the patient's own cohort.
    chosen: a person names the version; there is no current one to fall back on. stain: the only stain that it may read ("" = any).
    """

    kind: str
    title: str
    family: str
    gives: str
    needs: tuple[str, ...] = ()
    per: str = "slide"
    of_cohort: bool = False
    chosen: bool = False
    stain: str = ""


PIPELINES: dict[str, tuple[Step, ...]] = {
    "case": (
        Step("predictions.virtual_map", "Features and virtual protein map", "hex", "virtual map", stain="H&E"),
        Step("retrieval.niches", "Niches for similar cases", "niche", "niche set", needs=("predictions.virtual_map",)),
        Step("predictions.risk", "Risk", "cox_summary", "risk", needs=("predictions.virtual_map",), per="patient", of_cohort=True),
    ),
    "mica": (
        Step("predictions.virtual_map", "Features and virtual protein map", "hex", "virtual map", stain="H&E"),
        Step("predictions.mica", "Risk by MICA", "mica", "risk", needs=("predictions.virtual_map",), per="patient", of_cohort=True),
    ),
    "features": (Step("predictions.features", "Features", "encoder", "feature bag", chosen=True),),
    "virtues": (
        Step("predictions.virtues", "Niches and cells by VirTues", "virtues", "embedding", per="image"),
        Step("retrieval.image_niches", "Niches for similar cases", "virtues", "niche set", needs=("predictions.virtues",), per="image"),
    ),
}
PIPELINES["virtues_maps"] = (
    Step("predictions.virtual_map", "Features and virtual protein map", "hex", "virtual map", stain="H&E"),
    Step("predictions.virtues_map", "Niches by VirTues", "virtues", "embedding", needs=("predictions.virtual_map",), chosen=True),
    Step("retrieval.image_niches", "Niches for similar cases", "virtues", "niche set", needs=("predictions.virtues_map",), chosen=True),
)
TITLES = {
    "case": "Case: virtual proteins, niches, risk",
    "mica": "MICA: risk from H&E and virtual proteins, with what it comes from",
    "features": "Features of every tile with one encoder",
    "virtues": "VirTues of multiplex images: niches, cells, similar cases",
    "virtues_maps": "VirTues of virtual maps, at the maps' own pitch",
}


def of_images(steps: tuple[Step, ...]) -> bool:
    """Whether a pipeline works on multiplex images; all others work on slides. No pipeline mixes the two."""
    return any(step.per == "image" for step in steps)


def step_title(kind: str) -> str:
    """A step in words, wherever it is declared; the kind itself where it is not any more."""
    return next((step.title for steps in PIPELINES.values() for step in steps if step.kind == kind), kind)
