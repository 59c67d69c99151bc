"""Tables of events: one row per treatment, measured biomarker, mutation, progression, sampling or decision of a patient."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from ml.slides.findings import Finding
from tissueboard.cohorts.models import ClinicalChange, Cohort, Event, EventKind, EventState, Patient
from tissueboard.intake.errors import IntakeCode, IntakeRefused, error, state_of

from .report import ClinicalReport
from .rows import patient_codes, summarised
from .table import Row, Table, missing, number, shown

COLUMNS = ("patient", "kind", "name", "state", "value", "unit", "day", "end_day", "date", "method")
NEEDED = ("patient", "kind", "name")
LIMITS = {"name": 120, "value": 120, "unit": 24, "method": 80}


@dataclass(frozen=True)
class EventRow:
    """One event as the table tells it; day and end_day in days since time zero."""

    row: int
    patient: str
    kind: str
    name: str
    state: str
    value: str
    unit: str
    method: str
    day: float | None
    end_day: float | None
    date: datetime.date | None

    @property
    def identity(self) -> tuple[Any, ...]:
        """What makes it the same event when the table is imported again."""
        return (self.patient, self.kind, self.name, self.method, self.day, self.date)

    @property
    def facts(self) -> dict[str, Any]:
        """What a later import may change."""
        return {"state": self.state, "value": self.value, "unit": self.unit, "end_day": self.end_day}


def is_event_table(table: Table) -> bool:
    """Whether the columns are those of an events table: patient, kind, name and others of `COLUMNS` only."""
    names = {column.lower() for column in table.columns}
    return set(NEEDED) <= names <= set(COLUMNS)


def import_events(user: Any, cohort: Cohort, table: Table, options: dict[str, Any], *, dry_run: bool) -> ClinicalReport:
    """Imports an events table; as `import_clinical`: findings by row and column, all or nothing, importing twice changes nothing."""
    unknown = set(options) - {"create_patients", "sheet"}
    if unknown:
        raise IntakeRefused(
            IntakeCode.BAD_MAPPING,
            f"A table of events has no option {', '.join(sorted(unknown))}.",
            f"Its columns are {', '.join(COLUMNS)}.",
        )
    findings = list(table.findings)
    table.columns = tuple(column.lower() for column in table.columns)
    lacking = [column for column in NEEDED if column not in table.columns or column in table.repeated()]
    if lacking and table.columns:
        findings.append(
            error(
                IntakeCode.COLUMN_UNKNOWN,
                f"A table of events needs exactly one column {' and one '.join(lacking)}.",
                f"Its columns are {', '.join(COLUMNS)}.",
                file=table.file,
                where="header",
            )
        )
    rows = [] if lacking else _read(table, findings)
    with transaction.atomic():
        if not dry_run:
            Cohort.objects.select_for_update().get(pk=cohort.pk)
        known = {p.code: p for p in Patient.objects.filter(cohort=cohort)}
        strangers = dict.fromkeys(r.patient for r in rows if r.patient not in known)
        if not options.get("create_patients", False):
            findings += [_stranger(table, r) for r in rows if r.patient in strangers]
        state = state_of(findings)
        counts = {
            "rows": len(table.rows),
            "events": len(rows),
            "patients": len({r.patient for r in rows}),
            "patients_created": len(strangers),
        }
        if state == "ready" and not dry_run:
            counts |= _write(user, cohort, rows, known, list(strangers), table.file[:120])
    preview = {"rows": [{"row": r.row, "patient": r.patient, "kind": r.kind, "name": r.name, "day": r.day} | r.facts for r in rows[:5]]}
    return ClinicalReport(table.file, state, dry_run, summarised(findings), counts, preview, {"table": "events", **options})


def _read(table: Table, findings: list[Finding]) -> list[EventRow]:
    return [event for row, code in patient_codes(table, "patient", findings) if (event := _event(table, row, code, findings)) is not None]


def _event(table: Table, row: Row, code: str, findings: list[Finding]) -> EventRow | None:
    cells = {c: row.cells[table.index(c)].strip() for c in COLUMNS if c in table.columns}
    cells = {c: "" if missing(text) else text for c, text in cells.items()}
    before = len(findings)

    def refuse(column: str, finding_code: str, sentence: str, hint: str) -> None:
        findings.append(error(finding_code, sentence, hint, file=table.file, where=f"row {row.number}, column {column}"))

    kind, state = cells["kind"].lower(), cells.get("state", "").lower() or str(EventState.DONE)
    if kind not in EventKind.values:
        refuse(
            "kind",
            IntakeCode.UNKNOWN_EVENT_KIND,
            f"{shown(cells['kind'])} is no kind of event.",
            f"Known are {', '.join(EventKind.values)}.",
        )
    if state not in EventState.values:
        refuse(
            "state", IntakeCode.UNKNOWN_CATEGORY, f"{shown(state)} is no state of an event.", f"Known are {', '.join(EventState.values)}."
        )
    if not cells["name"]:
        refuse("name", IntakeCode.EVENT_NAME_MISSING, "The event has no name.", "Write the drug, the marker or the gene.")
    for column, limit in LIMITS.items():
        if len(cells.get(column, "")) > limit:
            refuse(column, IntakeCode.WRONG_TYPE, f"The text has more than {limit} characters.", "Shorten it.")
    days: dict[str, float | None] = {}
    for column in ("day", "end_day"):
        days[column] = number(cells[column]) if cells.get(column) else None
        if cells.get(column) and days[column] is None:
            refuse(
                column,
                IntakeCode.WRONG_TYPE,
                f"{shown(cells[column])} is no number of days.",
                "Write days since time zero; before it is negative.",
            )
    date = None
    if cells.get("date"):
        try:
            date = datetime.date.fromisoformat(cells["date"][:10])
        except ValueError:
            refuse("date", IntakeCode.WRONG_TYPE, f"{shown(cells['date'])} is no date.", "Write dates as 2024-03-31.")
    if days["end_day"] is not None and (days["day"] is None or days["end_day"] < days["day"]):
        refuse("end_day", IntakeCode.ENTRY_AFTER_TIME, "The event ends before it begins, or has no begin.", "Correct day and end_day.")
    if len(findings) > before:
        return None
    texts = {c: cells.get(c, "") for c in ("value", "unit", "method")}
    return EventRow(row.number, code, kind, cells["name"], state, day=days["day"], end_day=days["end_day"], date=date, **texts)


def _stranger(table: Table, row: EventRow) -> Finding:
    return error(
        IntakeCode.UNKNOWN_PATIENT,
        f"The cohort has no patient {shown(row.patient)}.",
        "Import the patients first, correct the code, or let the import create patients.",
        file=table.file,
        where=f"row {row.row}, column patient",
    )


def _write(user: Any, cohort: Cohort, rows: list[EventRow], known: dict[str, Patient], strangers: list[str], source: str) -> dict[str, int]:
    fresh = Patient.objects.bulk_create(Patient(cohort=cohort, code=code) for code in strangers)
    patients = known | {p.code: p for p in fresh}
    codes = {p.pk: p.code for p in patients.values()}
    present = {
        (codes[e.patient_id], e.kind, e.name, e.method, e.day, e.date): e
        for e in Event.objects.filter(patient__in=[patients[code].pk for code in {r.patient for r in rows}])
    }
    created, changes, touched = [], [], []
    for row in rows:
        old = present.get(row.identity)
        if old is None:
            event = Event(
                patient=patients[row.patient], kind=row.kind, name=row.name, method=row.method, day=row.day, date=row.date,
                source=source, **row.facts,
            )  # fmt: skip
            present[row.identity] = event
            created.append(event)
            continue
        before = {name: getattr(old, name) for name in row.facts}
        if before != row.facts:
            for name, value in row.facts.items():
                setattr(old, name, value)
            if old.pk:
                touched.append(old)
                changes.append(
                    ClinicalChange(
                        patient=patients[row.patient], variable=f"{row.kind} {row.name}"[:80], old=before, new=row.facts,
                        changed_by=user, why=f"import of {source}"[:200],
                    )
                )  # fmt: skip
    Event.objects.bulk_create(created, batch_size=1000)
    Event.objects.bulk_update(touched, ["state", "value", "unit", "end_day"], batch_size=500)
    ClinicalChange.objects.bulk_create(changes)
    return {"patients_created": len(fresh), "events_created": len(created), "changes": len(changes)}
