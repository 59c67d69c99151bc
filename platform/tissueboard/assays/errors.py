"""Codes of what the assays app says beside the findings of a file."""

from __future__ import annotations

from enum import StrEnum

from tissueboard.errors import TissueboardError


class AssayCode(StrEnum):
    """The text may change, the code does not."""

    DUPLICATE_IMAGE = "DUPLICATE_IMAGE"
    IMAGE_STATE = "IMAGE_STATE"
    IMAGE_NOT_READY = "IMAGE_NOT_READY"
    NOTHING_GIVEN = "NOTHING_GIVEN"
    BAD_CHANNELS = "BAD_CHANNELS"
    BAD_TECHNOLOGY = "BAD_TECHNOLOGY"


class AssayRefused(TissueboardError):
    """What was asked of an assay cannot be done; the text is for the person who asked."""
