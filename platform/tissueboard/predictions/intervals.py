"""The interval that a virtual map carries: half-widths by marker and what they stand on, or why there are none."""

from __future__ import annotations

from typing import Any

from ml.hex.conformal import NO_CALIBRATION, Conformal
from tissueboard.model_registry.models import ModelVersion

from .models import Prediction

IN_SAMPLE = "the weights saw this patient"
OVERLAPPING = "calibrated on single tiles, not on means of overlapping ones"
RANGE_UNKNOWN = "how far the tissue is from the model's range is not known"
BY_MARKER = ("half_width", "coverage", "coverage_patients")


def conformal_of(version: ModelVersion) -> Conformal | None:
    """What was calibrated when the version was trained; None for a version without it."""
    told = version.metrics.get("conformal")
    return Conformal.from_dict(told) if told else None


def why_none(found: Conformal | None, in_sample: bool, overlapping: bool, range_known: bool) -> str:
    """Why a map can carry no interval at all, in words; "" where it does."""
    if found is None:
        return NO_CALIBRATION
    reasons = ((in_sample, IN_SAMPLE), (overlapping, OVERLAPPING), (not range_known, RANGE_UNKNOWN))
    return found.why_none or next((why for applies, why in reasons if applies), "")


def facts_of(found: Conformal | None, why: str) -> dict[str, Any]:
    """What is kept beside the map: alpha, percent, patients, why_none; by marker half_width, coverage, coverage_patients (None: none)."""
    if found is None:
        return {"alpha": None, "percent": None, "patients": 0, "why_none": why, **{name: {} for name in BY_MARKER}}
    told = found.to_dict()
    by_marker = {name: dict(zip(found.markers, told[name])) for name in BY_MARKER}
    if why:
        by_marker["half_width"] = {}
    return {"alpha": found.alpha, "percent": found.percent, "patients": found.patients, "why_none": why, **by_marker}


def intervals_of(version: ModelVersion) -> dict[str, Any]:
    """`facts_of` a version: what a map of it carries where nothing else forbids it."""
    found = conformal_of(version)
    return facts_of(found, NO_CALIBRATION if found is None else found.why_none)


def interval_facts(prediction: Prediction) -> dict[str, Any]:
    """`facts_of` a map as it was made; one that was made before there were intervals says so."""
    told: dict[str, Any] = prediction.facts.get("interval") or facts_of(None, NO_CALIBRATION)
    return told
