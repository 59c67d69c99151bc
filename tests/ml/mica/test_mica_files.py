"""The released layout of files: what is written is read back; tables that contradict themselves are refused."""

import h5py
import numpy as np
import pandas as pd
import pytest

from ml.mica.codex_bag import CodexBag
from ml.mica.errors import MicaError
from ml.mica.files import (
    read_bags,
    read_clinical,
    read_codex,
    read_splits,
    read_tiles,
    write_clinical,
    write_codex,
    write_splits,
    write_tiles,
)


@pytest.fixture
def project(few, tmp_path):
    """A project "toy" in the released layout, two slides of P0."""
    base = tmp_path / "TOY"
    slides, patients = [b.slide for b in few.bags] + ["S0.b"], [b.patient for b in few.bags] + ["P0"]
    bags = [*few.bags, few.bags[0]]
    for slide, bag in zip(slides, bags):
        write_tiles(base / "features" / "pt_files", slide, bag.tiles)
    write_codex(
        base / "he2codex" / "fea_files" / "features.h5", {s: CodexBag(b.codex, b.markers, b.codex_encoder) for s, b in zip(slides, bags)}
    )
    write_clinical(base / "toy_clin.csv", slides, patients, few.outcomes)
    write_splits(base / "splits", slides, patients, {p: i % 3 for i, p in enumerate(few.outcomes.patients)})
    return tmp_path


def test_a_project_is_read_as_it_was_written(few, project):
    bags, outcomes = read_bags(project, "toy", ("others",) * 3)
    assert len(bags) == 25 and bags[-1].slide == "S0.b" and bags[-1].patient == "P0"
    np.testing.assert_array_equal(bags[3].read_tiles(), few.bags[3].tiles)
    np.testing.assert_array_equal(bags[3].codex, few.bags[3].codex)
    assert bags[3].markers == few.bags[3].markers and bags[3].codex_encoder == "toy map"
    assert outcomes.patients == few.outcomes.patients
    np.testing.assert_allclose(outcomes.time, few.outcomes.time, rtol=1e-12)
    np.testing.assert_array_equal(outcomes.event, few.outcomes.event)
    with h5py.File(project / "TOY" / "he2codex" / "fea_files" / "features.h5") as file:
        assert file["S0"].dtype == np.float64 and file["S0"].shape == (3, 5)


def test_splits_hold_each_patient_out_once_with_one_slide(few, project):
    patient_of = {b.slide: b.patient for b in few.bags} | {"S0.b": "P0"}
    splits = read_splits([project / "TOY" / "splits" / f"splits_{k}.csv" for k in range(3)], patient_of)
    assert splits.fold_of == {p: i % 3 for i, p in enumerate(few.outcomes.patients)}
    assert "S0.b" in splits.train[1] and "S0.b" not in splits.val[0] and len(splits.val[0]) == 8
    table = pd.read_csv(project / "TOY" / "splits" / "splits_0.csv")
    assert list(table.columns[1:]) == ["train", "val", "test"] and table["test"].equals(table["val"])


def test_tcga_names_are_their_own_patients(tmp_path):
    name = "TCGA-05-4244-01Z-00-DX1.d4ff32cd-38cf-40ea-8213-45c2b100ac01.svs"
    pd.DataFrame({"slide_id": [name], "survival_months": [10.0], "censorship": [0]}).to_csv(tmp_path / "c.csv")
    table = read_clinical(tmp_path / "c.csv")
    assert table.outcomes.patients == ("TCGA-05-4244",) and table.slides[0].endswith("45c2b100ac01")
    assert table.outcomes.time[0] == pytest.approx(304.375) and table.outcomes.event[0]
    (tmp_path / "s.csv").write_text(f",train,val,test\n0,{name},{name.replace('4244', '4245')},x\n1,{name.replace('4244', '4249')},,\n")
    splits = read_splits([tmp_path / "s.csv"])
    assert splits.fold_of == {"TCGA-05-4245": 0} and len(splits.train[0]) == 2


def split_file(folder, name, train, val):
    pd.DataFrame({"train": pd.Series(train), "val": pd.Series(val)}).to_csv(folder / name)
    return folder / name


def test_a_patient_on_both_sides_of_a_split_is_refused(tmp_path):
    patient_of = {"a1": "A", "a2": "A", "b1": "B"}
    path = split_file(tmp_path, "splits_0.csv", ["a1.svs", "b1.svs"], ["a2.svs"])
    with pytest.raises(MicaError, match=r"1 patients are on both sides of splits_0.csv, e\.g\. A") as caught:
        read_splits([path], patient_of)
    assert caught.value.code == "patient_both_sides"
    two = [split_file(tmp_path, f"splits_{k}.csv", ["b1.svs"], ["a1.svs"]) for k in (0, 1)]
    with pytest.raises(MicaError, match="validated in two folds"):
        read_splits(two, patient_of)
    with pytest.raises(MicaError, match="belongs to no known patient"):
        read_splits(two, {"a1": "A"})


CLINICAL = {
    "case_id": ["A", "A", "B"],
    "slide_id": ["a1.svs", "a2.svs", "b1.svs"],
    "survival_months": [5.0, 5.0, 9],
    "censorship": [0, 0, 1],
}


@pytest.mark.parametrize(
    ("column", "values", "code", "says"),
    [
        ("survival_months", [5.0, 6.0, 9], "patient_contradicts", "The slides of A have different outcomes"),
        ("survival_months", [np.nan, np.nan, 9], "bad_outcomes", "1 patients have no time"),
        ("survival_months", [-5.0, -5.0, 9], "bad_outcomes", "1 times are negative"),
        ("survival_months", ["soon", "soon", "late"], "bad_outcomes", "not a number"),
        ("censorship", [2, 2, 1], "bad_outcomes", "other than 0 and 1"),
        ("censorship", None, "column_absent", "has no column censorship"),
    ],
)
def test_a_clinical_table_that_cannot_be_used(tmp_path, column, values, code, says):
    table = pd.DataFrame({**CLINICAL, column: values} if values is not None else {k: v for k, v in CLINICAL.items() if k != column})
    table.to_csv(tmp_path / "p_clin.csv", index=False)
    with pytest.raises(MicaError, match=says) as caught:
        read_clinical(tmp_path / "p_clin.csv")
    assert caught.value.code == code and caught.value.sentence.endswith(".")


def test_bags_that_cannot_be_read(few, project, tmp_path):
    with pytest.raises(MicaError, match=r"There is no X.pt"):
        read_tiles(tmp_path / "X.pt")
    (tmp_path / "X.pt").write_bytes(b"text")
    with pytest.raises(MicaError, match="does not hold one tensor"):
        read_tiles(tmp_path / "X.pt")
    with pytest.raises(MicaError, match="is no table of bags"):
        read_codex(tmp_path / "X.pt", ())
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["S0"] = np.zeros((40, 384))
    with pytest.raises(MicaError, match=r"is \(40, 384\) where 2 markers were expected"):
        read_codex(tmp_path / "features.h5", ("CD3", "CD8"))
    assert read_codex(tmp_path / "features.h5", tuple(f"m{i}" for i in range(40)))["S0"].encoder == "dinov2-s14-reg"
