"""Reads CSV, TSV and XLSX tables, plain, zipped or gzipped, with cBioPortal's comment rows, into text cells with row numbers."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tissueboard.intake.errors import IntakeCode, error, warning

from .table import Row, Table, letter, shown
from .unwrap import Unusable, decode, unwrap
from .workbook import read_workbook

SEPARATORS = (",", "\t", ";", "|")
SNIFF_ROWS = 40
CBIO_ROWS = 4
CELL_CHARACTERS = 1_000_000
csv.field_size_limit(CELL_CHARACTERS)

Record = tuple[int, list[str]]


def read_table(path: str | Path, file_name: str | None = None, sheet: str = "") -> Table:
    """The table in a file. Never raises for what is in the file: what is wrong is among `findings`.

    file_name: the name to show (the name under which a person sent it). sheet: of a workbook; "" is the first one.
    """
    path = Path(path)
    table = Table(file=file_name or path.name)
    try:
        unwrapped = unwrap(path, table.file)
        if unwrapped.workbook:
            table.form = "xlsx"
            records = read_workbook(unwrapped.content, table, sheet)
        else:
            text, table.encoding, findings = decode(unwrapped.content, table.file)
            table.findings += findings
            records = _records(text, table)
    except Unusable as reason:
        table.findings.append(reason.finding)
        return table
    _shape(table, records)
    return table


def _records(text: str, table: Table) -> list[Record]:
    """Numbered records of a text table; blank lines count, as a spreadsheet counts them."""
    lines = list(io.StringIO(text, newline=""))  # only real line ends; str.splitlines knows eight more
    comments = 0
    while comments < len(lines) and lines[comments].startswith("#"):
        comments += 1
    table.separator = _separator("".join(lines[comments : comments + SNIFF_ROWS * 2]))
    table.form = {"\t": "tsv"}.get(table.separator, "csv")
    head = [record for i in range(comments) for record in _parsed([lines[i].lstrip("#")], table, i + 1, strict=False)]
    _cbioportal(table, head)
    records = _parsed(lines[comments:], table, comments + 1, strict=True)
    if table.labels:
        header = next((cells for _, cells in records if any(c.strip() for c in cells)), [])
        by_place = list(table.labels.values()), list(table.declared.values())
        table.labels = dict(zip(header, by_place[0]))
        table.declared = dict(zip(header, by_place[1]))
    return records


def _parsed(lines: list[str], table: Table, first: int, *, strict: bool) -> list[Record]:
    """Records of lines, numbered from `first`. Unusable when a quotation mark stays open or a cell has no end."""
    records: list[Record] = []
    try:
        for cells in csv.reader(lines, delimiter=table.separator, strict=strict):
            records.append((first + len(records), cells))
    except csv.Error as reason:
        at = first + len(records)
        if "field limit" in str(reason):
            code, sentence = IntakeCode.CELL_TOO_LONG, f"Row {at} has a cell of more than {CELL_CHARACTERS:,} characters."
            hint = "Look whether this is a table at all, and whether a quotation mark stands open in this row."
        else:
            code, sentence = IntakeCode.QUOTE_NOT_CLOSED, f"From row {at} on the quotation marks do not pair up ({reason})."
            hint = "Open the file in a text editor at this row and close or remove the quotation mark."
        raise Unusable(error(code, sentence, hint, file=table.file, where=f"row {at}")) from None
    return records


def _cbioportal(table: Table, head: list[Record]) -> None:
    """cBioPortal writes four comment rows: display names, descriptions, types, priorities. Kept by place until the header is known."""
    if len(head) < CBIO_ROWS:
        return
    names, types = head[0][1], head[2][1]
    if len(types) != len(names) or not all(t.strip().upper() in ("STRING", "NUMBER", "BOOLEAN") for t in types):
        return
    table.form = "cbioportal"
    table.labels = {str(i): name.strip() for i, name in enumerate(names)}
    table.declared = {str(i): kind.strip().upper() for i, kind in enumerate(types)}


def _separator(text: str) -> str:
    """The separator that cuts the first rows into the most columns with the same number of columns in nearly every row."""
    best, best_score = ",", 0.0
    for separator in SEPARATORS:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(c.strip() for c in row)]
        except csv.Error:
            continue
        widths = widths[:SNIFF_ROWS]
        if not widths or widths[0] < 2:
            continue
        score = sum(width == widths[0] for width in widths) / len(widths) * 1000 + min(widths[0], 900) / 1000
        if score > best_score:
            best, best_score = separator, score
    return best


def _shape(table: Table, records: list[Record]) -> None:
    """Header, rows of one width, and findings about rows that do not fit."""
    filled = [(number, [c.strip() for c in cells]) for number, cells in records if any(c.strip() for c in cells)]
    if not filled:
        if not any(f.severity == "error" for f in table.findings):
            table.findings.append(error(IntakeCode.EMPTY_FILE, "The table has no rows.", "Export it again.", file=table.file))
        return
    header_row, header = filled[0]
    while header and not header[-1] and all(len(cells) < len(header) or not cells[len(header) - 1] for _, cells in filled):
        header = header[:-1]  # a separator at the end of every line makes no column
    table.columns = tuple(name or f"(column {letter(i)})" for i, name in enumerate(header))
    width = len(header)
    for number, cells in filled[1:]:
        extra = next((i for i in range(width, len(cells)) if cells[i]), None)
        if extra is not None:
            table.findings.append(
                error(
                    IntakeCode.ROW_TOO_LONG,
                    f"The row has {len(cells)} cells, the header has {width}; {shown(cells[extra])} belongs to no column.",
                    "A value with the separator inside has to stand in quotation marks.",
                    file=table.file,
                    where=f"row {number}, column {letter(extra)}",
                )
            )
        elif len(cells) < width:
            table.findings.append(
                warning(
                    IntakeCode.ROW_TOO_SHORT,
                    f"The row has {len(cells)} cells, the header has {width}; the rest counts as missing.",
                    "Look whether the row is cut off.",
                    file=table.file,
                    where=f"row {number}",
                )
            )
        table.rows.append(Row(number, tuple((cells + [""] * width)[:width])))
    for name in sorted(table.repeated()):
        places = ", ".join(letter(i) for i, other in enumerate(table.columns) if other == name)
        table.findings.append(
            warning(
                IntakeCode.DUPLICATE_COLUMN,
                f"The columns {places} have the same name {shown(name)}.",
                "Rename or remove one of them; a column whose name is not unique is not read.",
                file=table.file,
                where=f"row {header_row}, columns {places}",
            )
        )
    if not table.rows:
        table.findings.append(
            error(IntakeCode.HEADER_ONLY, "The table has a header and no row.", "Export it again with its rows.", file=table.file)
        )
