"""Codes of refusals of retrieval."""

from __future__ import annotations

from enum import StrEnum


class RetrievalCode(StrEnum):
    K_OUT_OF_RANGE = "K_OUT_OF_RANGE"
    NO_NICHES = "NO_NICHES"
    REFERENCE_UNKNOWN = "REFERENCE_UNKNOWN"
    VECTOR_UNFIT = "VECTOR_UNFIT"
    NOTHING_TO_LEARN = "NOTHING_TO_LEARN"
