"""The one verb of clinical tables: read, map, check, and, if nothing is wrong and it is no dry run, write in one transaction."""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from django.db import transaction

from tissueboard.accounts.audit import record as log
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.intake.errors import IntakeCode, state_of

from .checks import check_cohort, check_mapping, dictionary_for
from .coding import preview
from .events import import_events, is_event_table
from .mapping import Mapping
from .propose import certain, propose_mapping
from .read import read_table
from .report import ClinicalReport
from .rows import Record, read_records, summarised
from .table import Table
from .write import write_records

PREVIEW_ROWS = 5


def import_clinical(
    user: Any,
    cohort: Cohort,
    path: str | Path,
    options: AnyMapping[str, Any] | None = None,
    *,
    dry_run: bool,
    file_name: str | None = None,
) -> ClinicalReport:
    """Imports a clinical table, or says exactly why not. Needs the role contributor (user None: the house itself).

    options: keys of `Mapping` (patient, sample, endpoints, variables, create_patients, decimal, sheet), time_zero, and
    table ("clinical" | "events"); keys left out are proposed from the names of columns. Any finding of severity error: nothing is written.
    A dry run writes nothing at all. Errors: NotVisible, RoleMissing, IntakeRefused (BAD_MAPPING).
    """
    if user is not None:
        require(user, cohort, Role.CONTRIBUTOR)
    options = dict(options or {})
    table = read_table(path, file_name, str(options.get("sheet", "")))
    kind = options.pop("table", None) or ("events" if is_event_table(table) else "clinical")
    if kind == "events":
        report = import_events(user, cohort, table, options, dry_run=dry_run)
    else:
        report = _import_patients(user, cohort, table, options, dry_run)
    if not dry_run and report.state == "ready":
        log(user, "import table", cohort, cohort_id=cohort.pk)
    return report


def _import_patients(user: Any, cohort: Cohort, table: Table, options: dict[str, Any], dry_run: bool) -> ClinicalReport:
    findings = list(table.findings)
    if not table.rows:
        Mapping.from_dict(options)
        return ClinicalReport(table.file, state_of(findings), dry_run, summarised(findings), {"rows": 0})
    proposal = propose_mapping(table)
    mapping = Mapping.from_dict(options, proposal.mapping)
    mapping = replace(
        mapping,
        endpoints=tuple(certain(table, endpoint) for endpoint in mapping.endpoints),
        ignored=proposal.mapping.ignored if "variables" not in options else (),
    )
    if "variables" not in options:
        about_columns = (IntakeCode.IDENTIFIER_COLUMN, IntakeCode.COLUMNS_NOT_READ)
        findings += [f for f in proposal.questions if f.code in about_columns]
    usable = check_mapping(table, mapping, findings)
    with transaction.atomic():
        if not dry_run:
            # Two imports into one cohort follow one another: the second sees what the first wrote.
            Cohort.objects.select_for_update().get(pk=cohort.pk)
        dictionary = dictionary_for(cohort, table, usable, findings)
        records = read_records(table, usable, dictionary, findings) if usable.patient else {}
        known = check_cohort(cohort, table, usable, records, findings)
        state = state_of(findings)
        counts = _counts(table, records, len(known))
        if state == "ready" and not dry_run:
            counts |= write_records(user, cohort, usable, records, known, dictionary, table.file[:120])
    return ClinicalReport(table.file, state, dry_run, summarised(findings), counts, _preview(table, mapping, records), mapping.to_dict())


def _counts(table: Table, records: dict[str, Record], known: int) -> dict[str, int]:
    """What is in the table; patients_created is what an import would create."""
    counts = {
        "rows": len(table.rows),
        "patients": len(records),
        "patients_known": known,
        "patients_created": len(records) - known,
        "values": sum(len(r.values) for r in records.values()),
        "samples": sum(len(r.samples) for r in records.values()),
    }
    for name in sorted({name for r in records.values() for name in r.outcomes}):
        outcomes = [r.outcomes[name] for r in records.values() if name in r.outcomes]
        counts |= {f"{name} patients": len(outcomes), f"{name} events": sum(o.event for o in outcomes)}
    return counts


def _preview(table: Table, mapping: Mapping, records: dict[str, Record]) -> dict[str, Any]:
    """Endpoints at the level of patients with the choices of coding, and the first patients as they were read."""
    first_rows = {r.rows[0] for r in records.values()}
    endpoints = {}
    for endpoint in mapping.endpoints:
        outcomes = [r.outcomes[endpoint.name] for r in records.values() if endpoint.name in r.outcomes]
        entry: dict[str, Any] = {"time": endpoint.time, "unit": endpoint.unit, "event": endpoint.event, "coding": endpoint.coding}
        if endpoint.event in table.columns:
            at = table.index(endpoint.event)
            entry |= preview([row.cells[at] for row in table.rows if row.number in first_rows])
        if outcomes:
            entry |= {
                "n": len(outcomes),
                "events": sum(o.event for o in outcomes),
                "median_days": median(o.time_days for o in outcomes),
                "longest_days": max(o.time_days for o in outcomes),
            }
        endpoints[endpoint.name] = entry
    rows = [
        {
            "row": r.rows[0],
            "patient": r.code,
            "values": r.values,
            "endpoints": {n: {"time_days": o.time_days, "event": o.event, "entry_days": o.entry_days} for n, o in r.outcomes.items()},
        }
        for r in list(records.values())[:PREVIEW_ROWS]
    ]
    return {"endpoints": endpoints, "rows": rows}
