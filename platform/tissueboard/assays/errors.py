"""Codes of what the assays app says beside the findings of a file."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from tissueboard.errors import TissueboardError


class AssayCode(StrEnum):
    """The text may change, the code does not."""

    DUPLICATE_IMAGE = "DUPLICATE_IMAGE"
    IMAGE_STATE = "IMAGE_STATE"
    IMAGE_NOT_READY = "IMAGE_NOT_READY"
    NOTHING_GIVEN = "NOTHING_GIVEN"
    BAD_CHANNELS = "BAD_CHANNELS"
    BAD_TECHNOLOGY = "BAD_TECHNOLOGY"
    # cells, places on slides, proteins of channels
    NO_CELLS = "NO_CELLS"
    CELLS_STATE = "CELLS_STATE"
    FILE_TOO_LARGE = "FILE_TOO_LARGE"
    FILE_CHANGED = "FILE_CHANGED"
    ALIGNMENT_GIVEN_TWICE = "ALIGNMENT_GIVEN_TWICE"
    CHANNEL_NAME_INVALID = "CHANNEL_NAME_INVALID"
    PROTEIN_TABLE_INVALID = "PROTEIN_TABLE_INVALID"
    # measured labels of a slide
    BAD_LABEL_KIND = "BAD_LABEL_KIND"
    TABLE_TOO_LARGE = "TABLE_TOO_LARGE"
    SLIDE_SIMULATED = "SLIDE_SIMULATED"
    SLIDE_UNKNOWN = "SLIDE_UNKNOWN"
    SLIDE_DISAGREES = "SLIDE_DISAGREES"
    PATIENT_DISAGREES = "PATIENT_DISAGREES"
    SEVERAL_SLIDES = "SEVERAL_SLIDES"
    SLIDE_NAMED_OTHERWISE = "SLIDE_NAMED_OTHERWISE"
    TILE_SIZE_IMPLAUSIBLE = "TILE_SIZE_IMPLAUSIBLE"
    TILE_SPACING = "TILE_SPACING"
    TILE_OVER_EDGE = "TILE_OVER_EDGE"
    COORDS_OUTSIDE = "COORDS_OUTSIDE"
    COORDS_TWICE = "COORDS_TWICE"
    TOO_FEW_TILES = "TOO_FEW_TILES"
    SCALE_DIFFERS = "SCALE_DIFFERS"
    PANEL_DIFFERS = "PANEL_DIFFERS"
    LABELS_EXIST = "LABELS_EXIST"
    NOT_REGISTERED = "NOT_REGISTERED"
    IMAGE_SIZE_DIFFERS = "IMAGE_SIZE_DIFFERS"
    DISK_FULL = "DISK_FULL"


class AssayRefused(TissueboardError):
    """What was asked of an assay cannot be done; the text is for the person who asked."""


def refused(error: SlideError, status: int | None = None) -> AssayRefused:
    """What ml says of a file, as a refusal."""
    full = 507 if error.code == FindingCode.DISK_FULL else None
    return AssayRefused(error.code, error.sentence, error.hint, where=error.where, status=status or full)


class LabelsRefused(AssayRefused):
    """Measured labels that cannot be kept. findings: everything that is wrong with them; the error itself is the first of it."""

    def __init__(self, findings: Sequence[Finding], *, status: int | None = None):
        self.findings = list(findings)
        wrong = [one for one in self.findings if one.severity == Severity.ERROR]
        first = wrong[0]
        super().__init__(first.code, first.sentence, first.hint, where=first.where, status=status)
