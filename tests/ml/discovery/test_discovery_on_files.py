"""Discovery from the command line: what is planted in files is found, a stopped run goes on, what does not fit is said in a sentence."""

import csv
import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest

from ml.discovery import biomarkers, runs
from ml.discovery.__main__ import main
from ml.discovery.tables import binary_response, read_cells

QUICK = [
    "biomarkers.permutations=19", "biomarkers.screen_repeats=2", "biomarkers.joint_repeats=2", "biomarkers.outer_repeats=1",
    "biomarkers.folds=2", "biomarkers.outer_folds=3", "leiden.first=0.5", "leiden.last=1", "leiden.step=0.25", "graph.neighbours=8",
]  # fmt: skip
SET = [part for one in QUICK for part in ("--set", one)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """24 patients; kind 0 of five kinds of cells only in responders, kind 1 only in the others. P23 has no response, P24 no cells."""
    folder = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(3)
    centres = rng.normal(0, 6, (5, 12))
    patients, kinds = [], []
    for i in range(24):
        allowed = [k for k in range(5) if k != (1 if i % 2 == 0 else 0)]
        patients += [f"P{i:02d}"] * 30
        kinds += rng.choice(allowed, 30).tolist()
    tokens = (centres[kinds] + rng.normal(0, 1, (len(kinds), 12))).astype(np.float32)
    names = [f"kind {k}" for k in kinds]
    half = len(tokens) // 2
    token = pa.FixedSizeListArray.from_arrays(pa.array(tokens[:half].ravel()), 12)
    pq.write_table(pa.table({"patient": patients[:half], "kind": names[:half], "token": token}), folder / "a.parquet")
    with h5py.File(folder / "b.h5", "w") as file:
        file["tokens"] = tokens[half:]
        for name, column in (("patient", patients), ("kind", names)):
            file.create_dataset(name, data=np.array(column[half:], dtype=object), dtype=h5py.string_dtype())
    yes = [i % 2 == 0 for i in range(25)]
    rows = [(f"P{i:02d}", "" if i == 23 else ("RD", "pCR")[yes[i]], 100 + 40 * yes[i] + i, int(i % 3 > 0)) for i in range(25)]
    with (folder / "patients.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("patient", "pathology", "time", "event"), *rows])
    return folder


def asked(files, out, command="biomarkers", *more):
    table = files / "patients.csv"
    beside = {
        "biomarkers": ["--response", str(table), "--column", "pathology", "--yes", "pCR", *SET],
        "risk-groups": ["--outcomes", str(table)],
    }
    return [command, str(files / "a.parquet"), str(files / "b.h5"), "--out", str(out), *beside.get(command, ()), *more]


def test_planted_biomarkers_are_found_and_written(files, tmp_path, capsys):
    assert main(asked(files, tmp_path)) == 0
    told = json.loads((tmp_path / "result.json").read_text())
    assert (told["n"], told["responders"], told["patients_left_out"]) == (23, 12, ["P23"])
    assert told["nested"]["auroc"] > 0.9 and told["nested"]["p"] == 1 / 20
    assert {one["direction"] for one in told["biomarkers"]} == {"response", "non-response"}
    assert "nested AUROC" in (said := capsys.readouterr().out) and said.index("nested") < said.index("printed")
    cells = pq.read_table(tmp_path / "cells.parquet").to_pandas()
    assert len(cells) == 720 and not cells.took_part[cells.patient == "P23"].any()
    for one in told["biomarkers"]:
        inside = cells[cells[f"cluster {one['name']}"]]
        assert len(inside) == one["cells"] and inside.patient.nunique() == one["patients"]
    for direction, kind in (("response", "kind 0"), ("non-response", "kind 1")):
        best = next(one for one in told["biomarkers"] if one["direction"] == direction)
        assert set(cells[cells[f"cluster {best['name']}"]].kind) == {kind}
    with (tmp_path / "patients.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["patient"] for row in rows] == [f"P{i:02d}" for i in range(23)]
    assert rows[0]["response"] == "1" and rows[1]["response"] == "0"
    assert not (tmp_path / "running").exists()


def test_a_stopped_run_goes_on_where_it_was(files, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    assert main(asked(files, whole)) == 0
    steps = iter(range(11))
    real = biomarkers.nested

    def interrupted(*given):
        if next(steps, None) is None:  # the observed one and a block of ten are done
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(biomarkers, "nested", interrupted)
    out = tmp_path / "stopped"
    assert main(asked(files, out)) == 130
    assert len(json.loads((out / "running" / runs.NULL).read_text())["nested"]) == 10
    monkeypatch.setattr(biomarkers, "nested", real)
    monkeypatch.setattr(runs, "leiden", lambda *given: pytest.fail("The clusters were made again."))
    assert main(asked(files, out)) == 0
    assert (out / "result.json").read_text() == (whole / "result.json").read_text()


def test_risk_groups_and_typing(files, tmp_path, capsys):
    quick = [part for one in ("cell_clusters=5", "groups=2", "permutations=19") for part in ("--set", one)]
    assert main(asked(files, tmp_path / "risk", "risk-groups", *quick)) == 0
    told = json.loads((tmp_path / "risk" / "result.json").read_text())
    assert told["n"] == 24 and sum(one["patients"] for one in told["groups"]) == 24
    assert 1 / 20 <= told["out_of_fold"]["p"] <= 1 and told["printed"]["p"] < told["whole"]["p"] + 0.5
    assert pq.read_table(tmp_path / "risk" / "cells.parquet")["cluster"].to_pandas().nunique() == 5
    assert main(asked(files, tmp_path / "types", "typing", "--labels", "kind", "--set", "bootstrap=50")) == 0
    assert json.loads((tmp_path / "types" / "result.json").read_text())["macro_f1"][0] > 0.95
    assert "held-out patients" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--yes", "yes"], "Nobody has yes as pathology. Its values are RD, pCR; say which one is response."),
        (["--column", "grade"], "patients.csv has no column grade. It has patient, pathology, time, event."),
        (["--column", "event", "--yes", "1", "--set", "biomarkers.folds=9"], "patients responded and"),
        (["--column", "time", "--yes", "101"], "time has 25 values"),
        (["--set", "leiden.step=0"], "leiden.step: Input should be greater than 0."),
        (["--set", "leiden=5", "--set", "leiden.first=1"], "leiden is a group of settings."),
        (["--set", "nothing=1"], "nothing: Extra inputs are not permitted."),
    ],
)
def test_what_does_not_fit_is_said(files, tmp_path, capsys, change, sentence):
    assert main(asked(files, tmp_path, "biomarkers", *change)) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "result.json").exists()


def test_a_folder_that_cannot_be_is_said(files, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    assert main(asked(files, tmp_path / "taken" / "out")) == 1
    assert "Choose another folder with --out." in capsys.readouterr().err


def test_files_that_are_no_cells(files, tmp_path, capsys):
    broken = tmp_path / "cells.parquet"
    broken.write_bytes(b"PAR1 no")
    bare = tmp_path / "bare.parquet"
    pq.write_table(pa.table({"patient": ["a"]}), bare)
    uneven = tmp_path / "uneven.parquet"
    pq.write_table(pa.table({"patient": ["a", "b"], "token": [[1.0], [1.0, 2.0]]}), uneven)
    said = {broken: "cannot be read as a table of cells", bare: "has no token", uneven: "are not equally long",
            files / "patients.csv": "neither Parquet nor HDF5", tmp_path / "gone.h5": "cannot be read"}  # fmt: skip
    for file, sentence in said.items():
        assert main(["typing", str(file), "--labels", "kind", "--out", str(tmp_path / "out")]) == 1
        assert sentence in capsys.readouterr().err
    assert main(asked(files, tmp_path / "out", "typing", "--labels", "colour")) == 1
    assert "have no column colour. They have kind." in capsys.readouterr().err


def test_a_file_may_be_said_to_be_of_one_patient(files, tmp_path, capsys):
    """As VirTues writes the cells of an image: without a patient."""
    table = pq.read_table(files / "a.parquet")
    given = []
    for i in range(12):
        part = table.filter(pa.compute.equal(table["patient"], f"P{i:02d}")).drop_columns(["patient"])
        pq.write_table(part, tmp_path / f"{i}.parquet")
        given.append(f"P{i:02d}={tmp_path / f'{i}.parquet'}")
    asked_of = ["--labels", "kind", "--set", "bootstrap=10", "--out", str(tmp_path / "out")]
    assert main(["typing", *given, *asked_of]) == 0
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (told["fitted"], told["held_out"]) == (10, 2)
    assert main(["typing", str(tmp_path / "0.parquet"), *asked_of]) == 1
    assert "0.parquet has no patient. Give Parquet" in capsys.readouterr().err


def test_cells_of_both_formats_are_one_table(files):
    table = read_cells([files / "a.parquet", files / "b.h5"])
    assert table.tokens.shape == (720, 12) and table.tokens.dtype == np.float32
    assert table.patients[0] == "P00" and table.patients[-1] == "P23" and list(table.columns) == ["kind"]
    assert binary_response({"a": "x", "b": "", "c": "y"}, "x") == {"a": True, "c": False}
