"""Plans and starts pipelines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.errors import TissueboardError
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.selectors import current_version, versions_for
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import input_key

from .declared import PIPELINES, Step
from .errors import UnknownPipeline


@dataclass(frozen=True)
class PlannedStep:
    """One step for one slide. version None: the step is left out, why_not says why."""

    step: Step
    version: ModelVersion | None
    why_not: str = ""


def steps_of(name: str) -> tuple[Step, ...]:
    if name not in PIPELINES:
        raise UnknownPipeline(name, sorted(PIPELINES))
    return PIPELINES[name]


def plan(user: Any, name: str, slide: Slide) -> list[PlannedStep]:
    """What would run on a slide and what would not, with the reason. user None is the house itself."""
    cohort = slide.sample.patient.cohort
    planned: list[PlannedStep] = []
    for step in steps_of(name):
        version = current_version(step.family, cohort if step.of_cohort else None)
        missing = [p for p in planned if p.step.kind in step.needs and p.version is None]
        if version is not None and user is not None and not versions_for(user).filter(pk=version.pk).exists():
            version = None
        if missing:
            planned.append(PlannedStep(step, None, f"{missing[0].step.title} cannot run."))
        elif version is None:
            where = f" fitted on the cohort {cohort.name}" if step.of_cohort else ""
            planned.append(
                PlannedStep(step, None, f"There is no model of the family {step.family}{where} that you may use; train one first.")
            )
        elif step.family == "niche" and not version.parents.filter(pk=getattr(current_version("hex"), "pk", None)).exists():
            planned.append(PlannedStep(step, None, "The niche model stands on an older HEX version; fit the niches again."))
        else:
            planned.append(PlannedStep(step, version))
    return planned


def plan_case(user: Any, slide: Slide) -> list[PlannedStep]:
    """The plan of the case pipeline for one slide."""
    return plan(user, "case", slide)


def run_pipeline(user: Any, name: str, *, slides: Iterable[Slide]) -> list[Job]:
    """Starts a pipeline on slides; asking twice finds the jobs that are there. Needs contributor in every cohort.

    Raises TissueboardError SLIDE_NOT_READY, and NOTHING_TO_RUN where no model can be used.
    """
    jobs: list[Job] = []
    for slide in slides:
        patient = slide.sample.patient
        if user is not None:
            require(user, patient.cohort, Role.CONTRIBUTOR)
        if slide.state != Slide.State.READY:
            raise TissueboardError(
                "SLIDE_NOT_READY", f"The slide {slide.name} is not ready: {slide.state}.", "Resolve its findings first.", status=409
            )
        planned = plan(user, name, slide)
        if all(p.version is None for p in planned):
            raise TissueboardError(
                "NOTHING_TO_RUN", f"No step can run on {slide.name}: {planned[0].why_not}", "Train or import a model.", status=409
            )
        made: dict[str, Job] = {}
        for p in planned:
            if p.version is None:
                continue
            subject = {"slide": slide.pk} if p.step.per == "slide" else {"patient": patient.pk, "slide": slide.pk}
            needs = [made[kind] for kind in p.step.needs if kind in made]
            made[p.step.kind] = enqueue(
                user, p.step.kind, {**subject, "version": p.version.pk}, cohorts=[patient.cohort], needs=needs, key=input_key(slide)
            )
        record(user, f"run pipeline {name}"[:40], slide, cohort_id=patient.cohort_id, patient_code=patient.code)
        jobs += made.values()
    return jobs
