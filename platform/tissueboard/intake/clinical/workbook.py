"""XLSX workbooks: one sheet as text cells, with what a spreadsheet can hide (formulas, merged cells, error values) said aloud."""

from __future__ import annotations

import datetime
import io
import warnings
import zipfile
from typing import Any
from xml.etree.ElementTree import ParseError

from tissueboard.intake.errors import IntakeCode, error, info, warning

from .table import Table, letter, shown
from .unwrap import Unusable

MAX_CELLS = 20_000_000


def read_workbook(content: bytes, table: Table, sheet: str) -> list[tuple[int, list[str]]]:
    """Numbered rows of a sheet ("" = the first). Findings go to `table`. Unusable if the workbook cannot be read."""
    formulas, values = _sheet(content, table, sheet, data_only=False), None
    if formulas.max_row * formulas.max_column > MAX_CELLS:
        raise Unusable(
            error(
                IntakeCode.TABLE_TOO_LARGE,
                f"The sheet reaches to row {formulas.max_row}, column {letter(formulas.max_column - 1)}.",
                "A single cell far off makes a sheet this large: delete it, or export the table as CSV.",
                file=table.file,
            )
        )
    for area in formulas.merged_cells.ranges:
        table.findings.append(
            error(
                IntakeCode.MERGED_CELLS,
                f"The cells {area.coord} are merged, so it is not clear to which rows the value belongs.",
                "Unmerge them in the spreadsheet and write the value into every cell it belongs to.",
                file=table.file,
                where=_where(area.min_row, area.min_col - 1),
            )
        )
    rows = []
    for number, cells in enumerate(formulas.iter_rows(), start=1):
        texts = []
        for at, cell in enumerate(cells):
            value = cell.value
            if cell.data_type == "f":
                values = values or _sheet(content, table, sheet, data_only=True)
                value = _calculated(values.cell(number, at + 1).value, table, number, at)
            if cell.data_type == "e" or (isinstance(value, str) and value.startswith("#") and value.endswith(("!", "?", "/0", "/A"))):
                value = _error_value(str(value), table, number, at)
            texts.append(_text(value))
        rows.append((number, texts))
    return rows


def _sheet(content: bytes, table: Table, name: str, data_only: bool) -> Any:
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of decoration that it does not know
            book = openpyxl.load_workbook(io.BytesIO(content), data_only=data_only, keep_links=False)
    except (
        InvalidFileException,
        zipfile.BadZipFile,
        ParseError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        IndexError,
        OSError,
    ) as reason:
        raise Unusable(
            error(
                IntakeCode.NOT_A_TABLE,
                "The workbook is damaged and cannot be read.",
                "Open it in a spreadsheet program and save it again as XLSX or CSV UTF-8.",
                file=table.file,
            )
        ) from reason
    names = [s.title for s in book.worksheets]
    if not names or (name and name not in names):
        raise Unusable(
            error(
                IntakeCode.SHEET_UNKNOWN,
                f"The workbook has no sheet {shown(name)}." if name else "The workbook has no sheet with cells.",
                f"Its sheets are {', '.join(names) or 'none'}.",
                file=table.file,
            )
        )
    chosen = name or names[0]
    if len(names) > 1 and not data_only:
        others = ", ".join(n for n in names if n != chosen)
        table.findings.append(
            info(
                IntakeCode.OTHER_SHEETS,
                f"Only the sheet {shown(chosen)} is read.",
                f"The others are {others}; name one to read it instead.",
                file=table.file,
            )
        )
    return book[chosen]


def _calculated(value: Any, table: Table, number: int, at: int) -> Any:
    if value is None:
        table.findings.append(
            error(
                IntakeCode.FORMULA_WITHOUT_VALUE,
                "The cell holds a formula whose result is not in the file.",
                "Open the file in a spreadsheet program, then copy the column and paste it as values.",
                file=table.file,
                where=_where(number, at),
            )
        )
        return ""
    table.findings.append(
        warning(
            IntakeCode.FORMULA_CELL,
            f"The cell holds a formula; its last calculated result {shown(_text(value))} was read.",
            "Paste the column as values if the result may be out of date.",
            file=table.file,
            where=_where(number, at),
        )
    )
    return value


def _error_value(value: str, table: Table, number: int, at: int) -> str:
    if value.upper() == "#N/A":
        return ""
    table.findings.append(
        error(
            IntakeCode.CELL_ERROR,
            f"The cell shows the error {value}.",
            "Repair the formula in the spreadsheet, or empty the cell.",
            file=table.file,
            where=_where(number, at),
        )
    )
    return ""


def _where(number: int, at: int) -> str:
    return f"row {number}, column {letter(at)}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(sep=" ")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value)
