"""What a pipeline or a run over a cohort may refuse, and why a single step cannot run."""

from __future__ import annotations

from enum import StrEnum

from tissueboard.errors import TissueboardError


class WhyNot(StrEnum):
    """Why a step cannot run on a slide or patient."""

    SLIDE_NOT_READY = "SLIDE_NOT_READY"
    IMAGE_NOT_READY = "IMAGE_NOT_READY"
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


class UnknownTraining(TissueboardError):
    status = 404

    def __init__(self, name: str, known: list[str]):
        super().__init__("UNKNOWN_TRAINING", f"There is no training {name[:80]}.", f"Trainings are: {', '.join(known)}.", where="what")


class TrainingRefused(TissueboardError):
    """A training cannot be started like that; said before anything is queued."""

    status = 409


class ConfigInvalid(TissueboardError):
    """Settings that do not fit. fields: (setting, sentence) of each one; "" for settings that do not fit together."""

    def __init__(self, fields: list[tuple[str, str]]):
        self.fields = fields
        name, sentence = fields[0]
        super().__init__("CONFIG_INVALID", sentence, "Correct the settings; nothing was started.", where=where_of(name))

    def as_dict(self) -> dict[str, object]:  # type: ignore[override]
        return {**super().as_dict(), "errors": [{"where": where_of(name), "sentence": sentence} for name, sentence in self.fields]}


def where_of(setting: str) -> str:
    """Where in a request a setting is: "config.lr"."""
    return f"config.{setting}" if setting else "config"
