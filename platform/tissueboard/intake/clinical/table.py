"""A table as it was read: text cells with the row numbers that a spreadsheet shows, and what was noticed on the way."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from ml.slides.findings import Finding
from tissueboard.cohorts.dictionary import is_missing

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Row:
    """One row. number: as a spreadsheet shows it, from 1. cells: as many as the table has columns."""

    number: int
    cells: tuple[str, ...]


@dataclass
class Table:
    """A rectangular table of text. A table that could not be read has no columns and an error among its findings.

    labels: display names where the file gives them (cBioPortal). declared: types where the file gives them (NUMBER, STRING, BOOLEAN).
    """

    file: str
    columns: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    form: str = ""
    encoding: str = ""
    separator: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)

    def index(self, column: str) -> int:
        """Position of a column (the first of that name). KeyError if there is none."""
        try:
            return self.columns.index(column)
        except ValueError:
            raise KeyError(column) from None

    def cells(self, column: str) -> list[str]:
        """All cells of a column, in row order."""
        at = self.index(column)
        return [row.cells[at] for row in self.rows]

    def repeated(self) -> set[str]:
        """Names that more than one column carries."""
        seen: set[str] = set()
        return {name for name in self.columns if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def letter(index: int) -> str:
    """The name of a column in a spreadsheet: 0 is A, 26 is AA."""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(65 + rest) + name
    return name


def missing(cell: str) -> bool:
    """Whether a cell says "no value", also in TCGA's bracketed spellings ("[Not Evaluated]")."""
    return is_missing(cell) or (cell.startswith("[") and cell.endswith("]"))


def number(cell: str, decimal: str = ".") -> float | None:
    """The number in a cell, or None. Only plain notation: no thousands separators, no units, no inf or nan."""
    text = cell.strip()
    if decimal == ",":
        text = text.replace(",", ".") if "." not in text and text.count(",") <= 1 else "?"
    value = float(text) if NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


def plain(cell: str) -> str:
    """A cell for comparing codes: trimmed, case folded, and 1.0 the same as 1."""
    text = cell.strip()
    value = number(text)
    if value is not None and value.is_integer():
        return str(int(value))
    return text.casefold()


def shown(cell: str) -> str:
    """A cell for a sentence: quoted and not longer than 40 characters."""
    text = cell.strip()
    return f'"{text[:37]}..."' if len(text) > 40 else f'"{text}"'
