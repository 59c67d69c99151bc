"""Feature bags that leave the house: one by a checked download, a cohort's as TRIDENT or CLAM write them. Every one is logged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import ModelVersion
from tissueboard.store import checksum, store

from .models import Prediction
from .selectors import bags_of_cohort, get_bag


@dataclass(frozen=True)
class Download:
    """A file to send. name: what the person's computer calls it. version, label: what made it, for the headers."""

    path: Path
    name: str
    size: int
    sha256: str
    version: str
    label: str


def download_bag(user: Any, slide_id: int, prediction_id: int) -> Download:
    """One bag of a slide that the user may see; leaves a row in the access log.

    Errors: NotVisible; TissueboardError BAG_MISSING, BAG_CHANGED (409).
    """
    bag = get_bag(user, slide_id, prediction_id)
    path = _file(bag)
    patient = bag.patient
    record(user, "export features", bag, cohort_id=patient.cohort_id, patient_code=patient.code)
    name = f"{bag.slide.name}-{plain_name(bag.version.name)}.h5" if bag.slide is not None else f"{bag.pk}.h5"
    return Download(path, name, path.stat().st_size, bag.sha256, str(bag.version), bag.version.label)


def export_features(user: Any, cohort: Cohort, version: ModelVersion, out: Path, layout: str) -> tuple[list[str], list[TissueboardError]]:
    """Writes the bags of one version of a cohort below `out`; names of the slides, and what could not be exported.

    user: contributor, or None for the house itself. layout: trident or clam. One row in the access log per patient's slide.
    Errors: RoleMissing, NotVisible; TissueboardError LAYOUT_UNKNOWN, NO_FEATURES.
    """
    from ml.slides.export_bags import EXPORTS
    from ml.slides.findings import SlideError

    if user is not None:
        require(user, cohort, Role.CONTRIBUTOR)
    if layout not in EXPORTS:
        raise TissueboardError("LAYOUT_UNKNOWN", f"There is no layout {layout}.", f"Choose one of {', '.join(EXPORTS)}.")
    bags = list(bags_of_cohort(user, cohort, version))
    if not bags:
        raise TissueboardError(
            "NO_FEATURES", f"{cohort.name} has no features of {version}.", "Run the encoder on the cohort first.", status=409
        )
    written, failed, names = [], [], _names(bags)
    for bag in bags:
        try:
            EXPORTS[layout](_file(bag), out, names[bag.pk])
        except SlideError as error:
            failed.append(TissueboardError(error.code, error.sentence, error.hint, where=names[bag.pk]))
            continue
        except TissueboardError as error:
            failed.append(error)
            continue
        record(user, "export features", bag, cohort_id=cohort.pk, patient_code=bag.patient.code)
        written.append(names[bag.pk])
    return written, failed


def _names(bags: list[Prediction]) -> dict[int, str]:
    """By bag: the name of its slide; where two slides have the same, the patient's code before it."""
    plain = {bag.pk: plain_name(bag.slide.name if bag.slide is not None else str(bag.pk)) for bag in bags}
    twice = {name for name in plain.values() if list(plain.values()).count(name) > 1}
    by_code = {bag.pk: f"{plain_name(bag.patient.code)}-{plain[bag.pk]}-{bag.slide_id}" for bag in bags}
    return {pk: by_code[pk] if name in twice else name for pk, name in plain.items()}


def _file(bag: Prediction) -> Path:
    name = bag.slide.name if bag.slide is not None else str(bag.pk)
    if not store.exists(bag.key):
        raise TissueboardError(
            "BAG_MISSING", "The feature file is not in the store.", "Run the encoder on the slide again.", where=name, status=409
        )
    path: Path = store.path(bag.key)
    if checksum(path) != bag.sha256:
        raise TissueboardError(
            "BAG_CHANGED",
            "The feature file is not the one that was made: its checksum is another.",
            "Nothing of it is given out. Restore it from a backup, or run the encoder on the slide again.",
            where=name,
            status=409,
        )
    return path


def plain_name(name: str) -> str:
    """As part of a file's name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip(".") or "slide"
