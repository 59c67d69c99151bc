"""From rows to patients: reads every mapped cell, says which do not fit, and joins the rows of one patient if they agree."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from ml.slides.findings import Finding, Severity
from tissueboard.cohorts.dictionary import parse_value
from tissueboard.cohorts.models import ClinicalVariable, VariableKind
from tissueboard.errors import TissueboardError
from tissueboard.intake.errors import IntakeCode, error, info, warning

from .coding import Coding
from .mapping import UNITS, EndpointMapping, Mapping
from .table import Row, Table, missing, number, plain, shown

MAX_ID = 64
LONGEST_DAYS = 130 * 365.25
PERSON = re.compile(r"[^\W\d_]{2,}[ ,]+[^\W\d_]{2,}|@")


@dataclass(frozen=True)
class Outcome:
    """One endpoint of one patient in days; entry_days 0.0 where the table gives none."""

    time_days: float
    event: bool
    entry_days: float = 0.0


@dataclass
class Record:
    """One patient as the table tells her. rows: where."""

    code: str
    rows: list[int] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)


@dataclass
class _Raw:
    """The parsed cells of one patient, per target, with the row of each."""

    rows: list[Row] = field(default_factory=list)
    values: dict[str, list[tuple[Any, int]]] = field(default_factory=lambda: defaultdict(list))
    times: dict[tuple[str, str], list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    events: dict[str, list[tuple[bool, int]]] = field(default_factory=lambda: defaultdict(list))
    samples: list[str] = field(default_factory=list)


def patient_codes(table: Table, column: str, findings: list[Finding]) -> list[tuple[Row, str]]:
    """(row, patient's code) of every row that has a usable one; findings about the others."""
    at, kept = table.index(column), []
    for row in table.rows:
        code, where = row.cells[at].strip(), f"row {row.number}, column {column}"
        refusal = _refused_code(code)
        if refusal is None:
            kept.append((row, code))
        else:
            findings.append(error(*refusal, file=table.file, where=where))
    return kept


def _refused_code(code: str) -> tuple[str, str, str] | None:
    """Why a cell cannot be a patient's code: (code, sentence, hint); None if it can."""
    if missing(code):
        return IntakeCode.PATIENT_MISSING, "The row has no patient.", "Write the patient's code, or remove the row."
    if len(code) > MAX_ID:
        return IntakeCode.CODE_TOO_LONG, f"The code {shown(code)} has more than {MAX_ID} characters.", "Use a shorter code."
    if PERSON.search(code):
        hint = "Replace names by codes before the table leaves the clinic."
        return IntakeCode.IDENTIFIER_SUSPECTED, "The patient's code looks like a person's name or an e-mail address.", hint
    return None


def read_records(table: Table, mapping: Mapping, dictionary: dict[str, ClinicalVariable], findings: list[Finding]) -> dict[str, Record]:
    """Patients by code. dictionary: variable name -> its definition (saved or not). Findings are added per row and column."""
    raws: dict[str, _Raw] = {}
    codings = {e.name: Coding.parse(e.coding) for e in mapping.endpoints if e.coding and e.unit}
    endpoints = [e for e in mapping.endpoints if e.name in codings]
    for row, code in patient_codes(table, mapping.patient, findings):
        raw = raws.setdefault(code, _Raw())
        raw.rows.append(row)
        if mapping.sample and not missing(sample := row.cells[table.index(mapping.sample)]):
            _sample(table, row, mapping.sample, sample, raw, findings)
        for variable in mapping.variables:
            _value(table, row, variable.column, dictionary[variable.name], mapping.decimal, raw, findings)
        for endpoint in endpoints:
            _endpoint_cells(table, row, endpoint, codings[endpoint.name], mapping.decimal, raw, findings)
    _say_repeats(table, mapping, raws, findings)
    return {code: _joined(code, raw, table, mapping, endpoints, findings) for code, raw in raws.items()}


def _sample(table: Table, row: Row, column: str, code: str, raw: _Raw, findings: list[Finding]) -> None:
    refusal = _refused_code(code)
    if refusal is None:
        raw.samples.append(code)
    else:
        finding_code, _, hint = refusal
        sentence = f"{shown(code)} cannot be the code of a sample."
        findings.append(error(finding_code, sentence, hint, file=table.file, where=f"row {row.number}, column {column}"))


def _value(table: Table, row: Row, column: str, definition: ClinicalVariable, decimal: str, raw: _Raw, findings: list[Finding]) -> None:
    cell = row.cells[table.index(column)]
    if missing(cell):
        return
    text = cell
    if definition.kind == VariableKind.NUMBER:
        parsed = number(cell, decimal)
        text = "not a number" if parsed is None else repr(parsed)
    elif definition.kind == VariableKind.BOOLEAN:
        text = plain(cell)
    try:
        value = parse_value(definition, text)
    except TissueboardError as refusal:
        category = definition.kind == VariableKind.CATEGORY
        findings.append(
            error(
                IntakeCode.UNKNOWN_CATEGORY if category else IntakeCode.WRONG_TYPE,
                f"{shown(cell)} is not a value of {definition.name}." if category else f"{shown(cell)} is no {definition.kind}.",
                refusal.hint if category else _type_hint(definition.kind, cell, decimal),
                file=table.file,
                where=f"row {row.number}, column {column}",
            )
        )
    else:
        raw.values[definition.name].append((value, row.number))


def _type_hint(kind: str, cell: str, decimal: str) -> str:
    if kind == VariableKind.NUMBER and decimal == "." and number(cell, ",") is not None:
        return 'Write decimals with a point, or say that the decimal sign is ",".'
    if kind == VariableKind.DATE:
        return "Write dates as 2024-03-31."
    if kind == VariableKind.BOOLEAN:
        return "Write yes or no, true or false, 1 or 0."
    return "Write a plain number, leave the cell empty if it is not known, or read the column as another kind."


def _endpoint_cells(
    table: Table, row: Row, endpoint: EndpointMapping, coding: Coding, decimal: str, raw: _Raw, findings: list[Finding]
) -> None:
    for column in (*endpoint.time_columns, *((endpoint.entry,) if endpoint.entry else ())):
        cell, where = row.cells[table.index(column)], f"row {row.number}, column {column}"
        if missing(cell):
            continue
        value = number(cell, decimal)
        if value is None:
            findings.append(
                error(
                    IntakeCode.WRONG_TYPE, f"{shown(cell)} is no number.", _type_hint("number", cell, decimal), file=table.file, where=where
                )
            )
        elif value < 0:
            findings.append(
                error(
                    IntakeCode.NEGATIVE_TIME,
                    f"The time {shown(cell)} is before time zero.",
                    "Check the two dates that it was calculated from; leave it empty if it is not known.",
                    file=table.file,
                    where=where,
                )
            )
        elif value * UNITS[endpoint.unit] > LONGEST_DAYS:
            findings.append(
                error(
                    IntakeCode.TIME_IMPLAUSIBLE,
                    f"{shown(cell)} {endpoint.unit} are longer than a life.",
                    "Check the unit of the column and the value.",
                    file=table.file,
                    where=where,
                )
            )
        else:
            raw.times[endpoint.name, column].append((value * UNITS[endpoint.unit], row.number))
    cell = row.cells[table.index(endpoint.event)]
    if missing(cell):
        return
    happened = coding.read(cell)
    if happened is None:
        findings.append(
            error(
                IntakeCode.UNKNOWN_EVENT_VALUE,
                f"{shown(cell)} is neither an event nor censored under the coding {coding}.",
                "Correct the value or choose another coding.",
                file=table.file,
                where=f"row {row.number}, column {endpoint.event}",
            )
        )
    else:
        raw.events[endpoint.name].append((happened, row.number))


def _say_repeats(table: Table, mapping: Mapping, raws: dict[str, _Raw], findings: list[Finding]) -> None:
    """Several rows of one patient: expected where rows are slides or samples, worth a look where whole rows repeat."""
    several = {code: raw for code, raw in raws.items() if len(raw.rows) > 1}
    if not several:
        return
    for code, raw in several.items():
        if len({row.cells for row in raw.rows}) < len(raw.rows) or not _tells_rows_apart(table):
            findings.append(
                warning(
                    IntakeCode.DUPLICATE_ID,
                    f"The patient {shown(code)} stands in {len(raw.rows)} rows.",
                    "Remove the row that is not hers, or the copy.",
                    file=table.file,
                    where=f"rows {_numbers([row.number for row in raw.rows])}, column {mapping.patient}",
                )
            )
    total = sum(len(raw.rows) for raw in raws.values())
    findings.append(
        info(
            IntakeCode.ROWS_PER_PATIENT,
            f"{total} rows are {len(raws)} patients; {len(several)} patients have several rows and are counted once.",
            "Nothing needs to be done if a row is a slide or a sample.",
            file=table.file,
        )
    )


def _tells_rows_apart(table: Table) -> bool:
    """Whether the table has a column of slides or samples, so that repeated patients are no surprise."""
    from .propose import FILE, SAMPLE, _short

    return any(_short(column) in (*FILE, *SAMPLE) for column in table.columns)


def _joined(code: str, raw: _Raw, table: Table, mapping: Mapping, endpoints: list[EndpointMapping], findings: list[Finding]) -> Record:
    record = Record(code, [row.number for row in raw.rows], samples=list(dict.fromkeys(raw.samples)))
    columns = {v.name: v.column for v in mapping.variables}
    for name, entries in raw.values.items():
        record.values[name] = _one(entries, code, columns[name], table, findings)
    for endpoint in endpoints:
        outcome = _outcome(code, raw, endpoint, table, findings)
        if outcome is not None:
            record.outcomes[endpoint.name] = outcome
    return record


def _one(entries: list[tuple[Any, int]], code: str, column: str, table: Table, findings: list[Finding]) -> Any:
    """The one value that all rows of a patient give; a finding if they do not agree."""
    distinct = {repr(value): value for value, _ in entries}
    if len(distinct) > 1:
        findings.append(
            error(
                IntakeCode.CONFLICTING_ROWS,
                f"The rows of patient {shown(code)} do not agree in {column}: {', '.join(str(v) for v in list(distinct.values())[:4])}.",
                "Correct the rows so that they agree, or leave the wrong cells empty.",
                file=table.file,
                where=f"rows {_numbers([row for _, row in entries])}, column {column}",
            )
        )
    return entries[0][0]


def _outcome(code: str, raw: _Raw, endpoint: EndpointMapping, table: Table, findings: list[Finding]) -> Outcome | None:
    """Time, event and entry of one patient, or None with a finding where they are incomplete or impossible."""
    rows = f"rows {_numbers([r.number for r in raw.rows])}" if len(raw.rows) > 1 else f"row {raw.rows[0].number}"
    events = raw.events.get(endpoint.name, [])
    event = _one(events, code, endpoint.event, table, findings) if events else None
    time = _time(code, raw, endpoint, bool(event), table, findings)
    entries = raw.times.get((endpoint.name, endpoint.entry), [])
    entry = _one(entries, code, endpoint.entry, table, findings) if entries else (None if endpoint.entry else 0.0)
    absent = {endpoint.time: time is None, endpoint.event: event is None, endpoint.entry: entry is None}
    if time is None or event is None or entry is None:
        if time is not None or event is not None:
            gaps = [column for column, gap in absent.items() if gap]
            findings.append(
                warning(
                    IntakeCode.ENDPOINT_INCOMPLETE,
                    f"Patient {shown(code)} has no usable value in {' and '.join(gaps)}; she is left out of {endpoint.name}.",
                    "Complete the row if the value is known.",
                    file=table.file,
                    where=f"{rows}, column {gaps[0]}",
                )
            )
        return None
    if entry > time or (entry == time and entry > 0):
        findings.append(
            error(
                IntakeCode.ENTRY_AFTER_TIME,
                f"Patient {shown(code)} enters at {entry:g} days and her time ends at {time:g} days: she is never at risk.",
                "Check entry and time; both count from the same time zero, in the same unit.",
                file=table.file,
                where=f"{rows}, column {endpoint.entry}",
            )
        )
        return None
    return Outcome(time, bool(event), entry)


def _time(code: str, raw: _Raw, endpoint: EndpointMapping, event: bool, table: Table, findings: list[Finding]) -> float | None:
    """Days: of an event from the first time column, of a censored patient the latest of all (DESIGNS 6: the later of two follow-ups)."""
    first, *later = endpoint.time_columns
    entries = raw.times.get((endpoint.name, first), [])
    times = [_one(entries, code, first, table, findings)] if entries else []
    if event or not later:
        return times[0] if times else None
    for column in later:
        follow_ups = raw.times.get((endpoint.name, column), [])
        times += [time for time, _ in follow_ups]
        if len({time for time, _ in follow_ups}) > 1:
            findings.append(
                info(
                    IntakeCode.LATER_FOLLOW_UP,
                    f"Patient {shown(code)} has several follow-ups; the latest is taken.",
                    "Nothing needs to be done.",
                    file=table.file,
                    where=f"rows {_numbers([row for _, row in follow_ups])}, column {column}",
                )
            )
    return max(times, default=None)


def _numbers(rows: list[int]) -> str:
    distinct = sorted(set(rows))
    return ", ".join(map(str, distinct[:8])) + (" ..." if len(distinct) > 8 else "")


def summarised(findings: list[Finding], keep: int = 20) -> list[Finding]:
    """At most `keep` findings of one code and column, then one that counts the rest and names their rows."""
    groups: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.code, finding.severity, finding.where.rpartition("column ")[2] if "row" in finding.where else finding.where].append(
            finding
        )
    out = []
    for (code, severity, column), members in groups.items():
        out += members[:keep]
        rest = members[keep:]
        if rest:
            rows = [int(n) for member in rest for n in re.findall(r"\d+", member.where.partition(", column")[0])]
            out.append(
                Finding(
                    code,
                    severity,
                    rest[0].file,
                    f"rows {spans(rows)}" + (f", column {column}" if column else ""),
                    f"{len(rest)} more findings of this kind. The first of them: {rest[0].sentence}",
                    rest[0].hint,
                )
            )
    order = [Severity.ERROR, Severity.WARNING, Severity.INFO]
    return sorted(out, key=lambda f: order.index(Severity(f.severity)))


def spans(rows: list[int]) -> str:
    """31, 33-36, 40: row numbers with runs joined, cut after twelve pieces."""
    runs: list[list[int]] = []
    for row in sorted(set(rows)):
        if runs and row == runs[-1][1] + 1:
            runs[-1][1] = row
        else:
            runs.append([row, row])
    text = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs[:12])
    return text + (" ..." if len(runs) > 12 else "")
