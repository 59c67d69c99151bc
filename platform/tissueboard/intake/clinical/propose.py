"""A first mapping from the names of columns. What an event value means is never guessed from numbers: it stays a question."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field, replace
from typing import Any

from ml.slides.findings import Finding
from tissueboard.cohorts.dictionary import FALSE, TRUE
from tissueboard.cohorts.models import VariableKind
from tissueboard.intake.errors import IntakeCode, error, info, warning

from .coding import preview, unambiguous
from .mapping import EndpointMapping, Mapping, VariableMapping
from .table import Table, missing, number, plain

PATIENT = (
    *("patient_id", "case_id", "case_submitter_id", "submitter_id", "patient", "patientid", "case", "subject_id", "subject"),
    *("bcr_patient_barcode", "patient_code", "pid", "id", "sample"),
)
SAMPLE = ("sample_id", "sample_code", "sampleid", "specimen", "specimen_id", "sample")
FILE = ("slide_id", "slide", "wsi_file_name", "file_name", "filename", "slide_name")
NOT_CLINICAL = {"train", "split", "fold", "index", "unnamed: 0", "unnamed: 0.1", "other_patient_id"}
IDENTIFIERS = re.compile(
    r"(first|last|sur|fore|given|family|full|maiden|patient)[ _]?name|^name$|birth|^dob$|^mrn$|medical[ _]?record|address|street|postcode"
    r"|zip[ _]?code|phone|e-?mail|^ssn$|insurance|nhs[ _]?number|initials"
)
KNOWN = re.compile(
    r"age|sex|gender|female|male|stage|grade|site|race|ethnic|smok|histolog|subtype|oncotree|diagnos|tumou?r|size|node|^er$|^pr$|^pgr$"
    r"|her2|ki-?67|ecog|karno|menostat|horth|treat|therap|arm|status|mutation|inst|^ph\.|^pat\.|msi|tmb|pd-?l1"
)
WIDE = 60  # above this many columns most are measurements (genes); only columns with a clinical name are proposed
UNIT_BY_NAME = (("month", "months"), ("days", "days"), ("day_", "days"), ("weeks", "weeks"), ("years", "years"))
ENDPOINT_NAMES = {"": "OS", "overall": "OS"} | {
    name.lower(): name for name in ("OS", "DSS", "PFI", "PFS", "DFI", "DFS", "RFS", "EFS", "TTP", "DMFS")
}


@dataclass
class Proposal:
    """mapping: what would be read. questions: findings that say what a person has to decide. previews: per endpoint, the values of its
    status column and how many events each coding would give (rows, not patients)."""

    mapping: Mapping
    questions: list[Finding] = field(default_factory=list)
    previews: dict[str, dict[str, Any]] = field(default_factory=dict)


def propose_mapping(table: Table) -> Proposal:
    """A mapping guessed from names and values, with the questions that stay open. Changes nothing."""
    names = {_short(column): column for column in reversed(table.columns)}
    proposal = Proposal(Mapping())
    patient = _patient_column(table, names)
    endpoints = tuple(_endpoints(names))
    sample = next((names[n] for n in SAMPLE if n in names and names[n] != patient), "")
    variables, ignored = _variables(table, {patient, sample, *(c for e in endpoints for c in e.columns())}, proposal.questions)
    endpoints = tuple(certain(table, endpoint) for endpoint in endpoints)
    proposal.mapping = Mapping(patient=patient, sample=sample, endpoints=endpoints, variables=variables, ignored=ignored)
    if not patient:
        shown = ", ".join(table.columns[:12])
        proposal.questions.append(
            error(
                IntakeCode.NO_PATIENT_COLUMN,
                "No column is recognised as the patient's code.",
                f"Say which one it is; the table has {shown}.",
                file=table.file,
                where="header",
            )
        )
    for endpoint in endpoints:
        proposal.previews[endpoint.name] = preview(table.cells(endpoint.event))
    proposal.questions += open_questions(table, proposal.mapping)
    return proposal


def open_questions(table: Table, mapping: Mapping) -> list[Finding]:
    """What of a mapping's endpoints a person still has to say: unit of time, which value is the event."""
    found = []
    for endpoint in mapping.endpoints:
        if not endpoint.unit:
            found.append(
                error(
                    IntakeCode.TIME_UNIT_NEEDED,
                    f"The unit of the times of {endpoint.name} is not known.",
                    "Say whether they are days, weeks, months or years.",
                    file=table.file,
                    where=f"column {endpoint.time}",
                )
            )
        if not endpoint.coding and endpoint.event in table.columns:
            choices = preview(table.cells(endpoint.event))["events_if"]
            text = ", ".join(f"{n} events if {coding}" for coding, n in choices.items()) or "more than six different values"
            found.append(
                error(
                    IntakeCode.EVENT_CODING_NEEDED,
                    f"Which value of {endpoint.event} means that {endpoint.name} happened is not said: {text}.",
                    "Choose one of the codings; tables differ, so it is never guessed.",
                    file=table.file,
                    where=f"column {endpoint.event}",
                )
            )
    if not mapping.endpoints:
        found.append(
            warning(
                IntakeCode.NO_SURVIVAL_COLUMNS,
                "The table has no pair of columns that is recognised as survival time and status; no endpoint will be there.",
                "If it has one under other names, name it, e.g. OS=time_column:days:status_column:event=1.",
                file=table.file,
                where="header",
            )
        )
    return found


def _short(column: str) -> str:
    """A name for comparing: lower case, spaces and hyphens as underscores, GDC's prefixes ("demographic.") away."""
    return re.sub(r"[\s\-]+", "_", re.sub(r"^(cases|demographic|diagnoses|follow_ups)\.", "", column.strip().lower()))


def _patient_column(table: Table, names: dict[str, str]) -> str:
    """The first known name whose cells differ between rows or that is known for sure."""
    for name in PATIENT:
        if name in names:
            cells = [c for c in table.cells(names[name]) if not missing(c)]
            if cells and (name not in ("id", "sample", "case") or len(set(cells)) == len(cells)):
                return names[name]
    return ""


def _unit(name: str) -> str:
    return next((unit for part, unit in UNIT_BY_NAME if part in f"{name}_"), "")


def _endpoints(names: dict[str, str]) -> list[EndpointMapping]:
    """Pairs of time and status columns in the spellings of cBioPortal, GDC, TCGA-CDR, MCAT/SurvPath and textbooks."""
    found: dict[str, EndpointMapping] = {}

    def add(suffix: str, time: str, event: str, unit: str) -> None:
        name = ENDPOINT_NAMES.get(suffix, suffix.upper()[:16])
        found.setdefault(name, EndpointMapping(name, time, unit, event))

    for short, column in names.items():
        if short.endswith(("_months", "_days", "_time")):
            stem = short.rsplit("_", 1)[0]
            status = next((names[s] for s in (f"{stem}_status", f"{stem}_event", stem, f"{stem}_censor") if s in names), "")
            if status and (stem in ENDPOINT_NAMES or f"{stem}_status" in names):
                add(stem, column, status, _unit(short))
        if short.endswith(".time") and short[:-5] in names and short[:-5] in ENDPOINT_NAMES:
            add(short[:-5], column, names[short[:-5]], "days")  # TCGA-CDR: OS, OS.time in days
        match = re.fullmatch(r"survival_(months|days|time)(?:_(\w+))?", short)
        if match:
            suffix = match.group(2) or ""
            tail = f"_{suffix}" if suffix else ""
            status = next((names[s + tail] for s in ("censorship", "censored", "event", "status", "vital_status") if s + tail in names), "")
            if status:
                add(suffix, column, status, _unit(short))
    if "vital_status" in names and "days_to_death" in names and "OS" not in found:
        later = next((names[n] for n in ("days_to_last_follow_up", "days_to_last_followup", "days_to_last_known_alive") if n in names), "")
        add("os", "|".join(c for c in (names["days_to_death"], later) if c), names["vital_status"], "days")
    if not found:
        time = next((names[n] for n in ("time", "survival", "followup", "follow_up", "duration", "days", "months", "t") if n in names), "")
        event = next((names[n] for n in ("event", "status", "cens", "censored", "death", "dead", "vital_status", "e") if n in names), "")
        if time and event:
            add("", time, event, _unit(_short(time)))
    return sorted(found.values(), key=lambda e: (e.name != "OS", e.name))


def certain(table: Table, endpoint: EndpointMapping) -> EndpointMapping:
    """The endpoint with the coding `words` where nobody chose one and the status column holds only words that mean one thing."""
    if endpoint.coding or endpoint.event not in table.columns:
        return endpoint
    coding = unambiguous(table.cells(endpoint.event))
    return replace(endpoint, coding=str(coding)) if coding else endpoint


def _variables(table: Table, used: set[str], questions: list[Finding]) -> tuple[tuple[VariableMapping, ...], tuple[str, ...]]:
    """Clinical variables among the other columns, and the columns that are left out."""
    chosen, ignored, personal = [], [], []
    repeated = table.repeated()
    for column in dict.fromkeys(table.columns):
        short = _short(column)
        if (
            column in used
            or column in repeated
            or column.startswith("(column ")
            or short in NOT_CLINICAL
            or short in (*FILE, *PATIENT, *SAMPLE)
        ):
            continue
        if IDENTIFIERS.search(column.strip().lower()):
            personal.append(column)
        elif len(column) > 80 or (len(table.columns) > WIDE and not KNOWN.search(short)) or _measured(short):
            ignored.append(column)
        elif any(not missing(cell) for cell in table.cells(column)):
            chosen.append(describe(table, column))
    if personal:
        questions.append(
            info(
                IntakeCode.IDENTIFIER_COLUMN,
                f"The columns {', '.join(personal[:8])} look like personal identifiers and are not read.",
                "Send tables without them.",
                file=table.file,
                where="header",
            )
        )
    if ignored:
        questions.append(
            info(
                IntakeCode.COLUMNS_NOT_READ,
                f"{len(ignored)} of {len(table.columns)} columns have no clinical name and are not read, e.g. {', '.join(ignored[:4])}.",
                "Name a column as a variable to read it.",
                file=table.file,
                where="header",
            )
        )
    return tuple(chosen), tuple(ignored[:50])


def _measured(short: str) -> bool:
    return short.endswith(("_rnaseq", "_cnv", "_mut")) or short.startswith("rna_")


def describe(table: Table, column: str, decimal: str = ".") -> VariableMapping:
    """Kind and categories of a column by its values (and the type that the file declares)."""
    cells = [cell for cell in table.cells(column) if not missing(cell)]
    distinct = {cell.strip() for cell in cells}
    label, declared = table.labels.get(column, "")[:120], table.declared.get(column, "")
    short = _short(column)
    unit = "years" if short.startswith("age") else _unit(short) if short.endswith(("_months", "_days", "_years")) else ""
    if cells and {plain(c) for c in distinct} <= TRUE | FALSE and declared != "NUMBER":
        return VariableMapping(column, column, VariableKind.BOOLEAN, label=label)
    if cells and all(number(cell, decimal) is not None for cell in distinct):
        return VariableMapping(column, column, VariableKind.NUMBER, unit, label)
    if cells and all(_is_date(cell) for cell in distinct):
        return VariableMapping(column, column, VariableKind.DATE, label=label)
    # One stray text among numbers is a mistake in that row, not a category; codes of places (44, NJ) are no numbers.
    strays = {cell for cell in distinct if number(cell, decimal) is None}
    if (
        declared == "NUMBER"
        or unit
        or (sum(c not in strays for c in map(str.strip, cells)) >= max(2, 0.6 * len(cells)) and len(strays) == 1)
    ):
        return VariableMapping(column, column, VariableKind.NUMBER, unit, label)
    if len(distinct) <= max(12, len(cells) // 10) and max(map(len, distinct), default=0) <= 80:
        return VariableMapping(column, column, VariableKind.CATEGORY, label=label, categories=tuple(sorted(distinct)))
    return VariableMapping(column, column, VariableKind.TEXT, label=label)


def _is_date(cell: str) -> bool:
    try:
        datetime.date.fromisoformat(cell.strip()[:10])
    except ValueError:
        return False
    return len(cell.strip()) >= 10
