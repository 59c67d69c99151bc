"""The clinical timeline under the board's decisions."""

from __future__ import annotations

from typing import Any

from frontend.figures.timeline import History, Moment
from tissueboard.cohorts.models import EventKind

LANES = {EventKind.SAMPLING: "Sampling", EventKind.TREATMENT: "Treatment", EventKind.PROGRESSION: "Progression"}


def history_of(events: list[Any], endpoints: list[Any]) -> History:
    """Samplings, treatments and progressions with a day, and where follow-up ended (OS)."""
    moments, undated = [], 0
    for kind, lane in LANES.items():
        for event in (e for e in events if e.kind == kind):
            if event.day is None:
                undated += 1
                continue
            moments.append(Moment(lane, str(kind), event.name, float(event.day), event.end_day))
    overall = next((e for e in endpoints if e.name == "OS"), None)
    if overall is not None:
        name = "death" if overall.event else "last contact, alive"
        moments.append(Moment("Follow-up", "outcome", name, float(overall.time_days), open_end=not overall.event))
    zero = overall.time_zero if overall is not None else "time zero"
    return History(tuple(moments), zero, undated)
