"""Model versions: what they are, what they saw, what may be said of them."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from tissueboard.model_registry.selectors import get_version, versions_for

from .access import signed_in
from .case.viewer import interval_statement
from .cohorts import page_of

# Shown in a table of their own, or too long to read.
NOT_LISTED = {"card", "limits", "reference", "markers", "comparison", "resolution_curve", "conformal", "curves", "modalities"}
NOT_LISTED |= {"reconstruction", "stain_check", "standards", "left_out"}


@signed_in
@require_safe
def versions(request: HttpRequest) -> HttpResponse:
    """Versions that the user may see, by family."""
    return render(request, "pages/versions.html", {"rows": page_of(request, versions_for(request.user).order_by("family", "-created_at"))})


@signed_in
@require_safe
def version(request: HttpRequest, version_id: int) -> HttpResponse:
    """One version: label, metrics, predictability card, how many patients each fold saw, provenance."""
    from django.db.models import Count

    from tissueboard.predictions.intervals import BY_MARKER, intervals_of
    from tissueboard.predictions.maps import card, limits

    found = get_version(request.user, version_id)
    visible = versions_for(request.user)
    bounds, intervals = limits(found), intervals_of(found)
    markers = [
        {"name": name, "limits": bounds.get(name), **{part: intervals[part].get(name) for part in BY_MARKER}, **row}
        for name, row in card(found).items()
    ]
    folds = found.members.values("fold").annotate(n=Count("pk")).order_by("fold")
    context = {
        "version": found,
        "metrics": sorted(plain_rows({k: v for k, v in found.metrics.items() if k not in NOT_LISTED})),
        "markers": sorted(markers, key=lambda row: -(row.get("r2") or -1.0)),
        "intervals": interval_statement(intervals) if markers else "",
        "percent": intervals["percent"],
        "comparison": found.metrics.get("comparison", []),
        "reconstruction": found.metrics.get("reconstruction", []),
        "modalities": found.metrics.get("modalities", []),
        "resolution": found.metrics.get("resolution_curve", []),
        "folds": list(folds),
        "n_members": found.members.values("patient_hash").distinct().count(),
        "config": sorted(plain_rows({k: v for k, v in found.config.items() if k not in NOT_LISTED})),
        "provenance": plain_rows({k: v for k, v in found.provenance.items() if k != "inputs"}),
        "inputs": sorted(found.provenance.get("inputs", {}).items()),
        "cohorts": list(found.cohorts.all()),
        "parents": list(visible.filter(pk__in=found.parents.values("pk"))),
        "children": list(visible.filter(pk__in=found.children.values("pk"))),
    }
    return render(request, "pages/version.html", context)


def plain_rows(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(name, value) of a nested dictionary, names joined by a point; lists of up to eight are written out, longer ones counted."""
    rows: list[tuple[str, Any]] = []
    for name, value in values.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, dict):
            rows += plain_rows(value, f"{prefix}{name}: ") if len(value) <= 40 else [(label, f"{len(value)} entries")]
        elif isinstance(value, list | tuple) and value and all(isinstance(one, dict) for one in value):
            for place, one in enumerate(value):
                rows += plain_rows(one, f"{prefix}{name} {place}: ")
        elif isinstance(value, list | tuple):
            rows.append((label, ", ".join(map(_said, value)) if len(value) <= 8 else f"{len(value)} values"))
        else:
            rows.append((label, _said(value)))
    return rows


def _said(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return f"{text[:12]} (SHA-256)" if len(text) == 64 and text.isalnum() else text
