"""What a pipeline would do to a whole cohort: step by step and slide by slide, before anything is started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.cohorts.selectors import get_cohort
from tissueboard.jobs.models import ACTIVE, WAITING, Job
from tissueboard.jobs.services import idempotency_key
from tissueboard.retrieval.tissues import Tissue
from tissueboard.slides.models import Slide

from .declared import Step, of_images
from .errors import WhyNot
from .estimates import Cost, Estimate, cost_of, estimate
from .outputs import Outputs, index_slides, keys_of, params_of
from .versions import Options, PlannedStep, choose_versions

RUN, EXISTS, SKIP = "run", "exists", "skip"
# Of slides and images alike.
READY = Slide.State.READY


@dataclass(slots=True)
class PlanRow:
    """One step on one slide, multiplex image or patient (then tissue is her index slide). plan: "run", "exists" or "skip" (then code
    and reason say why it cannot run).

    under_way: it would run, and a job for it waits or runs already, because somebody asked for it before.
    """

    step: Step
    patient: Patient
    tissue: Tissue | None
    plan: str
    code: str = ""
    reason: str = ""
    under_way: bool = False

    @property
    def slide(self) -> Slide | None:
        return self.tissue if isinstance(self.tissue, Slide) else None

    @property
    def image(self) -> Any:
        return None if isinstance(self.tissue, Slide) else self.tissue


@dataclass(frozen=True)
class CohortPlan:
    """What will run, what exists already, what cannot run and why; with the time and the disk that it takes."""

    cohort: Cohort
    pipeline: str
    steps: list[PlannedStep]
    rows: list[PlanRow]
    n_slides: int
    n_patients: int
    estimate: Estimate
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def n_run(self) -> int:
        return self._sum(RUN)

    @property
    def n_exists(self) -> int:
        return self._sum(EXISTS)

    @property
    def n_skip(self) -> int:
        return self._sum(SKIP)

    @property
    def n_under_way(self) -> int:
        return self._sum("under way")

    @property
    def what(self) -> str:
        """What it works on, in words."""
        return "image" if of_images(tuple(p.step for p in self.steps)) else "slide"

    @property
    def versions(self) -> dict[str, int]:
        """{family: version id} of the steps that have one."""
        return {p.step.family: p.version.pk for p in self.steps if p.version is not None}

    def skipped(self) -> Iterator[PlanRow]:
        """What cannot run."""
        return (row for row in self.rows if row.plan == SKIP)

    def _sum(self, plan: str) -> int:
        return sum(counter[plan] for counter in self.counts.values())


def plan_cohort(user: Any, cohort: Cohort, pipeline: str, options: Options | None = None) -> CohortPlan:
    """The plan of a pipeline for all slides, or all multiplex images, of a cohort; as many queries for 10 as for 10,000.

    user: a member of the cohort (None: the house). options: {family: version id} where the person chooses.
    Errors: NotVisible, UnknownPipeline, OPTION_UNKNOWN, VERSION_UNKNOWN.
    """
    if user is not None:
        cohort = get_cohort(user, cohort.pk)
    steps = choose_versions(user, pipeline, cohort, options)
    slides = list(images_of(cohort) if of_images(tuple(p.step for p in steps)) else slides_of(cohort))
    rows = PlanRows(cohort, steps, slides).rows()
    counts = {p.step.kind: Counter(row.plan for row in rows if row.step is p.step) for p in steps}
    for row in rows:
        counts[row.step.kind]["under way"] += row.under_way
    told = estimate({kind: counter[RUN] for kind, counter in counts.items()}, _costs(steps, rows))
    patients = {row.patient.pk for row in rows}
    return CohortPlan(cohort, pipeline, steps, rows, len(slides), len(patients), told, counts)


def _costs(steps: list[PlannedStep], rows: list[PlanRow]) -> dict[str, Cost]:
    """By kind: what one job costs on the slides that would run."""
    to_run: dict[str, list[Any]] = {}
    for row in rows:
        if row.plan == RUN and row.tissue is not None:
            to_run.setdefault(row.step.kind, []).append(row.tissue)
    found = {p.step.kind: (to_run[p.step.kind], p.version) for p in steps if p.version is not None and p.step.kind in to_run}
    return {kind: cost_of(kind, slides, version) for kind, (slides, version) in found.items()}


def slides_of(cohort: Cohort) -> Any:
    """All slides of a cohort with sample, patient and cohort, patient by patient."""
    slides = Slide.objects.filter(sample__patient__cohort=cohort).select_related("sample__patient__cohort")
    return slides.order_by("sample__patient__code", "sample__patient_id", "sample__day", "sample_id", "pk")


def images_of(cohort: Cohort) -> Any:
    """All multiplex images of a cohort, likewise."""
    images = MultiplexImage.objects.filter(sample__patient__cohort=cohort).select_related("sample__patient__cohort")
    return images.order_by("sample__patient__code", "sample__patient_id", "sample__day", "sample_id", "pk")


class PlanRows:
    """Decides about each step on each slide or image; a fixed number of queries beside that for the tissues."""

    def __init__(self, cohort: Cohort, steps: list[PlannedStep], slides: list[Any]):
        self.steps, self.slides = steps, slides
        self.patients = list(Patient.objects.filter(cohort=cohort).order_by("code", "pk")) if any(_per_patient(p) for p in steps) else []
        versions = [p.version for p in steps if p.version is not None]
        self.outputs = Outputs(versions, Patient.objects.filter(cohort=cohort).values("pk"))
        self.open = _open_jobs(cohort, steps)
        self.keys = keys_of(slide for slide in slides if slide.state == READY)
        self.found: dict[tuple[str, int], PlanRow] = {}

    def rows(self) -> list[PlanRow]:
        """In the order in which they are worked on: a patient's slides, each with its steps, then the patient's own steps."""
        rows = [self._on_slide(p, slide) for slide in self.slides for p in self.steps if not _per_patient(p)]
        rows += [row for p in self.steps if _per_patient(p) for row in self._on_patients(p)]
        place = {patient: i for i, patient in enumerate(dict.fromkeys(row.patient.pk for row in rows))}
        return sorted(rows, key=lambda row: (place[row.patient.pk], row.step.per == "patient"))

    def _on_slide(self, planned: PlannedStep, slide: Tissue) -> PlanRow:
        row = self._decide(planned, slide.sample.patient, slide)
        self.found[planned.step.kind, slide.pk] = row
        return row

    def _on_patients(self, planned: PlannedStep) -> list[PlanRow]:
        """A step per patient runs on her index slide among those that have, or will have, what it needs."""
        index = index_slides(slide for slide in self.slides if self._usable(planned, slide))
        anyhow = index_slides(self.slides)
        rows = []
        for patient in self.patients:
            slide = index.get(patient.pk) or anyhow.get(patient.pk)
            if slide is None:
                rows.append(PlanRow(planned.step, patient, None, SKIP, WhyNot.NO_SLIDE, f"{patient.code} has no slide."))
            else:
                rows.append(self._decide(planned, patient, slide))
        return rows

    def _usable(self, planned: PlannedStep, slide: Slide) -> bool:
        return all(self.found[kind, slide.pk].plan != SKIP or self._made(kind, slide) for kind in planned.step.needs)

    def _made(self, kind: str, slide: Slide) -> bool:
        need = next(p for p in self.steps if p.step.kind == kind)
        return need.version is not None and self.outputs.made(slide, need.step, need.version)

    def _decide(self, planned: PlannedStep, patient: Patient, slide: Tissue) -> PlanRow:
        step, version = planned.step, planned.version
        if version is None:
            return PlanRow(step, patient, slide, SKIP, planned.code, planned.why_not)
        told = why_not_on(step, slide)
        if told is not None:
            return PlanRow(step, patient, slide, SKIP, *told)
        needs = [self.found[kind, slide.pk] for kind in step.needs]
        lost = next((need for need in needs if need.plan == SKIP), None)
        if lost is not None:
            return PlanRow(step, patient, slide, SKIP, WhyNot.NEEDS_MISSING, f"{lost.step.title} cannot run: {lost.reason}")
        key = self.keys[slide.pk]
        if all(need.plan == EXISTS for need in needs) and self.outputs.has(step, slide, version, key):
            return PlanRow(step, patient, slide, EXISTS)
        under_way = bool(self.open) and idempotency_key(step.kind, params_of(step, slide, version), key) in self.open
        return PlanRow(step, patient, slide, RUN, under_way=under_way)


def why_not_on(step: Step, slide: Tissue) -> tuple[str, str] | None:
    """(code, sentence) where the slide or image itself stands in the way of a step."""
    if not isinstance(slide, Slide):
        told = f"The image {slide.name} is not ready: {slide.state}."
        return None if slide.state == READY else (WhyNot.IMAGE_NOT_READY, told)
    if slide.state != Slide.State.READY:
        return WhyNot.SLIDE_NOT_READY, f"The slide {slide.name} is not ready: {slide.state}."
    if step.stain and slide.stain != step.stain:
        return (
            WhyNot.OTHER_STAIN,
            f"{step.title} is made for {step.stain}; the slide {slide.name} is {slide.stain or 'of an unknown stain'}.",
        )
    return None


def _per_patient(planned: PlannedStep) -> bool:
    return planned.step.per == "patient"


def _open_jobs(cohort: Cohort, steps: list[PlannedStep]) -> set[str]:
    """Idempotency keys of the cohort's jobs of these kinds that wait or run."""
    kinds = [p.step.kind for p in steps]
    jobs = Job.objects.filter(cohorts=cohort, kind__in=kinds, state__in=(*WAITING, *ACTIVE)).order_by()
    return set(jobs.values_list("idempotency_key", flat=True))
