"""Discovery on files, without the platform.

    python -m ml.discovery biomarkers CELLS... --response CSV --column NAME --yes VALUE --out FOLDER [--set biomarkers.permutations=1000]
    python -m ml.discovery risk-groups CELLS... --outcomes CSV [--endpoint OS] --out FOLDER [--set cell_clusters=120]
    python -m ml.discovery typing CELLS... --labels NAME --out FOLDER [--set scaling=standard]

CELLS is Parquet with the columns token and patient, or HDF5 with the data sets tokens and patient; PATIENT=FILE says whose cells a file
holds, e.g. one that was downloaded from the page of an image. A CSV has a column patient; outcomes have time (days), event (1 or 0) and,
where there is delayed entry, entry. Which value means response is said with --yes, never guessed.
FOLDER gets result.json, patients.csv and cells.parquet (typing: classes.csv); a run that was stopped goes on when it is called again.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.discovery.config import BiomarkerRunConfig, CellTypingConfig, RiskGroupConfig
from ml.discovery.errors import DiscoveryError
from ml.survival.data import SurvivalDataError
from ml.training.splits import SplitError

if TYPE_CHECKING:
    from ml.discovery.tables import CellTable

RUNNING = "running"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 1 where the work said no, 130 where it was interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m ml.discovery", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    markers = commands.add_parser("biomarkers", help="clusters of cells that go with response")
    markers.add_argument("--response", required=True, type=Path, help="CSV with patient and the column of the response")
    markers.add_argument("--column", default="response", help="name of that column")
    markers.add_argument("--yes", required=True, help="the value that means response")
    groups = commands.add_parser("risk-groups", help="patients grouped by their cells, halved into high and low risk")
    groups.add_argument("--outcomes", required=True, type=Path, help="CSV with patient, time (days) and event (1 or 0)")
    groups.add_argument("--endpoint", default="OS", help="name of the endpoint")
    typing = commands.add_parser("typing", help="how well a linear probe tells cell types apart, by patient")
    typing.add_argument("--labels", required=True, help="the column of CELLS that names each cell's type; empty: not labelled")
    for command, run in ((markers, _biomarkers), (groups, _risk_groups), (typing, _typing)):
        command.add_argument("cells", nargs="+", metavar="CELLS")
        command.add_argument("--out", required=True, type=Path)
        command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one setting of ml/discovery/config.py")
        command.set_defaults(run=run)
    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except (DiscoveryError, SurvivalDataError, SplitError) as error:
        print(f"{error.sentence} {error.hint}".strip(), file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or given.out}: {error.strerror}. Choose another folder with --out.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped. What was finished is kept; the same command goes on from there.", file=sys.stderr)
        return 130
    return 0


def _biomarkers(given: argparse.Namespace) -> None:
    from ml.discovery.reports import biomarker_cells, biomarker_patients, biomarker_report
    from ml.discovery.runs import run_biomarkers
    from ml.discovery.tables import binary_response, read_patients

    config = _config(BiomarkerRunConfig, given.set)
    rows = read_patients(given.response, (given.column,))
    response = binary_response({patient: row[given.column] for patient, row in rows.items()}, given.yes, given.column)
    table = _cells(given.cells)
    run = run_biomarkers(table.tokens, table.patients, response, config, given.out / RUNNING, _say)
    told = {**biomarker_report(run), "response": f"{given.column} is {given.yes}", "patients_left_out": list(run.left_out)}
    _write(given.out, told, config, biomarker_patients(run), table, biomarker_cells(run))
    nested = told["nested"]
    print(f"{told['n']} patients, {told['responders']} responders, {told['cells']} cells, {told['clusters']} clusters")
    print(f"nested AUROC {nested['auroc']:.3f}, p {nested['p']:.3g} of {nested['permutations']} shufflings")
    print(f"printed AUROC {told['printed']['auroc']:.3f} (too good: on shuffled outcomes it is {told['printed']['shuffled']:.3f})")
    for one in told["biomarkers"]:
        print(f"{one['name']}: {one['direction']}, in {one['patients']} patients, AUROC {one['auroc']:.3f}")


def _risk_groups(given: argparse.Namespace) -> None:
    from ml.discovery.reports import risk_cells, risk_patients, risk_report
    from ml.discovery.runs import run_risk_groups
    from ml.discovery.tables import read_outcomes

    config = _config(RiskGroupConfig, given.set)
    outcomes = read_outcomes(given.outcomes, given.endpoint)
    table = _cells(given.cells)
    run = run_risk_groups(table.tokens, table.patients, outcomes, config, given.out / RUNNING, _say)
    told = {**risk_report(run), "patients_left_out": list(run.found.survival.left_out)}
    _write(given.out, told, config, risk_patients(run), table, risk_cells(run))
    apart, printed = told["out_of_fold"], told["printed"]["p"]
    print(f"{told['n']} patients, {told['events']} events of {told['endpoint']}, {told['cells']} cells")
    print(f"out of fold: z {apart['z']:.2f}, p {apart['p']:.3g}; shuffled outcomes through the whole merge: p {told['whole']['p']:.3g}")
    print(f"printed log-rank p {'unknown' if printed is None else format(printed, '.3g')} (too good: the merge saw these outcomes)")


def _typing(given: argparse.Namespace) -> None:
    import numpy as np
    import pandas as pd

    from ml.discovery.cell_typing import fit_cell_types
    from ml.discovery.reports import rows_of, typing_report

    config = _config(CellTypingConfig, given.set)
    table = _cells(given.cells)
    if given.labels not in table.columns:
        hint = f"They have {', '.join(table.columns)}." if table.columns else "They have token and patient alone."
        raise DiscoveryError("column_missing", f"The cells have no column {given.labels}.", hint, "labels")
    labels = np.array(["" if pd.isna(v) else str(v) for v in table.columns[given.labels].tolist()], dtype=np.str_)
    known = labels != ""
    told = typing_report(fit_cell_types(table.tokens[known], labels[known], table.patients[known], config))
    told["unlabelled"] = int((~known).sum())
    given.out.mkdir(parents=True, exist_ok=True)
    _csv(given.out / "classes.csv", rows_of({name: [one[name] for one in told["classes"]] for name in told["classes"][0]}))
    _json(given.out / "result.json", told, config)
    middle, lower, upper = (format(v, ".3f") if v is not None else "-" for v in told["macro_f1"])
    print(f"macro F1 {middle} ({lower} to {upper}) on {told['held_out']} held-out patients, {told['unlabelled']} cells without a label")


def _cells(given: Sequence[str]) -> CellTable:
    """Files, or PATIENT=FILE; a file that is there is never taken apart."""
    from ml.discovery.tables import read_cells

    files, whose = [], {}
    for text in given:
        patient, equals, name = text.partition("=")
        if equals and patient and not Path(text).exists():
            whose[Path(name)] = patient
        files.append(Path(name) if Path(name) in whose else Path(text))
    return read_cells(files, whose)


def _write(folder: Path, told: dict[str, Any], config: Any, patients: dict[str, list[Any]], table: Any, cells: dict[str, Any]) -> None:
    """The three files; then what was kept on the way may go."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ml.discovery.reports import rows_of

    kept = {name: column for name, column in table.columns.items() if name not in cells}
    pq.write_table(pa.table({"patient": table.patients.tolist(), **kept, **cells}), folder / "cells.parquet", compression="zstd")
    _csv(folder / "patients.csv", rows_of(patients))
    _json(folder / "result.json", told, config)
    shutil.rmtree(folder / RUNNING, ignore_errors=True)


def _csv(file: Path, rows: list[list[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        csv.writer(opened).writerows(rows)


def _json(file: Path, told: dict[str, Any], config: Any) -> None:
    file.write_text(json.dumps({**told, "config": config.model_dump(mode="json")}, indent=1))


def _config(make: Any, pairs: list[str]) -> Any:
    """A config with NAME=VALUE or GROUP.NAME=VALUE settings, the value as JSON where it is some, else as text."""
    from pydantic import ValidationError

    values: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        outer, _, last = name.rpartition(".")
        group = values.setdefault(outer, {}) if outer else values
        if not isinstance(group, dict):
            raise DiscoveryError("config_invalid", f"{outer} is a group of settings.", f"Set {name} alone.", outer)
        group[last] = value
    try:
        return make(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "The settings"
        raise DiscoveryError("config_invalid", f"{name}: {first['msg']}.", "See ml/discovery/config.py.", name) from error


def _say(fraction: float, text: str) -> None:
    print(f"{fraction:4.0%} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
