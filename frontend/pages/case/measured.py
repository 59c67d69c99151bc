"""Block 3: what was measured, before anything virtual. A test without a result says why; it is never blank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tissueboard.cohorts.models import Event, EventKind, EventState

KINDS = (EventKind.MUTATION, EventKind.BIOMARKER)


@dataclass(frozen=True)
class Measured:
    """One row: state is done, failed, pending or not done; result is "" unless done."""

    kind: str
    name: str
    state: str
    result: str
    method: str
    when: str
    source: str


def tests_of_cohort(user: Any, cohort: Any) -> list[tuple[str, str]]:
    """(kind, name) of every measured thing that the cohort knows, so that a patient's table can say what was not done."""
    events = Event.objects.visible_to(user).filter(patient__cohort=cohort, kind__in=KINDS)
    return list(events.order_by("kind", "name").values_list("kind", "name").distinct())


def measured_facts(events: list[Any], expected: list[tuple[str, str]]) -> list[Measured]:
    """Mutations first, then biomarkers; repeated measurements each have their row; what has no record is "not done"."""
    rows = [_row(e) for e in events if e.kind in KINDS]
    there = {(row.kind, row.name) for row in rows}
    rows += [Measured(kind, name, "not done", "", "", "", "") for kind, name in expected if (kind, name) not in there]
    return sorted(rows, key=lambda row: (KINDS.index(EventKind(row.kind)), row.state == "not done", row.name))


def _row(event: Any) -> Measured:
    result = f"{event.value} {event.unit}".strip()
    if event.state != EventState.DONE:
        result = ""
    elif not result:
        result = "done, no value recorded"
    return Measured(event.kind, event.name, event.state, result, event.method, when(event), event.source)


def when(event: Any) -> str:
    """Day or date of an event, as recorded."""
    if event.date is not None:
        return f"{event.date:%Y-%m-%d}"
    return "" if event.day is None else f"day {event.day:g}"
