"""Where a number comes from: the small print that every block carries."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

SIMULATED = "trained on simulated tissue"
UNTRAINED = "untrained"
IN_SAMPLE = "In-sample: the weights that drew this map saw this patient, so it looks better than it would for a new one."


@dataclass(frozen=True)
class Source:
    """What made an output. membership: whether the weights had seen this patient, in words. inputs: (name, SHA-256)."""

    version_id: int | None
    version: str
    label: str
    membership: str
    inputs: list[tuple[str, str]]
    code_version: str
    job_id: int | None
    made_at: datetime | None
    more: list[tuple[str, str]] = field(default_factory=list)


def source_of(prediction: Any, *more: tuple[str, str]) -> Source:
    """The source of one output of a model."""
    version = prediction.version
    return Source(
        version_id=version.pk,
        version=f"{version.family} {version.name}",
        label=version.label,
        membership=membership(prediction),
        inputs=sorted((name, str(value)) for name, value in prediction.inputs.items()),
        code_version=prediction.code_version,
        job_id=prediction.job_id,
        made_at=prediction.created_at,
        more=list(more),
    )


def membership(prediction: Any) -> str:
    """Whether the weights saw this patient (DESIGNS 9, Membership)."""
    if prediction.in_sample:
        return "in-sample: the weights saw this patient"
    if prediction.fold is None:
        return "mean over all folds; none of them saw this patient"
    return f"out-of-fold: fold {prediction.fold}, which never saw this patient"


def warning_for(label: str, simulated_slide: bool) -> tuple[str, str]:
    """(tone, sentence) about a model's training for the head of a block; ("", "") where nothing must be said."""
    if label == UNTRAINED:
        return "bad", "The model behind this is untrained: its output is noise."
    if label == SIMULATED and not simulated_slide:
        return "bad", (
            "This is a real slide, and the model was trained on simulated tissue only. "
            "What it draws here tests the software; it says nothing about this patient."
        )
    if label == SIMULATED:
        return "warn", "Simulated tissue, drawn by a model that was trained on simulated tissue."
    return "", ""
