"""Codes of what intake says about tables and imports, and the helpers that phrase a finding."""

from __future__ import annotations

from enum import StrEnum

from ml.slides.findings import Finding, Severity
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError


class IntakeCode(StrEnum):
    """Everything that intake can say (what a slide's picture can be is in ml.slides.findings). The text may change, the code does not."""

    # the bytes of a table
    FILE_MISSING = "FILE_MISSING"
    EMPTY_FILE = "EMPTY_FILE"
    HTML_PAGE = "HTML_PAGE"
    NOT_A_TABLE = "NOT_A_TABLE"
    OLD_EXCEL = "OLD_EXCEL"
    TABLE_TOO_LARGE = "TABLE_TOO_LARGE"
    ARCHIVE_UNREADABLE = "ARCHIVE_UNREADABLE"
    ARCHIVE_MEMBERS = "ARCHIVE_MEMBERS"
    ENCODING_NOT_UTF8 = "ENCODING_NOT_UTF8"
    # the shape of a table
    HEADER_ONLY = "HEADER_ONLY"
    DUPLICATE_COLUMN = "DUPLICATE_COLUMN"
    ROW_TOO_LONG = "ROW_TOO_LONG"
    ROW_TOO_SHORT = "ROW_TOO_SHORT"
    QUOTE_NOT_CLOSED = "QUOTE_NOT_CLOSED"
    CELL_TOO_LONG = "CELL_TOO_LONG"
    MERGED_CELLS = "MERGED_CELLS"
    FORMULA_CELL = "FORMULA_CELL"
    FORMULA_WITHOUT_VALUE = "FORMULA_WITHOUT_VALUE"
    CELL_ERROR = "CELL_ERROR"
    OTHER_SHEETS = "OTHER_SHEETS"
    SHEET_UNKNOWN = "SHEET_UNKNOWN"
    # how the columns are read
    NO_PATIENT_COLUMN = "NO_PATIENT_COLUMN"
    COLUMN_UNKNOWN = "COLUMN_UNKNOWN"
    COLUMNS_NOT_READ = "COLUMNS_NOT_READ"
    NOTHING_TO_IMPORT = "NOTHING_TO_IMPORT"
    NO_SURVIVAL_COLUMNS = "NO_SURVIVAL_COLUMNS"
    EVENT_CODING_NEEDED = "EVENT_CODING_NEEDED"
    EVENT_CODING_WRONG = "EVENT_CODING_WRONG"
    EVENT_VALUES_MANY = "EVENT_VALUES_MANY"
    TIME_UNIT_NEEDED = "TIME_UNIT_NEEDED"
    BAD_MAPPING = "BAD_MAPPING"
    IDENTIFIER_COLUMN = "IDENTIFIER_COLUMN"
    VARIABLE_CONFLICT = "VARIABLE_CONFLICT"
    # single cells and rows
    PATIENT_MISSING = "PATIENT_MISSING"
    CODE_TOO_LONG = "CODE_TOO_LONG"
    IDENTIFIER_SUSPECTED = "IDENTIFIER_SUSPECTED"
    WRONG_TYPE = "WRONG_TYPE"
    UNKNOWN_CATEGORY = "UNKNOWN_CATEGORY"
    NEGATIVE_TIME = "NEGATIVE_TIME"
    TIME_IMPLAUSIBLE = "TIME_IMPLAUSIBLE"
    ENTRY_AFTER_TIME = "ENTRY_AFTER_TIME"
    UNKNOWN_EVENT_VALUE = "UNKNOWN_EVENT_VALUE"
    ENDPOINT_INCOMPLETE = "ENDPOINT_INCOMPLETE"
    # rows together, and against the cohort
    DUPLICATE_ID = "DUPLICATE_ID"
    ROWS_PER_PATIENT = "ROWS_PER_PATIENT"
    CONFLICTING_ROWS = "CONFLICTING_ROWS"
    LATER_FOLLOW_UP = "LATER_FOLLOW_UP"
    UNKNOWN_PATIENT = "UNKNOWN_PATIENT"
    PATIENT_ALMOST_KNOWN = "PATIENT_ALMOST_KNOWN"
    ROW_WITHOUT_SLIDE = "ROW_WITHOUT_SLIDE"
    SLIDE_WITHOUT_ROW = "SLIDE_WITHOUT_ROW"
    # tables of events
    UNKNOWN_EVENT_KIND = "UNKNOWN_EVENT_KIND"
    EVENT_NAME_MISSING = "EVENT_NAME_MISSING"
    # slides as intake sees them
    IDENTIFIER_REPLACED = "IDENTIFIER_REPLACED"
    DUPLICATE_SLIDE = "DUPLICATE_SLIDE"
    PATIENT_DISAGREES = "PATIENT_DISAGREES"
    COHORT_IS_SIMULATED = "COHORT_IS_SIMULATED"
    MPP_DISAGREES = "MPP_DISAGREES"
    CODE_REFUSED = "CODE_REFUSED"
    UPLOAD_TOO_LARGE = "UPLOAD_TOO_LARGE"
    FILE_CHANGED = "FILE_CHANGED"
    DISK_FULL = "DISK_FULL"
    PATTERN_BROKEN = "PATTERN_BROKEN"
    IMPORT_STATE = "IMPORT_STATE"
    IMPORT_FAILED = "IMPORT_FAILED"
    IMPORT_CANCELLED = "IMPORT_CANCELLED"


# Errors that an answer of the person who imports takes away; the file itself is fine.
QUESTIONS = frozenset(
    {
        IntakeCode.NO_PATIENT_COLUMN,
        IntakeCode.COLUMN_UNKNOWN,
        IntakeCode.EVENT_CODING_NEEDED,
        IntakeCode.EVENT_CODING_WRONG,
        IntakeCode.TIME_UNIT_NEEDED,
        IntakeCode.NOTHING_TO_IMPORT,
        IntakeCode.IDENTIFIER_COLUMN,
        IntakeCode.VARIABLE_CONFLICT,
        IntakeCode.SHEET_UNKNOWN,
        IntakeCode.UNKNOWN_PATIENT,
    }
)


class IntakeRefused(TissueboardError):
    """What was asked of intake cannot be done; the text is for the person who asked."""


def refuse_mixing(cohort: Cohort, simulated: bool) -> None:
    """IntakeRefused (409) where a real slide is brought into a cohort of simulated patients: their outcomes and labels are not hers."""
    if cohort.simulated and not simulated:
        raise IntakeRefused(
            IntakeCode.COHORT_IS_SIMULATED,
            f"{cohort.name} holds simulated patients; a real slide does not belong among them.",
            "Make a cohort for real slides and bring it in there.",
            status=409,
        )


def error(code: str, sentence: str, hint: str, *, file: str = "", where: str = "") -> Finding:
    """A finding that stops the import."""
    return Finding(code, Severity.ERROR, file, where, sentence, hint)


def warning(code: str, sentence: str, hint: str, *, file: str = "", where: str = "") -> Finding:
    """A finding that a person should read; it does not stop the import."""
    return Finding(code, Severity.WARNING, file, where, sentence, hint)


def info(code: str, sentence: str, hint: str, *, file: str = "", where: str = "") -> Finding:
    """A finding that is good to know."""
    return Finding(code, Severity.INFO, file, where, sentence, hint)


def state_of(findings: list[Finding]) -> str:
    """ready (no error), needs attention (only questions are open) or rejected (the file has to change)."""
    errors = [f for f in findings if f.severity == Severity.ERROR]
    if not errors:
        return "ready"
    return "needs attention" if all(f.code in QUESTIONS for f in errors) else "rejected"
