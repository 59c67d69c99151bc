"""The catalogue of patch encoders: what each is, what it saw, under which terms, and whether it is ready on this server."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from ml.encoders.spec import PUBLIC_COHORTS
from tissueboard.model_registry.encoder_catalogue import HERE, MISSING, READY, WITH_HEAD, EncoderState, ask_for_encoder, catalogue

from .access import signed_in

BADGES = {READY: "ok", HERE: "info", MISSING: "", WITH_HEAD: ""}


@signed_in
@require_safe
def encoders(request: HttpRequest) -> HttpResponse:
    """All entries; q: words of name, title or licence; state; commercial: only what may be used commercially; unseen: cohort not seen."""
    asked = {name: request.GET.get(name, "").strip()[:80] for name in ("q", "state", "commercial", "unseen")}
    everything = catalogue(request.user)
    rows = [row for row in everything if _matches(row, asked)]
    context = {
        "rows": [{"row": row, "badge": BADGES[row.state], "seen": _seen(row), "usable": row.state == HERE} for row in rows],
        "total": len(everything),
        "ready": sum(row.state == READY for row in everything),
        "asked": asked,
        "states": list(BADGES),
        "cohorts": PUBLIC_COHORTS,
    }
    return render(request, "pages/encoders.html", context)


@signed_in
@require_POST
def encoder_use(request: HttpRequest, name: str) -> HttpResponse:
    """Staff brings an encoder into use whose file lies in the weights folder; the work is a job."""
    job = ask_for_encoder(request.user, name)
    messages.info(request, f"{name} is being checked and copied into the store; it is ready when this job has succeeded.")
    return redirect("job", job_id=job.pk)


def _matches(row: EncoderState, asked: dict[str, str]) -> bool:
    text = f"{row.spec.name} {row.spec.title} {row.spec.licence} {row.spec.repo}".lower()
    return (
        all(word in text for word in asked["q"].lower().split())
        and asked["state"] in ("", row.state)
        and (not asked["commercial"] or row.spec.commercial is True)
        and (asked["unseen"] not in PUBLIC_COHORTS or row.spec.saw(asked["unseen"]) == "no")
    )


def _seen(row: EncoderState) -> dict[str, list[str]]:
    """Public cohorts by whether its pretraining saw their patients."""
    return {answer: [c for c in PUBLIC_COHORTS if row.spec.saw(c) == answer] for answer in ("yes", "no", "unknown")}
