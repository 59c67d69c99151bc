"""Checks of a mapping against the table and the cohort: unknown columns, the data dictionary, unknown patients, rows and slides."""

from __future__ import annotations

from dataclasses import replace

from ml.slides.findings import Finding
from tissueboard.cohorts.models import ClinicalVariable, Cohort, Patient, VariableKind
from tissueboard.intake.errors import IntakeCode, error, warning

from .coding import Coding, preview
from .mapping import Mapping
from .propose import IDENTIFIERS, describe, open_questions
from .rows import Record, spans
from .table import Table, missing, shown


def check_mapping(table: Table, mapping: Mapping, findings: list[Finding]) -> Mapping:
    """The mapping with what can be read; findings about columns that are missing, double, personal, or whose coding does not fit."""
    if not mapping.patient:
        findings.append(
            error(
                IntakeCode.NO_PATIENT_COLUMN,
                "No column is said to be the patient's code.",
                f"Say which one it is; the table has {', '.join(table.columns[:12])}.",
                file=table.file,
                where="header",
            )
        )
    findings += open_questions(table, mapping)
    repeated = table.repeated()
    readable = {column for column in table.columns if column not in repeated}
    wanted = [mapping.patient, mapping.sample, *(c for e in mapping.endpoints for c in e.columns()), *(v.column for v in mapping.variables)]
    for column in dict.fromkeys(c for c in wanted if c and c not in readable):
        findings.append(_unreadable(table, column, column in repeated))
    for variable in mapping.variables:
        if IDENTIFIERS.search(variable.column.strip().lower()):
            findings.append(
                error(
                    IntakeCode.IDENTIFIER_COLUMN,
                    f"The column {variable.column} looks like a personal identifier.",
                    "Leave it out; what identifies a person is not kept.",
                    file=table.file,
                    where=f"column {variable.column}",
                )
            )
    endpoints = tuple(e for e in mapping.endpoints if set(e.columns()) <= readable)
    for endpoint in endpoints:
        if endpoint.coding:
            _check_coding(table, endpoint.name, endpoint.event, Coding.parse(endpoint.coding), findings)
    usable = replace(
        mapping,
        patient=mapping.patient if mapping.patient in readable else "",
        sample=mapping.sample if mapping.sample in readable else "",
        endpoints=endpoints,
        variables=tuple(v for v in mapping.variables if v.column in readable),
    )
    if not usable.endpoints and not usable.variables and not usable.sample:
        findings.append(
            error(
                IntakeCode.NOTHING_TO_IMPORT,
                "No column of the table would be read beside the patient's code.",
                "Name the endpoint or the variables to read.",
                file=table.file,
                where="header",
            )
        )
    return usable


def _unreadable(table: Table, column: str, double: bool) -> Finding:
    if double:
        return error(
            IntakeCode.DUPLICATE_COLUMN,
            f"More than one column is called {shown(column)}, so it is not clear which one is meant.",
            "Rename one of them in the file.",
            file=table.file,
            where=f"header, column {column}",
        )
    return error(
        IntakeCode.COLUMN_UNKNOWN,
        f"The table has no column {shown(column)}.",
        f"It has {', '.join(table.columns[:12])}{' ...' if len(table.columns) > 12 else ''}.",
        file=table.file,
        where="header",
    )


def _check_coding(table: Table, name: str, column: str, coding: Coding, findings: list[Finding]) -> None:
    """A coding whose values do not occur is a mistake; one that lumps several values together is worth a look."""
    cells = [cell for cell in table.cells(column) if not missing(cell)]
    counts = preview(cells)["values"]
    if coding.kind != "words" and cells and not coding.values & set(counts):
        findings.append(
            error(
                IntakeCode.EVENT_CODING_WRONG,
                f"The coding {coding} of {name} names no value that occurs in {column}.",
                f"The column holds {_times(counts)}.",
                file=table.file,
                where=f"column {column}",
            )
        )
    others = {value: n for value, n in counts.items() if value not in coding.values}
    if coding.kind != "words" and len(others) > 1:
        said = "censored" if coding.kind == "event" else "an event"
        findings.append(
            warning(
                IntakeCode.EVENT_VALUES_MANY,
                f"{column} has more than two values; under {coding} each of {_times(others)} counts as {said}.",
                "Competing events are not censoring: name every value that is the event.",
                file=table.file,
                where=f"column {column}",
            )
        )


def _times(counts: dict[str, int]) -> str:
    return ", ".join(f"{value} ({n}x)" for value, n in list(counts.items())[:6])


def dictionary_for(cohort: Cohort, table: Table, mapping: Mapping, findings: list[Finding]) -> dict[str, ClinicalVariable]:
    """Definitions of the mapped variables: the cohort's own where it has them (it may gain categories), else new, unsaved ones."""
    own = {v.name: v for v in ClinicalVariable.objects.filter(cohort=cohort)}
    definitions = {}
    for wanted in mapping.variables:
        guess = describe(table, wanted.column, mapping.decimal)
        kind = wanted.kind or (own[wanted.name].kind if wanted.name in own else guess.kind)
        known = own.get(wanted.name)
        if known is None:
            categories = list(wanted.categories or (guess.categories if kind == guess.kind else _distinct(table, wanted.column)))
            definitions[wanted.name] = ClinicalVariable(
                cohort=cohort,
                name=wanted.name,
                label=wanted.label or guess.label,
                kind=kind,
                unit=wanted.unit or (guess.unit if kind == VariableKind.NUMBER else ""),
                categories=categories if kind == VariableKind.CATEGORY else [],
            )
            continue
        if (wanted.kind and wanted.kind != known.kind) or (wanted.unit and known.unit and wanted.unit != known.unit):
            findings.append(
                error(
                    IntakeCode.VARIABLE_CONFLICT,
                    f"The cohort's dictionary has {known.name} as {known.kind}{f' in {known.unit}' if known.unit else ''}; "
                    f"the mapping says {wanted.kind or known.kind}{f' in {wanted.unit}' if wanted.unit else ''}.",
                    "Read the column under another name, or as the dictionary has it.",
                    file=table.file,
                    where=f"column {wanted.column}",
                )
            )
        definitions[wanted.name] = known
    return definitions


def _distinct(table: Table, column: str) -> list[str]:
    return sorted({cell.strip() for cell in table.cells(column) if not missing(cell)})


def check_cohort(cohort: Cohort, table: Table, mapping: Mapping, records: dict[str, Record], findings: list[Finding]) -> dict[str, Patient]:
    """The known patients among the records; findings about unknown ones, rows without a slide and slides without a row."""
    patients = {p.code: p for p in Patient.objects.filter(cohort=cohort)}
    folded = {code.casefold(): code for code in patients}
    for record in records.values():
        if record.code in patients:
            continue
        where = f"row {record.rows[0]}, column {mapping.patient}"
        if record.code.casefold() in folded:
            findings.append(
                warning(
                    IntakeCode.PATIENT_ALMOST_KNOWN,
                    f"{shown(record.code)} differs from the known patient {shown(folded[record.code.casefold()])} in capital letters only.",
                    "Write both the same way if they are one person.",
                    file=table.file,
                    where=where,
                )
            )
        if not mapping.create_patients:
            findings.append(
                error(
                    IntakeCode.UNKNOWN_PATIENT,
                    f"The cohort has no patient {shown(record.code)}.",
                    "Correct the code, or let the import create patients.",
                    file=table.file,
                    where=where,
                )
            )
    strangers = sorted(set(records) - set(patients))
    if patients and strangers and mapping.create_patients:
        findings.append(
            warning(
                IntakeCode.UNKNOWN_PATIENT,
                f"Patients of the table that the cohort does not have: {len(strangers)} ({_some(strangers)}); they are created.",
                "If they should be there already, compare how the codes are written.",
                file=table.file,
                where=_rows_of(strangers, records, mapping),
            )
        )
    with_slide = set(Patient.objects.filter(cohort=cohort, samples__slides__isnull=False).values_list("code", flat=True))
    _say_difference(table, mapping, records, with_slide, findings)
    return {code: patient for code, patient in patients.items() if code in records}


def _rows_of(codes: list[str], records: dict[str, Record], mapping: Mapping) -> str:
    return f"rows {spans([row for code in codes for row in records[code].rows])}, column {mapping.patient}"


def _say_difference(table: Table, mapping: Mapping, records: dict[str, Record], with_slide: set[str], findings: list[Finding]) -> None:
    no_slide, no_row = sorted(set(records) - with_slide), sorted(with_slide - set(records))
    if no_slide:
        findings.append(
            warning(
                IntakeCode.ROW_WITHOUT_SLIDE,
                f"Patients of the table without a slide in the cohort: {len(no_slide)} ({_some(no_slide)}).",
                "Import their slides, or leave it so; their outcomes count in the curves.",
                file=table.file,
                where=_rows_of(no_slide, records, mapping),
            )
        )
    if no_row:
        findings.append(
            warning(
                IntakeCode.SLIDE_WITHOUT_ROW,
                f"Patients with slides that are not in the table: {len(no_row)} ({_some(no_row)}).",
                "Add their rows, or compare how the codes are written.",
                file=table.file,
            )
        )


def _some(codes: list[str]) -> str:
    return ", ".join(codes[:6]) + (" ..." if len(codes) > 6 else "")
