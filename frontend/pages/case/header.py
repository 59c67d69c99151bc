"""Block 1: who she is, what the board is asked, which tissue there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tissueboard.cohorts.models import EventKind, TimePoint

# What a board reads first, and the names that imported tables use for it.
FIRST = (
    ("Histology", ("histology", "oncotree_code", "histological_type", "diagnosis")),
    ("Stage", ("stage", "ajcc_pathologic_stage", "ajcc_pathologic_tumor_stage", "pathologic_stage")),
    ("ECOG", ("ecog", "performance_status")),
    ("Age", ("age", "age_at_diagnosis")),
    ("Sex", ("sex", "gender")),
)
POINTS = (TimePoint.PRE, TimePoint.ON, TimePoint.POST, TimePoint.UNKNOWN)


@dataclass(frozen=True)
class Fact:
    """label and value as text; value "" where it is not recorded."""

    label: str
    value: str


@dataclass(frozen=True)
class Tumour:
    """One row of the specimen table: the slides of one tumour, by time point. Tumours are never averaged."""

    name: str
    cells: list[list[Any]]


def first_facts(clinical: dict[str, Any], units: dict[str, str], events: list[Any]) -> list[Fact]:
    """The facts at the head of the page; a value that is not recorded stays in its place and says so."""
    facts = []
    for label, names in FIRST:
        name = next((n for n in names if clinical.get(n) is not None), None)
        facts.append(Fact(label, "" if name is None else said(clinical[name], units.get(name, ""))))
    facts.insert(2, Fact("Line", line_of(events)))
    if not facts[-1].value and isinstance(clinical.get("is_female"), bool):
        facts[-1] = Fact("Sex", "female" if clinical["is_female"] else "male")
    return facts


def line_of(events: list[Any]) -> str:
    """The latest systemic treatment with its line, as recorded; "" where there is none."""
    given = [e for e in events if e.kind == EventKind.TREATMENT and e.method != "surgery"]
    if not given:
        return ""
    last = max(given, key=lambda e: (e.day if e.day is not None else -1e9, e.pk))
    return f"{last.value}: {last.name}" if last.value else last.name


def said(value: Any, unit: str = "") -> str:
    """A clinical value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text} {unit}".strip()


def all_values(clinical: dict[str, Any], variables: list[Any]) -> list[Fact]:
    """Every value of the cohort's dictionary, and what is recorded beyond it."""
    facts = [Fact(v.label or v.name, "" if clinical.get(v.name) is None else said(clinical[v.name], v.unit)) for v in variables]
    known = {v.name for v in variables}
    return facts + [Fact(name, said(value)) for name, value in sorted(clinical.items()) if name not in known and value is not None]


def tumours(slides: list[Any]) -> tuple[list[str], list[Tumour]]:
    """Time points that occur, and one row per tumour with the slides in each of them."""
    used = [p for p in POINTS if any(s.sample.time_point == p for s in slides)]
    names = list(dict.fromkeys(s.sample.tumour for s in slides))
    rows = [
        Tumour(name, [[s for s in slides if s.sample.tumour == name and s.sample.time_point == point] for point in used]) for name in names
    ]
    return [str(p.label) for p in used], rows
