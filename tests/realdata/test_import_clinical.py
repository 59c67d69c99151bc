"""import_clinical on public tables; the numbers are counted from the same files by pandas."""

import io
import json
import zipfile
from io import StringIO

import pandas as pd
import pytest
from django.core.management import call_command

from tissueboard.cohorts.models import Cohort, Endpoint, Patient

pytestmark = pytest.mark.realdata
DAYS_PER_MONTH = 30.4375


def run(path, report, *arguments) -> dict:
    call_command(
        "import_clinical", str(path), "--cohort", "real", "--create-cohort", "--report", str(report), *arguments, stdout=StringIO()
    )
    return json.loads(report.read_text())


def codes(report) -> list[str]:
    return [finding["code"] for finding in report["findings"]]


@pytest.fixture
def luad(data):
    path = data / "clinical/tcga_luad_mcat/tcga_luad_all_clean.csv.zip"
    with zipfile.ZipFile(path) as archive:
        return path, pd.read_csv(io.BytesIO(archive.read(archive.namelist()[0])), low_memory=False)


def test_luad_rows_are_slides_and_censorship_one_is_censored(db, luad, tmp_path):
    path, table = luad
    report = run(path, tmp_path / "r.json", "--endpoint", "OS=survival_months:months:censorship:censored=1", "--time-zero", "diagnosis")
    patients = table.drop_duplicates("case_id").set_index("case_id")
    assert report["state"] == "ready" and report["counts"]["rows"] == len(table)
    deaths = int((patients.censorship == 0).sum())
    assert (report["counts"]["OS patients"], report["counts"]["OS events"]) == (len(patients), deaths) == (453, 158)
    stored = {code: (time, event) for code, time, event in Endpoint.objects.values_list("patient__code", "time_days", "event")}
    assert set(stored) == set(patients.index)
    for code, row in patients.iterrows():
        assert stored[code] == (pytest.approx(row.survival_months * DAYS_PER_MONTH), row.censorship == 0)
    clinical = dict(Patient.objects.values_list("code", "clinical"))
    assert all(clinical[code]["age"] == row.age for code, row in patients.iterrows() if not pd.isna(row.age))
    assert {"age", "is_female", "site", "oncotree_code"} <= set(clinical["TCGA-05-4249"]) and len(clinical["TCGA-05-4249"]) < 10
    assert "ROWS_PER_PATIENT" in codes(report) and "COLUMNS_NOT_READ" in codes(report)
    assert not list(tmp_path.rglob("*.csv")), "the archive was read, never unpacked"


def test_luad_without_a_coding_waits_and_shows_both_answers(db, luad, tmp_path):
    path, table = luad
    report = run(path, tmp_path / "r.json")
    patients = table.drop_duplicates("case_id")
    assert report["state"] == "needs attention" and "EVENT_CODING_NEEDED" in codes(report) and not Patient.objects.exists()
    choices = report["preview"]["endpoints"]["OS"]["events_if"]
    assert choices == {f"event={value}": int((patients.censorship == value).sum()) for value in (0, 1)}


@pytest.mark.parametrize("cancer", ["brca", "blca"])
def test_survpath_tables_have_three_endpoints(db, data, cancer, tmp_path):
    path = data / f"clinical/tcga_{cancer}_survpath/tcga_{cancer}.csv"
    table = pd.read_csv(path).drop_duplicates("case_id")
    given = [
        f"{name}=survival_months{tail}:months:censorship{tail}:censored=1" for name, tail in (("OS", ""), ("DSS", "_dss"), ("PFI", "_pfi"))
    ]
    report = run(path, tmp_path / "r.json", *(part for text in given for part in ("--endpoint", text)))
    assert report["state"] == "ready", report["findings"]
    for name, tail in (("OS", ""), ("DSS", "_dss"), ("PFI", "_pfi")):
        whole = table[table[f"survival_months{tail}"].notna() & table[f"censorship{tail}"].notna()]
        events = Endpoint.objects.filter(name=name, event=True).count()
        assert (Endpoint.objects.filter(name=name).count(), events) == (len(whole), int((whole[f"censorship{tail}"] == 0).sum()))


def test_rows_of_one_patient_that_disagree_are_named_and_nothing_goes_in(db, data, tmp_path):
    path = data / "clinical/tcga_brca_survpath/tcga_brca_clinical.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    differing = table.groupby("case_id")[["stage", "subtype", "grade"]].nunique().max(axis=1)
    report = run(path, tmp_path / "r.json")
    conflicts = [f for f in report["findings"] if f["code"] == "CONFLICTING_ROWS"]
    assert report["state"] == "rejected" and not Patient.objects.exists() and not Cohort.objects.get().variables.exists()
    named = {f["sentence"].split('"')[1] for f in conflicts}
    assert named and named <= set(differing[differing > 1].index)
    first = sorted(named)[0]
    rows = (table.index[table.case_id == first] + 2).tolist()
    assert any(f["where"].startswith(f"rows {', '.join(map(str, rows))}, column ") for f in conflicts if first in f["sentence"])


def test_tables_without_patients_or_survival_say_so(db, data, tmp_path):
    trial = run(data / "clinical/gbsg2/gbsg2.csv", tmp_path / "r.json")
    assert trial["state"] == "needs attention"
    assert {"NO_PATIENT_COLUMN", "TIME_UNIT_NEEDED", "EVENT_CODING_NEEDED"} <= set(codes(trial))
    workbook = run(data / "her2st/clinical_data/10_HER2+_info.xlsx", tmp_path / "r.json", "--patient-column", "Nr", "--dry-run")
    assert workbook["state"] == "ready" and workbook["counts"]["patients"] == 10 and "NO_SURVIVAL_COLUMNS" in codes(workbook)
    assert not Patient.objects.exists()


def test_files_that_are_no_tables_are_refused(db, data, tmp_path):
    for name in (
        "malformed/corrupt.png",
        "malformed/deep_folder.tar",
        "malformed/nuclear_medicine.dcm",
        "clinical/gse7390/breast_cancer_GSE7390-metastasis.arff",
    ):
        report = run(data / name, tmp_path / "r.json")
        assert report["state"] == "rejected" and any(f["severity"] == "error" for f in report["findings"]), name
    assert not Patient.objects.exists()
