"""import_slides and import_clinical: every file has its line, one bad file stops nothing, a dry run leaves nothing."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from slide_files import write_svs

from tissueboard.accounts.models import User
from tissueboard.cohorts.models import Cohort, Endpoint, Membership, Patient
from tissueboard.intake.models import Import
from tissueboard.slides.models import Slide


def run(*arguments) -> str:
    out = StringIO()
    call_command(*map(str, arguments), stdout=out)
    return out.getvalue()


def test_a_folder_gives_one_line_per_file_and_bad_files_stop_nothing(db, store_folder, tmp_path):
    folder = tmp_path / "scans"
    (folder / "deep" / "Jane").mkdir(parents=True)
    (folder / "a broken.svs").write_bytes(b"II*\0")
    (folder / "deep" / "Jane.mrxs").write_bytes(b"not a slide")
    (folder / "deep" / "Jane" / "Slidedat.ini").write_text("[HIERARCHICAL]\nINDEXFILE = Index.dat\n")
    write_svs(folder / "z.svs")
    out = run("import_slides", folder, "--cohort", "new", "--create-cohort", "--report", tmp_path / "r.json")
    report = {entry["file"]: entry for entry in json.loads((tmp_path / "r.json").read_text())}
    assert {name: entry["state"] for name, entry in report.items()} == {
        "a broken.svs": "rejected",
        "deep/Jane.mrxs": "needs attention",
        "deep/Jane/Slidedat.ini": "rejected",
        "z.svs": "ready",
    }
    assert report["deep/Jane/Slidedat.ini"]["findings"][0]["code"] == "COMPANION_FILE"
    assert set(report["z.svs"]["findings"][0]) == {"code", "severity", "file", "where", "sentence", "hint"}
    assert "1 ready, 1 needs attention, 2 rejected" in out and str(tmp_path) not in (tmp_path / "r.json").read_text()
    assert Import.objects.count() == 3 and Slide.objects.filter(state="ready").count() == 1


def test_an_unexpected_failure_of_one_file_is_its_finding(cohort, store_folder, tmp_path, monkeypatch):
    from tissueboard.intake.management.commands import import_slides

    real = import_slides.import_slide

    def fails_once(user, cohort, path, **options):
        if path.name == "a.svs":
            raise OSError("disk full")
        return real(user, cohort, path, **options)

    monkeypatch.setattr(import_slides, "import_slide", fails_once)
    for name in ("a.svs", "b.svs"):
        (tmp_path / name).write_bytes(b"")
    run("import_slides", tmp_path / "a.svs", tmp_path / "b.svs", tmp_path / "c.svs", "--cohort", "ours", "--report", tmp_path / "r.json")
    found = {entry["file"]: entry["findings"][0]["code"] for entry in json.loads((tmp_path / "r.json").read_text())}
    assert found == {"a.svs": "IMPORT_FAILED", "b.svs": "EMPTY_FILE", "c.svs": "FILE_MISSING"}


def test_a_dry_run_leaves_no_cohort_behind(db, store_folder, tmp_path):
    write_svs(tmp_path / "z.svs")
    assert "1 ready" in run("import_slides", tmp_path / "z.svs", "--cohort", "new", "--create-cohort", "--dry-run")
    assert not Cohort.objects.exists() and not Import.objects.exists() and not Slide.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cohort", "nowhere"),
        ("--cohort", "ours", "--user", "nobody"),
        ("--cohort", "ours", "--mpp", "-1"),
        ("--cohort", "ours", "--trust-mpp"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_read(cohort, tmp_path, arguments):
    with pytest.raises(CommandError):
        run("import_slides", tmp_path, *arguments)
    assert not Import.objects.exists()


def test_the_named_persons_own_role_counts(cohort, people, tmp_path, store_folder):
    (tmp_path / "a.svs").write_bytes(b"")
    run("import_slides", tmp_path / "a.svs", "--cohort", "ours", "--user", "viewer", "--report", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())[0]["findings"][0]["code"] == "ROLE_MISSING"
    assert not Import.objects.exists()


def test_a_new_cohort_gets_a_manager(db, tmp_path, store_folder):
    User.objects.create_user("manager")
    run("import_slides", tmp_path, "--cohort", "one", "--create-cohort")
    User.objects.create_superuser("root")
    run("import_slides", tmp_path, "--cohort", "two", "--create-cohort")
    run("import_slides", tmp_path, "--cohort", "three", "--create-cohort", "--user", "manager")
    owners = Membership.objects.values_list("cohort__name", "user__username", "role")
    assert set(owners) == {("one", "manager", "manager"), ("two", "root", "manager"), ("three", "manager", "manager")}


def test_a_clinical_table_by_command_line_and_by_mapping_file(cohort, write_csv, tmp_path):
    path = write_csv("t.csv", [["case", "months", "dead", "years"], ["P1", 5, 1, 60], ["P2", 7, 0, 50]])
    given = ("--patient-column", "case", "--endpoint", "OS=months:months:dead:event=1", "--variable", "age=years:number:years")
    out = run("import_clinical", path, "--cohort", "ours", *given, "--time-zero", "diagnosis", "--dry-run", "--report", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text())
    assert "ready, would be imported" in out and report["state"] == "ready" and report["counts"]["OS events"] == 1
    assert not Patient.objects.exists()
    (tmp_path / "m.json").write_text(json.dumps(report["mapping"]))
    assert "ready, imported" in run("import_clinical", path, "--cohort", "ours", "--mapping", tmp_path / "m.json")
    assert Patient.objects.get(code="P1").clinical == {"age": 60}
    assert set(Endpoint.objects.values_list("patient__code", "event", "time_zero")) == {
        ("P1", True, "diagnosis"),
        ("P2", False, "diagnosis"),
    }


def test_what_is_wrong_with_a_table_is_printed_with_its_place(cohort, write_csv):
    path = write_csv("t.csv", [["patient_id", "os_months", "os_status"], ["P1", -5, "DEAD"]])
    out = run("import_clinical", path, "--cohort", "ours")
    assert "NEGATIVE_TIME [row 2, column os_months]" in out and "rejected, nothing was imported" in out and not Patient.objects.exists()
    with pytest.raises(CommandError, match="BAD_MAPPING"):
        run("import_clinical", path, "--cohort", "ours", "--endpoint", "OS=os_months")
