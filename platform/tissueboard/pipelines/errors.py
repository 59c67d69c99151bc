"""What a pipeline or a run over a cohort may refuse, and why a single step cannot run."""

from __future__ import annotations

from enum import StrEnum

from tissueboard.errors import TissueboardError


class WhyNot(StrEnum):
    """Why a step cannot run on a slide or patient."""

    SLIDE_NOT_READY = "SLIDE_NOT_READY"
    NO_SLIDE = "NO_SLIDE"
    OTHER_STAIN = "OTHER_STAIN"
    NO_VERSION = "NO_VERSION"
    VERSION_NOT_CHOSEN = "VERSION_NOT_CHOSEN"
    OTHER_PARENT = "OTHER_PARENT"
    NEEDS_MISSING = "NEEDS_MISSING"
    RUN_CANCELLED = "RUN_CANCELLED"


class UnknownPipeline(TissueboardError):
    status = 404

    def __init__(self, name: str, known: list[str]):
        super().__init__("UNKNOWN_PIPELINE", f"There is no pipeline {name}.", f"Pipelines are: {', '.join(known)}.")


class RunRefused(TissueboardError):
    """A run over a cohort cannot be started or changed like that now."""

    status = 409
