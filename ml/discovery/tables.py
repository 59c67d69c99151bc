"""What discovery reads from files: cells with their tokens (Parquet or HDF5), and one response or outcome per patient (CSV).

Parquet: a column `token` (list of numbers, equally long) and a column `patient`. HDF5: a data set `tokens` (n, d) and a data set `patient`
(n,). Other columns of one value per cell are kept by name. Of a file that is one patient's (the cells of an image, as VirTues writes them)
it may be said whose it is; a column `patient` in it does not count then.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.discovery.checks import Tokens
from ml.discovery.errors import DiscoveryError
from ml.types import Outcomes

FORMATS = "Give Parquet with the columns token and patient, or HDF5 with the data sets tokens and patient; or PATIENT=FILE."
PARQUET, HDF5 = (".parquet", ".pq"), (".h5", ".hdf5")


@dataclass(frozen=True)
class CellTable:
    """tokens: (n, d) float32. patients: (n,) str. columns: name -> (n,), whatever else the files say of each cell."""

    tokens: Tokens
    patients: NDArray[np.str_]
    columns: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.tokens)


def read_cells(files: Sequence[Path], whose: Mapping[Path, str] | None = None) -> CellTable:
    """The cells of all files, in their order; of the other columns those that every file has. whose: patient of files that are of one.

    Raises DiscoveryError: file_unreadable, column_missing, widths_differ, empty, no_patient.
    """
    parts = [_read(file, (whose or {}).get(file)) for file in files]
    widths = {part.tokens.shape[1] for part in parts if len(part)}
    if not widths:
        raise DiscoveryError("empty", "The files have no cells.", "Choose tissues that have cells.", "cells")
    if len(widths) > 1:
        sentence = f"The files have tokens of {', '.join(map(str, sorted(widths)))} numbers."
        raise DiscoveryError("widths_differ", sentence, "All must come of one model version.", "cells")
    parts = [part for part in parts if len(part)]
    shared = [name for name in parts[0].columns if all(name in part.columns for part in parts)]
    table = CellTable(
        np.concatenate([part.tokens for part in parts]),
        np.concatenate([part.patients for part in parts]),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in shared},
    )
    if (table.patients == "").any():
        sentence = f"{int((table.patients == '').sum())} cells name no patient."
        raise DiscoveryError("no_patient", sentence, "Say whose each cell is.", "patient")
    return table


def _read(file: Path, patient: str | None) -> CellTable:
    import pyarrow as pa

    try:
        if file.suffix.lower() in PARQUET:
            return _parquet(file, patient)
        if file.suffix.lower() in HDF5:
            return _hdf5(file, patient)
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, DiscoveryError):
            raise
        raise DiscoveryError("file_unreadable", f"{file.name} cannot be read as a table of cells.", FORMATS, file.name) from error
    raise DiscoveryError("file_unreadable", f"{file.name} is neither Parquet nor HDF5.", FORMATS, file.name)


def _parquet(file: Path, patient: str | None) -> CellTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    _need(file, table.column_names, ("token", "patient") if patient is None else ("token",))
    token = table.column("token").combine_chunks()
    if not (pa.types.is_list(token.type) or pa.types.is_large_list(token.type) or pa.types.is_fixed_size_list(token.type)):
        raise DiscoveryError("file_unreadable", f"The column token of {file.name} holds no lists of numbers.", FORMATS, file.name)
    flat = token.flatten().to_numpy(zero_copy_only=False)
    n = len(token)
    if token.null_count or (n and (len(flat) % n or set(token.value_lengths().to_pylist()) != {len(flat) // n})):
        raise DiscoveryError("widths_differ", f"The tokens in {file.name} are not equally long.", FORMATS, file.name)
    tokens = np.asarray(flat, dtype=np.float32).reshape(n, -1 if n else 0)
    others = {c: table.column(c).to_numpy() for c in table.column_names if c not in ("token", "patient")}
    return CellTable(tokens, _texts([patient] * n if patient is not None else table.column("patient").to_pylist()), others)


def _hdf5(file: Path, patient: str | None) -> CellTable:
    import h5py

    with h5py.File(file, "r") as opened:
        names = [name for name in opened if isinstance(opened[name], h5py.Dataset)]
        _need(file, names, ("tokens", "patient") if patient is None else ("tokens",))
        tokens = np.asarray(opened["tokens"], dtype=np.float32)
        if tokens.ndim != 2:
            raise DiscoveryError("file_unreadable", f"tokens of {file.name} has the shape {tokens.shape}, not (cells, width).", FORMATS)
        columns = {name: _column(opened[name]) for name in names if name != "tokens" and opened[name].shape == (len(tokens),)}
    if patient is not None:
        columns["patient"] = np.full(len(tokens), patient)
    if "patient" not in columns:
        raise DiscoveryError("wrong_length", f"patient of {file.name} has not one entry for each of {len(tokens)} cells.", FORMATS)
    return CellTable(tokens, _texts(columns.pop("patient").tolist()), columns)


def _column(dataset: Any) -> NDArray[Any]:
    import h5py

    return np.asarray(dataset.asstr()[:], dtype=np.str_) if h5py.check_string_dtype(dataset.dtype) else np.asarray(dataset)


def _need(file: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise DiscoveryError("column_missing", f"{file.name} has no {' and no '.join(missing)}.", FORMATS, file.name)


def _texts(values: Sequence[Any]) -> NDArray[np.str_]:
    return np.array(["" if v is None else str(v).strip() for v in values], dtype=np.str_)


def read_patients(file: Path, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """patient -> {column: text} of a CSV with a column `patient`. Raises DiscoveryError: file_unreadable, column_missing, patient_twice."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = list(csv.DictReader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        sentence = f"{file.name} cannot be read as a table."
        raise DiscoveryError("file_unreadable", sentence, "Give a CSV in UTF-8 with commas and a line of names.", file.name) from error
    for name in ("patient", *columns):
        if not rows or name not in rows[0]:
            has = f"It has {', '.join(filter(None, rows[0]))}." if rows else "It has no rows."
            raise DiscoveryError("column_missing", f"{file.name} has no column {name}.", has, file.name)
    found: dict[str, dict[str, str]] = {}
    for line, row in enumerate(rows, start=2):
        patient = (row["patient"] or "").strip()
        if not patient or patient in found:
            sentence = f"Row {line} of {file.name} names {'no patient' if not patient else f'{patient} again'}."
            raise DiscoveryError("patient_twice" if patient else "no_patient", sentence, "One row per patient.", file.name)
        found[patient] = {name: (row[name] or "").strip() for name in columns}
    return found


def binary_response(values: Mapping[str, str], yes: str, name: str = "response") -> dict[str, bool]:
    """Who responded, by patient: `yes` is the value that says so, whoever has an empty value is left out.

    Raises DiscoveryError: no_outcome, not_two_values, value_unknown.
    """
    known = {patient: value for patient, value in values.items() if value != ""}
    found = sorted(set(known.values()))
    if not found:
        raise DiscoveryError("no_outcome", f"{name} is recorded for nobody.", "Choose another variable.", name)
    if yes not in found:
        sentence = f"Nobody has {yes} as {name}." if yes else f"It is not said which value of {name} is response."
        raise DiscoveryError("value_unknown", sentence, f"Its values are {', '.join(found[:6])}; say which one is response.", name)
    if len(found) > 2:
        sentence = f"{name} has {len(found)} values ({', '.join(found[:6])}{', ...' if len(found) > 6 else ''}), and a response has two."
        raise DiscoveryError("not_two_values", sentence, "Choose or make a variable of two values.", name)
    return {patient: value == yes for patient, value in known.items()}


def read_outcomes(file: Path, endpoint: str) -> Outcomes:
    """Outcomes of a CSV with patient, time (days), event (1 or 0) and, where there is one, entry (days); rows without a time are left out.

    Raises DiscoveryError: those of read_patients, not_a_number, outcome_not_binary, no_outcome.
    """
    with_entry = "entry" in _header(file)
    rows = read_patients(file, ("time", "event", "entry") if with_entry else ("time", "event"))
    known = {patient: row for patient, row in rows.items() if row["time"]}
    if not known:
        raise DiscoveryError("no_outcome", f"{file.name} has no time for anybody.", "Times are in days.", file.name)
    for patient, row in known.items():
        if row["event"] not in ("0", "1"):
            raise DiscoveryError("outcome_not_binary", f"The event of {patient} is {row['event']!r}.", "An event is 1, none 0.", file.name)
    event = np.array([row["event"] == "1" for row in known.values()])
    time = np.array([_number(file, patient, row["time"]) for patient, row in known.items()])
    entry = np.array([_number(file, patient, row["entry"] or "0") for patient, row in known.items()]) if with_entry else None
    return Outcomes(tuple(known), time, event, endpoint, entry)


def _header(file: Path) -> list[str]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            return next(csv.reader(opened), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return []  # read_patients says what is wrong with it


def _number(file: Path, patient: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DiscoveryError("not_a_number", f"The time of {patient} is {text!r}.", "Times are numbers of days.", file.name)
    return value
