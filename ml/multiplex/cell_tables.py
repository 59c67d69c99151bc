"""Tables of single cells (steinbock, spora, inForm, scimap ...): an id per row that a mask names, a type where there is one, numbers.

Texts that are no type are left behind: they name images, slides and people.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.multiplex.header import cleaned
from ml.slides.findings import Finding, FindingCode, Severity, SlideError

ID_COLUMN = "cell_id"
# As the programs name them; the first that is there and holds whole numbers is taken.
ID_NAMES = ("cell_id", "cellid", "cell id", "object", "objectnumber", "cellnumber", "cell_number", "label", "object_id", "cell label", "id")
TYPE_NAMES = ("cell_type", "celltype", "cell type", "phenotype", "cell_phenotype", "cell_class", "cell_category", "annotation", "class")
IMAGE_NAMES = ("tissue_id", "image", "image_name", "imagename", "imageid", "sample name", "roiid")
MAX_ROWS = 20_000_000
MAX_COLUMNS = 2000
MAX_TYPES = 500
SOME = 5


@dataclass(frozen=True)
class Columns:
    """Which column is what, as a person says; "" to find it. types: further columns of types may follow the first. image: only the rows
    of this image, where the table holds several (compared with the columns that name images)."""

    cell_id: str = ""
    types: tuple[str, ...] = ()
    image: str = ""


@dataclass(frozen=True)
class CellTable:
    """rows: column cell_id (int64, each once), the type columns (text or None), the numeric columns. left_out: columns not kept."""

    rows: pd.DataFrame
    id_column: str
    types: tuple[str, ...]
    numbers: tuple[str, ...]
    left_out: tuple[str, ...] = field(default=())

    def facts(self) -> dict[str, Any]:
        """n_rows, id_column, columns (numeric), types: per type column how many cells each type has."""
        counts = {name: {str(k): int(n) for k, n in self.rows[name].value_counts().items()} for name in self.types}
        return {"n_rows": len(self.rows), "id_column": self.id_column, "columns": list(self.numbers), "types": counts}


def read_cell_table(path: str | Path, columns: Columns | None = None) -> CellTable:
    """A CSV (comma, semicolon or tab) or Parquet. SlideError FILE_MISSING, EMPTY_FILE, CELL_TABLE_UNREADABLE, CELL_COLUMN_MISSING,
    CELL_ID_INVALID, CELL_ID_TWICE."""
    path, columns = Path(path), columns or Columns()
    if not path.is_file():
        raise SlideError(FindingCode.FILE_MISSING, f"There is no file {path.name}.", "Check the path; nothing was read.")
    if path.stat().st_size == 0:
        raise SlideError(FindingCode.EMPTY_FILE, "The table is empty (0 bytes).", "The copy failed: copy it again.")
    frame = _frame(path)
    if not 1 <= len(frame) <= MAX_ROWS or frame.shape[1] > MAX_COLUMNS:
        sentence = f"The table has {len(frame)} rows and {frame.shape[1]} columns; 1 to {MAX_ROWS} rows of at most {MAX_COLUMNS} are taken."
        raise SlideError(FindingCode.CELL_TABLE_UNREADABLE, sentence, "Give one row per cell.")
    frame = _of_image(frame, columns.image)
    id_column = _id_column(frame, columns.cell_id)
    ids = _ids(frame[id_column], id_column)
    types = _type_columns(frame, columns.types, id_column)
    rows = pd.DataFrame({ID_COLUMN: ids})
    for name in types:
        rows[name] = [None if pd.isna(v) or not cleaned(str(v)) else cleaned(str(v)) for v in frame[name]]
    numbers, left_out = [], []
    for name in frame.columns:
        if name in (id_column, *types):
            continue
        if pd.api.types.is_numeric_dtype(frame[name]) and not pd.api.types.is_bool_dtype(frame[name]) and name != ID_COLUMN:
            rows[name] = frame[name].to_numpy()
            numbers.append(name)
        else:
            left_out.append(name)
    return CellTable(rows.sort_values(ID_COLUMN, ignore_index=True), id_column, types, tuple(numbers), tuple(left_out))


def match_findings(file: str, table: CellTable, ids: NDArray[np.int64]) -> list[Finding]:
    """What a table says that the mask does not, and the other way round. ids: of the mask. No cell in common is an error."""
    named = table.rows[ID_COLUMN].to_numpy()
    lost, bare = np.setdiff1d(named, ids), np.setdiff1d(ids, named)
    findings = []
    if len(lost) == len(named):
        sentence = f"None of the {len(named)} cells of the table is in the mask (column {table.id_column}, first id {named[0]})."
        hint = "Name the column that holds the labels of the mask, or give the table of this image."
        return [Finding(FindingCode.CELLS_WITHOUT_MASK, Severity.ERROR, file, table.id_column, sentence, hint)]
    if len(lost):
        sentence = f"{len(lost)} of {len(named)} rows name cells that are not in the mask; they are kept and count nowhere."
        hint = "Check that mask and table are of one segmentation."
        findings.append(Finding(FindingCode.CELLS_WITHOUT_MASK, Severity.WARNING, file, f"cells {_some(lost)}", sentence, hint))
    if len(bare):
        sentence = f"{len(bare)} of {len(ids)} cells of the mask have no row in the table."
        hint = "They have no type; often they were filtered out."
        findings.append(Finding(FindingCode.CELLS_WITHOUT_ROW, Severity.WARNING, file, f"cells {_some(bare)}", sentence, hint))
    if table.left_out:
        sentence = f"{len(table.left_out)} columns of text are not kept, because they may name the image or the patient."
        where, hint = ", ".join(table.left_out[:SOME]), "Name a column of types if one is among them."
        findings.append(Finding(FindingCode.IDENTIFIERS_IN_HEADER, Severity.INFO, file, where, sentence, hint))
    return findings


def _frame(path: Path) -> pd.DataFrame:
    try:
        with path.open("rb") as handle:
            head = handle.read(1 << 16)
        frame = pd.read_parquet(path) if head.startswith(b"PAR1") else _csv(path, head)
    except (SlideError, MemoryError):
        raise
    except Exception as reason:
        sentence = f"The table cannot be read ({type(reason).__name__})."
        raise SlideError(FindingCode.CELL_TABLE_UNREADABLE, sentence, "Save it as CSV in UTF-8, or as Parquet.") from reason
    names = [cleaned(str(name)) for name in frame.columns]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SlideError(FindingCode.CELL_TABLE_UNREADABLE, f"Two columns are called {twice}.", "Give every column a name of its own.")
    frame.columns = pd.Index(names)
    return frame


def _csv(path: Path, head: bytes) -> pd.DataFrame:
    if b"\0" in head:
        sentence = "This is no table of text."
        raise SlideError(FindingCode.CELL_TABLE_UNREADABLE, sentence, "Save it as CSV in UTF-8, or as Parquet.")
    first = head.decode("utf-8-sig", errors="replace").splitlines()[0]
    separator = max(",;\t", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    return pd.read_csv(path, sep=separator, encoding="utf-8-sig", low_memory=False)


def _of_image(frame: pd.DataFrame, image: str) -> pd.DataFrame:
    if not image:
        return frame
    for name in frame.columns:
        if name.lower() in IMAGE_NAMES and (same := frame[name].astype(str) == image).any():
            return frame[same]
    sentence = f"No row of the table is of the image {image[:60]}."
    hint = "The columns that name images are " + ", ".join(IMAGE_NAMES[:4]) + " and the like."
    raise SlideError(FindingCode.CELL_COLUMN_MISSING, sentence, hint)


def _id_column(frame: pd.DataFrame, given: str) -> str:
    by_lower = {name.lower(): name for name in frame.columns}
    if given:
        if given in frame.columns or given.lower() in by_lower:
            return given if given in frame.columns else by_lower[given.lower()]
        raise _no_column(frame, f"There is no column {given[:60]}.")
    for name in ID_NAMES:
        if name in by_lower and _whole(frame[by_lower[name]]):
            return by_lower[name]
    raise _no_column(frame, "No column of the table is known to hold the cells' ids.")


def _no_column(frame: pd.DataFrame, sentence: str) -> SlideError:
    some = ", ".join(frame.columns[:8]) + (" ..." if frame.shape[1] > 8 else "")
    return SlideError(FindingCode.CELL_COLUMN_MISSING, sentence, f"Name one of its columns: {some}.")


def _whole(column: pd.Series[Any]) -> bool:
    numbers = pd.to_numeric(column, errors="coerce")
    return bool(numbers.notna().all() and (numbers == numbers.round()).all())


def _ids(column: pd.Series[Any], name: str) -> NDArray[np.int64]:
    numbers = pd.to_numeric(column, errors="coerce")
    bad = numbers.isna() | (numbers != numbers.round()) | (numbers < 1) | (numbers > 2**31 - 1)
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        sentence = f"{int(bad.sum())} cells have no id that is a whole number from 1, e.g. {str(column.iloc[row])[:40]!r}."
        hint = "Ids are the labels of the mask; 0 is no cell."
        raise SlideError(FindingCode.CELL_ID_INVALID, sentence, hint, f"row {row + 2}, column {name}")
    ids = numbers.to_numpy(np.int64)
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        sentence = f"{int((counts > 1).sum())} ids stand in several rows, e.g. {values[counts > 1][0]}."
        hint = "If the table holds several images, say which is this one."
        raise SlideError(FindingCode.CELL_ID_TWICE, sentence, hint, f"column {name}")
    return ids


def _type_columns(frame: pd.DataFrame, given: tuple[str, ...], id_column: str) -> tuple[str, ...]:
    by_lower = {name.lower(): name for name in frame.columns}
    if given:
        missing = [name for name in given if name not in frame.columns and name.lower() not in by_lower]
        if missing:
            raise _no_column(frame, f"There is no column {missing[0][:60]}.")
        found = [name if name in frame.columns else by_lower[name.lower()] for name in given]
    else:
        found = [by_lower[n] for n in TYPE_NAMES if n in by_lower and by_lower[n] != id_column and not _number(frame[by_lower[n]])][:1]
    for name in found:
        if (n := frame[name].nunique()) > MAX_TYPES:
            sentence = f"The column {name} holds {n} different texts; that is no column of cell types."
            raise SlideError(FindingCode.CELL_COLUMN_MISSING, sentence, "Name the column of the types.", name)
    return tuple(dict.fromkeys(found))


def _number(column: pd.Series[Any]) -> bool:
    return bool(pd.api.types.is_float_dtype(column))


def _some(ids: NDArray[np.int64]) -> str:
    return ", ".join(map(str, ids[:SOME])) + (" ..." if len(ids) > SOME else "")
