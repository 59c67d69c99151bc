"""Plans and starts pipelines on single slides and multiplex images. Whole cohorts: cohort_plan.py and run_services.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.errors import TissueboardError
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.retrieval.tissues import Tissue, is_measured
from tissueboard.slides.models import Slide

from .declared import of_images
from .models import RunItem
from .outputs import keys_of, params_of
from .versions import Options, PlannedStep, choose_versions, steps_of

__all__ = ["PlannedStep", "plan", "plan_case", "run_pipeline", "steps_of"]


def plan(user: Any, name: str, slide: Tissue, options: Options | None = None) -> list[PlannedStep]:
    """What would run on a slide or image and what would not, with why. user None is the house itself. options: {family: version id}."""
    return choose_versions(user, name, slide.sample.patient.cohort, options)


def plan_case(user: Any, slide: Slide) -> list[PlannedStep]:
    """The plan of the case pipeline for one slide."""
    return plan(user, "case", slide)


def run_pipeline(user: Any, name: str, *, slides: Iterable[Tissue], options: Options | None = None) -> list[Job]:
    """Starts a pipeline on slides, or on multiplex images; asking twice finds the jobs that are there. Needs contributor in every cohort.

    Raises TissueboardError OTHER_TISSUE, SLIDE_NOT_READY or IMAGE_NOT_READY, and NOTHING_TO_RUN where no model can be used.
    """
    jobs: list[Job] = []
    measured = of_images(steps_of(name))
    for slide in slides:
        patient = slide.sample.patient
        if user is not None:
            require(user, patient.cohort, Role.CONTRIBUTOR)
        what = "image" if is_measured(slide) else "slide"
        if is_measured(slide) != measured:
            other = "multiplex images" if measured else "slides"
            raise TissueboardError("OTHER_TISSUE", f"The pipeline {name} works on {other}.", "Choose another pipeline.", status=409)
        if slide.state != Slide.State.READY:
            told = f"The {what} {slide.name} is not ready: {slide.state}."
            raise TissueboardError(f"{what.upper()}_NOT_READY", told, "Resolve its findings first.", status=409)
        planned = plan(user, name, slide, options)
        if all(p.version is None for p in planned):
            raise TissueboardError(
                "NOTHING_TO_RUN", f"No step can run on {slide.name}: {planned[0].why_not}", "Train or import a model.", status=409
            )
        made: dict[str, Job] = {}
        key = keys_of([slide])[slide.pk]
        for p in planned:
            if p.version is None:
                continue
            needs = [made[kind] for kind in p.step.needs if kind in made]
            made[p.step.kind] = enqueue(
                user, p.step.kind, params_of(p.step, slide, p.version), cohorts=[patient.cohort], needs=needs, key=key
            )
        # A run over the cohort that asked for the same jobs does not take them back any more.
        RunItem.objects.filter(job__in=made.values(), shared=False).update(shared=True)
        record(user, f"run pipeline {name}"[:40], slide, cohort_id=patient.cohort_id, patient_code=patient.code)
        jobs += made.values()
    return jobs
