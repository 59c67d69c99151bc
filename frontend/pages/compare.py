"""Versions of one family side by side: figures, markers, and the settings in which they differ; and a version's figures as CSV."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from frontend.templatetags.ui import is_number
from tissueboard.errors import NotVisible
from tissueboard.model_registry.selectors import get_version, versions_for

from .access import signed_in, whole_number
from .csv_files import csv_response
from .model_figures import MarkerRow, headline, marker_rows, marker_table
from .versions import NOT_LISTED, plain_rows

MOST = 4


@signed_in
@require_safe
def versions_compare(request: HttpRequest) -> HttpResponse:
    """?id=1&id=2: up to four versions of one family side by side."""
    wanted = list(dict.fromkeys(whole_number(value, 0) for value in request.GET.getlist("id")))
    found = {version.pk: version for version in versions_for(request.user).filter(pk__in=wanted).prefetch_related("cohorts")}
    if len(found) < len(wanted):
        raise NotVisible("model version")
    chosen = [found[pk] for pk in wanted if pk is not None]
    why_not = _why_not(chosen)
    family = chosen[0].family if chosen else ""
    context = {
        "chosen": chosen,
        "why_not": why_not,
        "family": family,
        "others": list(versions_for(request.user).filter(family=family).exclude(pk__in=found).order_by("-created_at")[:30]),
        "most": MOST,
        **({} if why_not else _tables(chosen)),
    }
    return render(request, "pages/versions_compare.html", context, status=400 if why_not and len(chosen) > 1 else 200)


def _why_not(chosen: list[Any]) -> str:
    if len({version.family for version in chosen}) > 1:
        return "These versions are of different families; only versions of one family have the same figures. Choose some of one family."
    if len(chosen) > MOST:
        return f"At most {MOST} versions stand side by side. Take some away."
    return "" if len(chosen) > 1 else "Choose two versions or more."


@dataclass(frozen=True)
class Row:
    """One line: a name and a cell per version. best: places of the best figures, where one is better."""

    name: str
    cells: list[Any]
    best: frozenset[int] = frozenset()


def _tables(chosen: list[Any]) -> dict[str, Any]:
    settings = _side_by_side([dict(plain_rows(version.config)) for version in chosen])
    return {
        "figures": _side_by_side([dict(headline(version.metrics)) for version in chosen]),
        "markers": _markers(chosen),
        "differing": [row for row in settings if len(set(map(str, row.cells))) > 1],
        "same": [row for row in settings if len(set(map(str, row.cells))) == 1],
        "same_data": _same_data(chosen),
    }


def _side_by_side(columns: list[dict[str, Any]]) -> list[Row]:
    names = dict.fromkeys(name for column in columns for name in column)
    return [Row(name, [column.get(name, "–") for column in columns]) for name in names]


def _markers(chosen: list[Any]) -> list[Row]:
    """Per marker a MarkerRow of each version; best is the highest within-slide r. Best markers of the first version first."""
    tables = [{row.marker: row for row in marker_rows(version.metrics)} for version in chosen]
    rows = []
    for name in dict.fromkeys(name for table in tables for name in table):
        cells = [table.get(name) for table in tables]
        rows.append(Row(name, cells, _best(cells)))
    return rows


def _best(cells: list[MarkerRow | None]) -> frozenset[int]:
    known = {place: cell.r for place, cell in enumerate(cells) if cell is not None and is_number(cell.r)}
    top = max(known.values(), default=None)  # type: ignore[type-var]
    return frozenset(place for place, r in known.items() if r == top) if len(known) > 1 else frozenset()


def _same_data(chosen: list[Any]) -> bool:
    """Whether all were made from the same inputs: else their figures are of different patients."""
    inputs = [version.provenance.get("inputs") or {} for version in chosen]
    return all(inputs) and all(set(one.values()) == set(inputs[0].values()) for one in inputs)


@signed_in
@require_safe
def version_metrics_csv(request: HttpRequest, version_id: int) -> HttpResponse:
    """Figures of a version per marker; of one without markers every metric, one a line."""
    version = get_version(request.user, version_id)
    about = (f"{version}, {version.label}", f"weights {version.sha256}", "measured on held-out patients")
    columns, rows = marker_table(version.metrics)
    if not rows:
        columns, rows = ["metric", "value"], [list(row) for row in _lines(version.metrics)]
    return csv_response(f"metrics {version.family} {version.name}", about, columns, rows)


def _lines(metrics: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(name, value) of every single value, names of groups before a point; as exact as it was measured."""
    found: list[tuple[str, Any]] = []
    for name, value in metrics.items():
        if isinstance(value, dict):
            found += _lines(value, f"{prefix}{name}.")
        elif name not in NOT_LISTED:
            found.append((f"{prefix}{name}", " ".join(map(str, value)) if isinstance(value, list) else value))
    return found
