"""Which outputs of a pipeline are there already, made from the slides as they are now."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from tissueboard.jobs.services import idempotency_key
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.predictions.virtues_images import image_keys
from tissueboard.retrieval.tissues import Tissue, is_measured
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import input_keys

from .declared import Step
from .models import RunItem


def params_of(step: Step, tissue: Tissue, version: ModelVersion) -> dict[str, int]:
    """The parameters of a step's job on a slide or image (of a patient's step: on her index slide)."""
    subject = {"patient": tissue.sample.patient_id, "slide": tissue.pk} if step.per == "patient" else {step.per: tissue.pk}
    return {**subject, "version": version.pk}


def keys_of(tissues: Iterable[Tissue]) -> dict[int, str]:
    """What makes each slide, or each image, as an input another one; the tissues are all of one kind. A few queries for all of them."""
    found = list(tissues)
    return image_keys(found) if found and is_measured(found[0]) else input_keys(found)


class Outputs:
    """The outputs of some versions for some patients, read with two queries however many they are.

    patients: a queryset or ids. An output counts for a slide (or an image) if it was made from the same input (its key of
    `keys_of`) and, where it was made from another output, if that one has not been replaced since.
    """

    def __init__(self, versions: Collection[ModelVersion], patients: Any):
        rows = Prediction.objects.filter(version__in=versions, patient__in=patients)
        self._rows: dict[tuple[str, int, Any, int], dict[str, Any]] = {}
        # By slide or image: checksums of what is there, and which outputs those are.
        self._present: dict[Any, set[str]] = {}
        self._made: dict[Any, set[tuple[str, int]]] = {}
        columns = ("kind", "patient_id", "slide_id", "image_id", "version_id", "sha256", "inputs")
        for row in rows.values(*columns, "job_id", "job__kind", "job__idempotency_key"):
            about = _about(row["slide_id"], row["image_id"])
            self._rows[row["kind"], row["patient_id"], about, row["version_id"]] = row
            if about is not None:
                self._present.setdefault(about, set()).add(row["sha256"])
                self._made.setdefault(about, set()).add((row["kind"], row["version_id"]))
        # A step that was done again got a key of its own; the item of the run that asked for it remembers the input.
        again = RunItem.objects.filter(due=False, job__in=rows.order_by().values("job_id"))
        self._again = set(again.values_list("job_id", "input_key"))

    def has(self, step: Step, slide: Tissue, version: ModelVersion, key: str) -> bool:
        """Whether the step's output for the slide or image is there. key: its key of `keys_of` now."""
        row = self._row(step, slide, version)
        if row is None:
            return False
        if step.needs:
            made_of = [sha for name, sha in row["inputs"].items() if name in Prediction.Kind.values]
            return bool(made_of) and set(made_of) <= self._present.get(_of(slide), set())
        if row["job__kind"] == step.kind:
            asked = idempotency_key(step.kind, params_of(step, slide, version), key)
            return row["job__idempotency_key"] == asked or (row["job_id"], key) in self._again
        # Brought in by another kind of job: an import of features names the input as it was; without it, all of these pixels count.
        if "input key" in row["inputs"]:
            return row["inputs"]["input key"] == key
        if not isinstance(slide, Slide):
            return False
        return not slide.regions_revision and row["inputs"].get("working slide") == slide.working_sha256

    def made(self, slide: Tissue, step: Step, version: ModelVersion) -> bool:
        """Whether the slide has the step's output at all, also one that was made from an older input."""
        return (step.gives, version.pk) in self._made.get(_of(slide), ())

    def _row(self, step: Step, slide: Tissue, version: ModelVersion) -> dict[str, Any] | None:
        about = None if step.per == "patient" else _of(slide)
        return self._rows.get((step.gives, slide.sample.patient_id, about, version.pk))


def _about(slide_id: int | None, image_id: int | None) -> tuple[str, int] | None:
    return ("slide", slide_id) if slide_id is not None else ("image", image_id) if image_id is not None else None


def _of(tissue: Tissue) -> tuple[str, int]:
    return ("image" if is_measured(tissue) else "slide", tissue.pk)


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
