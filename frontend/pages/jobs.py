"""Background work: the list, one job with its timeline and progress, cancel and try again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from frontend.figures.curves import Panel, panels
from frontend.figures.svg_curves import draw
from tissueboard.cohorts.access import Role
from tissueboard.cohorts.selectors import cohorts_for, patients_for
from tissueboard.jobs import selectors, services
from tissueboard.jobs.models import ACTIVE, UNDONE, WAITING, State

from .access import signed_in
from .cohorts import page_of

LIVE = (*WAITING, *ACTIVE)
WIDE, PHONE = 700.0, 320.0


@signed_in
@require_safe
def jobs(request: HttpRequest) -> HttpResponse:
    """Jobs of my cohorts, newest first; the list refreshes itself while something is under way."""
    state = request.GET.get("state", "")
    rows = selectors.list_jobs(request.user)
    if state == "open":
        rows = rows.filter(state__in=LIVE)
    elif state in State.values:
        rows = rows.filter(state=state)
    page = page_of(request, rows)
    context = {
        "rows": page,
        "state": state,
        "states": State.values,
        "live": any(job.state in LIVE for job in page),
        "subjects": subjects(request.user, list(page)),
    }
    return render(request, "parts/job_rows.html" if request.htmx else "pages/jobs.html", context)


@signed_in
@require_safe
def job(request: HttpRequest, job_id: int) -> HttpResponse:
    """One job: what it does, how far it is, what it waits for, what it made, and every change of its state."""
    found = selectors.get_job(request.user, job_id)
    return render(request, "parts/job_body.html" if request.htmx else "pages/job.html", job_context(request.user, found))


@dataclass(frozen=True)
class Subject:
    """What a job is about: a patient, and the slide or multiplex image if it is about one of hers."""

    patient: Any
    slide: Any = None
    image: Any = None


def subjects(user: Any, jobs: list[Any]) -> dict[int, Subject]:
    """By job: the slide, image or else patient that its params name, where the user may see it. Three queries, however many the jobs."""
    from tissueboard.assays.selectors import images_for
    from tissueboard.slides.selectors import slides_for

    slides = slides_for(user).in_bulk(_named(jobs, "slide"))
    images = images_for(user).in_bulk(_named(jobs, "image"))
    patients = patients_for(user).in_bulk(_named(jobs, "patient"))
    found = {}
    for job in jobs:
        slide, patient = slides.get(job.params.get("slide")), patients.get(job.params.get("patient"))
        image = images.get(job.params.get("image"))
        if slide is not None:
            found[job.pk] = Subject(slide.sample.patient, slide)
        elif image is not None:
            found[job.pk] = Subject(image.sample.patient, image=image)
        elif patient is not None:
            found[job.pk] = Subject(patient)
    return found


def _named(jobs: list[Any], name: str) -> set[int]:
    return {value for job in jobs if isinstance(value := job.params.get(name), int)}


@dataclass(frozen=True)
class Drawn:
    """One panel of curves, as SVG for a wide window and for a phone."""

    panel: Panel
    wide: str
    phone: str

    @property
    def means(self) -> int:
        """How many values the coarsest line has behind each of its points."""
        return max(line.each for line in self.panel.lines)


def job_context(user: Any, job: Any) -> dict[str, Any]:
    """What the page shows of a job; the traceback goes to staff only."""
    mine = {c.pk for c in cohorts_for(user, Role.CONTRIBUTOR)}
    may_change = all(c.pk in mine for c in job.cohorts.all())
    status = selectors.status(job)
    expected = status["expected_seconds"]
    return {
        "job": job,
        "subject": subjects(user, [job]).get(job.pk),
        "may_change": may_change,
        "status": status,
        "expected": duration(expected) if expected is not None else "",
        "took": duration((job.finished_at - job.started_at).total_seconds()) if job.started_at and job.finished_at else "",
        "live": job.state in LIVE,
        "may_cancel": may_change and job.state in (*WAITING, State.RUNNING),
        "may_retry": may_change and job.state in UNDONE,
        "timeline": selectors.timeline(user, job),
        "needs": selectors.needs(user, job),
        "outputs": selectors.outputs(user, job),
        "version": _version_made(user, job),
        "curves": [Drawn(panel, draw(panel, WIDE), draw(panel, PHONE)) for panel in panels(selectors.curves(user, job))],
        "show_traceback": user.is_staff and job.traceback,
    }


def _version_made(user: Any, job: Any) -> Any:
    """The model version that a training gave, where the user may see it."""
    from tissueboard.model_registry.selectors import versions_for

    if job.state != State.SUCCEEDED or "name" not in job.params:
        return None
    return versions_for(user).filter(name=job.params["name"], provenance__facts__job=job.pk).first()


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 1:
        return "less than a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 172_800:
        return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} days"


@signed_in
@require_POST
def job_cancel(request: HttpRequest, job_id: int) -> HttpResponse:
    """Cancels a waiting job at once, a running one at its next sign of progress."""
    found = services.cancel(request.user, selectors.get_job(request.user, job_id))
    said = "cancelled" if found.state == State.CANCELLED else "told to stop; it does so at its next step"
    messages.success(request, f"Job {found.pk} is {said}.")
    return redirect("job", job_id=found.pk)


@signed_in
@require_POST
def job_retry(request: HttpRequest, job_id: int) -> HttpResponse:
    """Starts an undone job again."""
    found = services.retry(request.user, selectors.get_job(request.user, job_id))
    messages.success(request, f"Job {found.pk} was started again.")
    return redirect("job", job_id=found.pk)
