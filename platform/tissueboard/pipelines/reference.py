"""Trains the models of some cohorts and applies them to their slides: a chain of jobs that goes on by itself.

HEX first; then its maps; then the niche scales over all maps and one risk model per cohort; then the niches. A stage
is a job, because the later ones name versions that do not exist before the earlier ones have succeeded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.model_registry.models import ModelVersion
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import input_key

STAGES = ("maps", "references", "niches")


def train_reference(
    user: Any, cohorts: Iterable[Cohort], *, name: str, config: dict[str, Any] | None = None, needs: Iterable[Job] = ()
) -> Job:
    """Enqueues the training of HEX on the cohorts and the first stage after it; returns that stage's job."""
    cohorts = sorted(cohorts, key=lambda c: c.pk)
    ids = [c.pk for c in cohorts]
    fit = enqueue(user, "predictions.fit_hex", {"cohorts": ids, "name": name, "config": config or {}}, cohorts=cohorts, needs=needs)
    return _stage(user, cohorts, name, "maps", [fit])


def _stage(user: Any, cohorts: list[Cohort], name: str, stage: str, needs: list[Job]) -> Job:
    params = {"cohorts": [c.pk for c in cohorts], "name": name, "stage": stage}
    return enqueue(user, "pipelines.reference", params, cohorts=cohorts, needs=needs)


def run_stage(ctx: JobContext) -> Done:
    """Job pipelines.reference. params: cohorts, name, stage. Enqueues the jobs of the stage and the next stage after them."""
    cohorts = list(Cohort.objects.filter(pk__in=ctx.params["cohorts"]).order_by("pk"))
    name, stage = ctx.params["name"], ctx.params["stage"]

    def publish() -> None:
        made = {"maps": _maps, "references": _references, "niches": _niches}[stage](cohorts, name)
        if stage != STAGES[-1]:
            _stage(None, cohorts, name, STAGES[STAGES.index(stage) + 1], made)

    return Done([OutputSpec("stage", "", {"stage": stage})], publish)


def _slides(cohorts: list[Cohort]) -> list[Slide]:
    ready = Slide.objects.filter(sample__patient__cohort__in=cohorts, state=Slide.State.READY)
    return list(ready.select_related("sample__patient__cohort").order_by("pk"))


def _maps(cohorts: list[Cohort], name: str) -> list[Job]:
    version = ModelVersion.objects.get(family="hex", name=name)
    return [_on_slide("predictions.virtual_map", slide, version) for slide in _slides(cohorts)]


def _references(cohorts: list[Cohort], name: str) -> list[Job]:
    version = ModelVersion.objects.get(family="hex", name=name)
    ids = [c.pk for c in cohorts]
    jobs = [enqueue(None, "retrieval.fit_niches", {"cohorts": ids, "version": version.pk, "name": name}, cohorts=cohorts)]
    for cohort in cohorts:
        params = {"cohort": cohort.pk, "version": version.pk, "endpoint": "OS", "name": f"{name} {cohort.name}"}
        enqueue(None, "predictions.fit_risk", params, cohorts=[cohort])
    return jobs


def _niches(cohorts: list[Cohort], name: str) -> list[Job]:
    version = ModelVersion.objects.get(family="niche", name=name)
    return [_on_slide("retrieval.niches", slide, version) for slide in _slides(cohorts)]


def _on_slide(kind: str, slide: Slide, version: ModelVersion) -> Job:
    cohort = slide.sample.patient.cohort
    return enqueue(None, kind, {"slide": slide.pk, "version": version.pk}, cohorts=[cohort], key=input_key(slide))
