"""Label tables: measured expression per tile, as HEX's authors release it (`channel_registered/{slide}.csv`; spec 1.1).

Columns, in order: slide, index, x, y (level-0 px of the tile's top-left corner), mean_intensity_channel1 .. P. Channel k is marker k of the
panel; a header with real names instead of numbers is read as well. Values stay in the unit of the file: scaling is the training's choice.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.hex.errors import HexDataError
from ml.hex.panel import HEX_PANEL

FIXED = ("slide", "index", "x", "y")
CHANNEL = "mean_intensity_channel"
NUMBERED = re.compile(rf"{CHANNEL}(\d+)")
MAX_MARKERS, MAX_NAME, MAX_ID = 500, 80, 200
BEYOND, BLOCK = "beyond", 4096  # rows written at a time
FARTHEST = 2**31  # px0; no slide is that wide
Scaling = Literal["p99_global", "divide_by_256", "none"]
# The largest measured value that each scaling leaves within the 0..1 of the predictions.
LARGEST = {"p99_global": float("inf"), "divide_by_256": 256.0, "none": 1.0}


@dataclass(frozen=True)
class LabelTable:
    """n tiles with P measured markers each.

    slide: (n,) str, ids as text. index: (n,) int64, running number of the tile. xy: (n, 2) int64 px0, top-left corners.
    values: (n, P) float32 (float64 where it was asked for), finite and >= 0, in the unit of the file. markers: P names.
    """

    slide: NDArray[np.str_]
    index: NDArray[np.int64]
    xy: NDArray[np.int64]
    values: NDArray[Any]
    markers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def slides(self) -> list[str]:
        """The ids of the slides, each once, in the order of the table."""
        return list(dict.fromkeys(self.slide.tolist()))

    def of_slide(self, slide: str) -> LabelTable:
        """The rows of one slide."""
        return self.rows(self.slide == slide)

    def rows(self, kept: NDArray[Any]) -> LabelTable:
        """Some rows, by mask or number."""
        return LabelTable(self.slide[kept], self.index[kept], self.xy[kept], self.values[kept], self.markers)

    @property
    def scale_hint(self) -> str:
        """What the largest value looks like: "0..1", "0..255" or "raw counts". A guess: a dim 0..255 image may look like 0..1."""
        largest = float(self.values.max(initial=0.0))
        return "0..1" if largest <= 1 else "0..255" if largest <= LARGEST["divide_by_256"] else "raw counts"


def read_label_table(path: str | Path, markers: Sequence[str] | None = None, dtype: Any = np.float32) -> LabelTable:
    """Reads a released table.

    markers: names of the channels in order; needed where the header numbers them and there are not 40 (then they are HEX's panel).
    dtype: float32, as labels are trained on; float64 keeps every digit of the file, so that it can be written again byte for byte.
    Errors: HexDataError table_unreadable, table_columns, table_cell, markers_missing, markers_count, markers_invalid, no_tiles,
    labels_not_finite, labels_range; each says the row (of the file, the header is row 1) and the column.
    """
    path = Path(path)
    header = _header(path)
    names = _names(path.name, header[len(FIXED) :], markers)
    columns = [*FIXED, *map(str, range(len(names)))]
    frame = _frame(path, columns)
    if not len(frame):
        raise HexDataError("no_tiles", f"The table {path.name} has no rows.", "Export it again.", path.name)
    if (longer := frame[BEYOND].notna()).any():
        row = int(np.argmax(longer)) + 2
        sentence = f"Row {row} has more cells than the header."
        raise HexDataError("table_cell", sentence, "Look for a comma inside a number or a name.", f"{path.name}, row {row}")
    shown = [*header[: len(FIXED)], *names]
    ids = frame["slide"].str.strip()
    if (bad := ids.str.len().gt(MAX_ID) | ids.eq("")).any():
        raise _cell(path.name, int(np.argmax(bad)), "slide", f"is empty or longer than {MAX_ID} characters", "Write the slide's id there.")
    whole = np.stack([_whole(path.name, frame[name], name) for name in FIXED[1:]])
    values = np.column_stack([_numbers(path.name, frame[c], shown[i + len(FIXED)]) for i, c in enumerate(columns[len(FIXED) :])])
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite then, and refused
        values = values.astype(dtype)
    table = LabelTable(ids.to_numpy(str), whole[0], np.ascontiguousarray(whole[1:].T), values, names)
    check_values(table, path.name)
    return table


def write_label_table(path: str | Path, table: LabelTable) -> None:
    """Writes a table as released: numbered channels, line feeds, each number with as many digits as its dtype needs to come back.

    The markers' names are not in that layout; whoever reads it brings them, unless they are HEX's 40.
    """
    header = [*FIXED, *(f"{CHANNEL}{k}" for k in range(1, len(table.markers) + 1))]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(header)
        for start in range(0, len(table), BLOCK):
            part = table.rows(np.arange(start, min(start + BLOCK, len(table))))
            cells = part.values.astype(str).tolist()
            out.writerows([s, i, *xy, *row] for s, i, xy, row in zip(part.slide.tolist(), part.index.tolist(), part.xy.tolist(), cells))


def check_values(table: LabelTable, file: str = "") -> None:
    """HexDataError labels_not_finite or labels_range unless all values are finite and >= 0."""
    for bad, code, what in (
        (~np.isfinite(table.values), "labels_not_finite", "is missing or no finite number"),
        (table.values < 0, "labels_range", "is negative"),
    ):
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            more = f" ({int(bad.sum())} such values)" if bad.sum() > 1 else ""
            hint = "Mean intensities are finite and not negative: leave such tiles out, or export without background subtraction."
            raise _cell(file, row, table.markers[column], f"{what}: {table.values[row, column]:g}{more}", hint, code)


def check_scaling(table: LabelTable, scaling: Scaling, file: str = "") -> None:
    """HexDataError labels_range where a value is beyond what the scaling brings into 0..1: 256 for divide_by_256, 1 for none.

    p99_global takes any scale: values beyond the 99th percentile are cut to 1.
    """
    check_values(table, file)
    beyond = table.values > LARGEST[scaling]
    if beyond.any():
        row, column = np.argwhere(beyond)[0].tolist()
        said = f"is {table.values[row, column]:g}; {scaling} takes values up to {LARGEST[scaling]:g} ({int(beyond.sum())} are larger)"
        raise _cell(file, row, table.markers[column], said, "Train with p99_global, or bring the table in the stated unit.", "labels_range")


def check_markers(markers: Sequence[str], file: str = "") -> tuple[str, ...]:
    """The names, trimmed. HexDataError markers_invalid where one is empty, twice, too long, or the name of another column."""
    names = tuple(" ".join(str(name).split()) for name in markers)
    wrong = ""
    if not 1 <= len(names) <= MAX_MARKERS:
        wrong = f"There are {len(names)} marker names; 1 to {MAX_MARKERS} can be taken"
    for place, name in enumerate(names, 1):
        if not name or len(name) > MAX_NAME or not name.isprintable():
            wrong = wrong or f"The name of marker {place} is empty, longer than {MAX_NAME} characters or not printable"
        elif name in names[: place - 1]:
            wrong = wrong or f"The marker {name} is named twice (markers {names.index(name) + 1} and {place})"
        elif name.lower() in FIXED:
            wrong = wrong or f"A marker cannot be called {name}: that is a column of the tile itself"
    if wrong:
        raise HexDataError("markers_invalid", f"{wrong}.", "Give each channel a name of its own, in the order of the columns.", file)
    return names


def _header(path: Path) -> list[str]:
    """The first row. HexDataError where the file is not there, is no text, or does not begin as a label table."""
    try:
        with path.open("rb") as file:
            first = file.readline(1 << 20).decode("utf-8-sig")
        header = [cell.strip() for cell in next(csv.reader(io.StringIO(first), strict=True), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as reason:
        raise _unreadable(path.name, type(reason).__name__) from reason
    if [name.lower() for name in header[: len(FIXED)]] != list(FIXED) or len(header) <= len(FIXED):
        began = ", ".join(header[:5])[:80] or "nothing"
        raise HexDataError(
            "table_columns",
            f"The table {path.name} begins with {began}; slide, index, x, y and then one column per marker are expected.",
            "Write it as HEX's released label tables: comma separated, the four columns first.",
            f"{path.name}, row 1",
        )
    return header


def _frame(path: Path, columns: list[str]) -> pd.DataFrame:
    """The rows below the header; a cell beyond the last column lies in BEYOND."""
    how: Any = {"dtype": {"slide": str}, "float_precision": "round_trip", "encoding": "utf-8-sig", "low_memory": False}
    how |= {"keep_default_na": False, "na_values": {BEYOND: ""}, "index_col": False}
    try:
        return pd.read_csv(path, names=[*columns, BEYOND], skiprows=1, **how)
    except ValueError as reason:  # ParserError and UnicodeDecodeError are ValueErrors
        said = str(reason).strip().rpartition("C error: ")[2].splitlines()
        raise _unreadable(path.name, said[0][:120] if said else type(reason).__name__) from reason


def _names(file: str, columns: list[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """Marker names: those given, those of the header, or HEX's panel for 40 numbered channels."""
    numbers = [int(found[1]) if (found := NUMBERED.fullmatch(name)) else None for name in columns]
    if any(number is not None for number in numbers) and numbers != list(range(1, len(columns) + 1)):
        sentence = f"The channels of {file} are not numbered 1 to {len(columns)} in order."
        raise HexDataError("table_columns", sentence, "Write the columns in the order of the panel.", f"{file}, row 1")
    if given is not None:
        names = check_markers(given, file)
        if len(names) != len(columns):
            sentence = f"{len(names)} marker names were given for the {len(columns)} channels of {file}."
            raise HexDataError("markers_count", sentence, "Give one name per channel, in the order of the columns.", file)
        return names
    if numbers[0] is None:
        return check_markers(columns, f"{file}, row 1")
    if len(columns) != len(HEX_PANEL):
        sentence = f"The channels of {file} are numbered, and there are {len(columns)}: only of {len(HEX_PANEL)} is known what they are."
        raise HexDataError("markers_missing", sentence, "Give the marker names in the order of the columns.", f"{file}, row 1")
    return HEX_PANEL


def _numbers(file: str, column: pd.Series[Any], shown: str) -> NDArray[np.float64]:
    """A column as float64; an empty cell is a missing value (NaN), any other text an error."""
    if column.dtype.kind in "iuf":
        return column.to_numpy(np.float64)
    text = column.astype(str).str.strip()
    numbers = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    missing = text.str.lower().isin(("", "na", "nan", "null", "none")).to_numpy()
    if (bad := np.isnan(numbers) & ~missing).any():
        row = int(np.argmax(bad))
        raise _cell(file, row, shown, f"is no number: {text.iloc[row][:40]!r}", "Write a decimal point, and numbers only.")
    return numbers


def _whole(file: str, column: pd.Series[Any], shown: str) -> NDArray[np.int64]:
    """A column of whole numbers from 0; "12.0" is taken for 12."""
    numbers = _numbers(file, column, shown)
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < FARTHEST))
    if bad.any():
        row = int(np.argmax(bad))
        raise _cell(file, row, shown, "is no whole number", "It is counted in level-0 pixels (index: in tiles).")
    return numbers.astype(np.int64)


def _unreadable(file: str, why: str) -> HexDataError:
    return HexDataError("table_unreadable", f"{file} cannot be read as a table ({why}).", "Save it as CSV in UTF-8, with commas.", file)


def _cell(file: str, row: int, column: str, said: str, hint: str, code: str = "table_cell") -> HexDataError:
    """What is wrong in one cell. row: 0-based row of values; a person counts the header as row 1."""
    where = ", ".join(filter(None, (file, f"row {row + 2}", f"column {column}")))
    return HexDataError(code, f"The value of {column} in row {row + 2} {said}.", hint, where)
