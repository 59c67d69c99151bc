"""Which outputs of a pipeline are there already, made from the slides as they are now."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from tissueboard.jobs.services import idempotency_key
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.slides.models import Slide

from .declared import Step
from .models import RunItem


def params_of(step: Step, slide: Slide, version: ModelVersion) -> dict[str, int]:
    """The parameters of a step's job on a slide (of a patient's step: on her index slide)."""
    subject = {"slide": slide.pk} if step.per == "slide" else {"patient": slide.sample.patient_id, "slide": slide.pk}
    return {**subject, "version": version.pk}


class Outputs:
    """The outputs of some versions for some patients, read with two queries however many they are.

    patients: a queryset or ids. An output counts for a slide if it was made from the same input (its `input_key`) and, where it was made
    from another output, if that one has not been replaced since.
    """

    def __init__(self, versions: Collection[ModelVersion], patients: Any):
        rows = Prediction.objects.filter(version__in=versions, patient__in=patients)
        self._rows: dict[tuple[str, int, int | None, int], dict[str, Any]] = {}
        # By slide: checksums of what is there, and which outputs those are.
        self._present: dict[int, set[str]] = {}
        self._made: dict[int, set[tuple[str, int]]] = {}
        columns = ("kind", "patient_id", "slide_id", "version_id", "sha256", "inputs", "job_id", "job__kind", "job__idempotency_key")
        for row in rows.values(*columns):
            self._rows[row["kind"], row["patient_id"], row["slide_id"], row["version_id"]] = row
            if row["slide_id"] is not None:
                self._present.setdefault(row["slide_id"], set()).add(row["sha256"])
                self._made.setdefault(row["slide_id"], set()).add((row["kind"], row["version_id"]))
        # A step that was done again got a key of its own; the item of the run that asked for it remembers the input.
        again = RunItem.objects.filter(due=False, job__in=rows.order_by().values("job_id"))
        self._again = set(again.values_list("job_id", "input_key"))

    def has(self, step: Step, slide: Slide, version: ModelVersion, key: str) -> bool:
        """Whether the step's output for the slide is there. key: the slide's `input_key` now."""
        row = self._row(step, slide, version)
        if row is None:
            return False
        if step.needs:
            made_of = [sha for name, sha in row["inputs"].items() if name in Prediction.Kind.values]
            return bool(made_of) and set(made_of) <= self._present.get(slide.pk, set())
        if row["job__kind"] == step.kind:
            asked = idempotency_key(step.kind, params_of(step, slide, version), key)
            return row["job__idempotency_key"] == asked or (row["job_id"], key) in self._again
        # Brought in by another kind of job: an import of features names the input as it was; without it, all of these pixels count.
        if "input key" in row["inputs"]:
            return row["inputs"]["input key"] == key
        return not slide.regions_revision and row["inputs"].get("working slide") == slide.working_sha256

    def made(self, slide: Slide, step: Step, version: ModelVersion) -> bool:
        """Whether the slide has the step's output at all, also one that was made from an older input."""
        return (step.gives, version.pk) in self._made.get(slide.pk, ())

    def _row(self, step: Step, slide: Slide, version: ModelVersion) -> dict[str, Any] | None:
        about = slide.pk if step.per == "slide" else None
        return self._rows.get((step.gives, slide.sample.patient_id, about, version.pk))


def index_slides(slides: Iterable[Slide]) -> dict[int, Slide]:
    """By patient: her index slide, the first slide of the earliest sample (as predictions.risk_jobs.index_map)."""

    def order(slide: Slide) -> tuple[bool, float, int, int]:
        day = slide.sample.day
        return (day is None, day or 0.0, slide.sample_id, slide.pk)

    found: dict[int, Slide] = {}
    for slide in slides:
        known = found.get(slide.sample.patient_id)
        if known is None or order(slide) < order(known):
            found[slide.sample.patient_id] = slide
    return found
