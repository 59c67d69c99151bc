"""A clinical table goes in whole or not at all; what is wrong is said with row and column; what changes leaves its history."""

import pytest

from tissueboard.accounts.models import AccessLog
from tissueboard.cohorts.models import ClinicalChange, ClinicalVariable, Cohort, Endpoint, Event, Patient, Sample
from tissueboard.errors import NotVisible, RoleMissing
from tissueboard.intake.clinical import import_clinical
from tissueboard.intake.errors import IntakeCode as C
from tissueboard.intake.errors import IntakeRefused

HEADER = ["patient_id", "age", "stage", "os_months", "os_status"]
GOOD = [["P1", 61, "II", 12, "DECEASED"], ["P2", 47, "III", 30.5, "LIVING"], ["P3", "", "II", 8, "LIVING"]]
TABLES = (Cohort, Patient, Sample, Endpoint, ClinicalVariable, ClinicalChange, Event, AccessLog)


def rows_in_database() -> dict[str, list]:
    return {t.__name__: list(t.objects.order_by("pk").values()) for t in TABLES}


@pytest.fixture
def bring(people, cohort, write_csv):
    """`bring(rows, **options)` imports a table as the contributor."""

    def run(rows, *, dry_run=False, user="contributor", header=HEADER, **options):
        return import_clinical(people[user], cohort, write_csv("table.csv", [header, *rows]), options, dry_run=dry_run)

    return run


def only(report, code):
    found = [f for f in report.findings if f.code == code]
    assert len(found) == 1, [(f.code, f.where) for f in report.findings]
    return found[0]


def test_values_and_outcomes_arrive_typed_and_in_days(bring, cohort):
    report = bring(GOOD)
    assert report.state == "ready"
    one = Patient.objects.get(cohort=cohort, code="P1")
    assert one.clinical == {"age": 61, "stage": "II"}
    os = one.endpoints.get(name="OS")
    assert (os.time_days, os.event, os.entry_days, os.source) == (12 * 30.4375, True, 0.0, "table.csv")
    assert Patient.objects.get(code="P3").clinical == {"stage": "II"}
    kinds = {v.name: (v.kind, v.unit, v.categories) for v in ClinicalVariable.objects.all()}
    assert kinds == {"age": ("number", "years", []), "stage": ("category", "", ["II", "III"])}
    assert report.counts["OS events"] == 1 and report.counts["OS patients"] == 3 and report.counts["patients_created"] == 3


def test_a_dry_run_says_the_same_and_changes_nothing(bring):
    before = rows_in_database()
    dry = bring(GOOD, dry_run=True)
    assert rows_in_database() == before
    real = bring(GOOD)
    assert (dry.state, dry.findings, dry.preview) == (real.state, real.findings, real.preview)
    assert dry.counts["patients_created"] == real.counts["patients_created"] == 3


def test_importing_twice_changes_nothing(bring):
    bring(GOOD)
    before = {t: rows_in_database()[t] for t in ("Patient", "Endpoint", "ClinicalVariable", "ClinicalChange")}
    report = bring(GOOD)
    assert {t: rows_in_database()[t] for t in before} == before
    assert report.counts["patients_created"] == 0 and report.counts["changes"] == 0


def test_a_changed_value_keeps_the_old_one_with_who_and_why(bring, people):
    bring(GOOD)
    report = bring([["P1", 62, "II", 14, "DECEASED"], ["P2", "", "III", 30.5, "LIVING"]])
    assert report.counts["changes"] == 2
    value = ClinicalChange.objects.get(variable="age")
    assert (value.old, value.new, value.changed_by, value.why) == (61, 62, people["contributor"], "import of table.csv")
    outcome = ClinicalChange.objects.get(variable="endpoint OS")
    assert outcome.old["time_days"] == 12 * 30.4375 and outcome.new["time_days"] == 14 * 30.4375
    assert Patient.objects.get(code="P2").clinical["age"] == 47, "an empty cell erases nothing"


@pytest.mark.parametrize(
    ("row", "code", "where"),
    [
        (["P4", "old", "II", 5, "LIVING"], C.WRONG_TYPE, "row 5, column age"),
        (["P4", 5, "II", "soon", "LIVING"], C.WRONG_TYPE, "row 5, column os_months"),
        (["P4", 5, "II", "12,5", "LIVING"], C.WRONG_TYPE, "row 5, column os_months"),
        (["P4", 5, "II", -1, "LIVING"], C.NEGATIVE_TIME, "row 5, column os_months"),
        (["P4", 5, "II", 4000, "LIVING"], C.TIME_IMPLAUSIBLE, "row 5, column os_months"),
        (["", 5, "II", 5, "LIVING"], C.PATIENT_MISSING, "row 5, column patient_id"),
        (["Müller, Anna", 5, "II", 5, "LIVING"], C.IDENTIFIER_SUSPECTED, "row 5, column patient_id"),
        (["anna@clinic.example", 5, "II", 5, "LIVING"], C.IDENTIFIER_SUSPECTED, "row 5, column patient_id"),
        (["P" * 65, 5, "II", 5, "LIVING"], C.CODE_TOO_LONG, "row 5, column patient_id"),
        (["P1", 99, "II", 12, "DECEASED"], C.CONFLICTING_ROWS, "rows 2, 5, column age"),
        (["P1", 61, "II", 13, "DECEASED"], C.CONFLICTING_ROWS, "rows 2, 5, column os_months"),
        (["P4", 5, "II", 5, "LIVING", "more"], C.ROW_TOO_LONG, "row 5, column F"),
    ],
)
def test_one_bad_cell_is_named_and_nothing_goes_in(bring, row, code, where):
    before = rows_in_database()
    report = bring([*GOOD, row])
    finding = only(report, code)
    assert report.state == "rejected" and finding.where == where and finding.severity == "error"
    assert finding.file == "table.csv" and finding.sentence.endswith(".") and finding.hint.endswith(".")
    assert rows_in_database() == before


def test_a_status_that_the_coding_does_not_know(bring):
    endpoint = {"name": "OS", "time": "os_months", "unit": "months", "event": "os_status", "coding": "words"}
    report = bring([*GOOD, ["P4", 5, "II", 5, "lost"]], endpoints=[endpoint])
    assert only(report, C.UNKNOWN_EVENT_VALUE).where == "row 5, column os_status"


def test_half_an_outcome_is_left_out_with_a_warning(bring):
    report = bring([*GOOD, ["P4", 5, "II", 5, ""], ["P5", 5, "II", "", "DECEASED"]])
    assert report.state == "ready" and {f.where for f in report.findings if f.code == C.ENDPOINT_INCOMPLETE} == {
        "row 5, column os_status",
        "row 6, column os_months",
    }
    assert not Endpoint.objects.filter(patient__code__in=["P4", "P5"]).exists()


def test_entry_after_the_end_is_refused_and_a_good_one_is_kept(bring):
    header = ["patient_id", "entry", "time", "status"]
    endpoint = {"name": "OS", "time": "time", "unit": "days", "event": "status", "coding": "event=1", "entry": "entry"}
    report = bring([["P1", 5, 20, 1], ["P2", 30, 20, 0]], header=header, endpoints=[endpoint], variables=[])
    assert only(report, C.ENTRY_AFTER_TIME).where == "row 3, column entry"
    assert bring([["P1", 5, 20, 1], ["P2", 10, 20, 0]], header=header, endpoints=[endpoint], variables=[]).state == "ready"
    assert Endpoint.objects.get(patient__code="P1").entry_days == 5.0


def test_numbers_as_status_wait_for_a_person_and_her_answer_decides(bring):
    numeric = [[*row[:4], int(row[4] == "DECEASED")] for row in GOOD]
    asked = bring(numeric)
    assert asked.state == "needs attention" and only(asked, C.EVENT_CODING_NEEDED) and not Patient.objects.exists()
    assert asked.preview["endpoints"]["OS"]["events_if"] == {"event=1": 1, "event=0": 2}
    endpoint = {"name": "OS", "time": "os_months", "unit": "months", "event": "os_status"}
    assert bring(numeric, endpoints=[endpoint | {"coding": "censored=1"}]).counts["OS events"] == 2
    assert Endpoint.objects.filter(event=True).count() == 2


def test_a_coding_that_names_no_value_and_one_that_lumps_values(bring):
    numeric = [["P1", 1, "I", 2, 0], ["P2", 1, "I", 2, 1], ["P3", 1, "I", 2, 2]]
    endpoint = {"name": "OS", "time": "os_months", "unit": "months", "event": "os_status"}
    assert bring(numeric, endpoints=[endpoint | {"coding": "event=7"}], dry_run=True).state == "needs attention"
    report = bring(numeric, endpoints=[endpoint | {"coding": "event=1"}], dry_run=True)
    assert report.state == "ready" and "2 (1x)" in only(report, C.EVENT_VALUES_MANY).sentence


def test_rows_are_slides_but_patients_are_counted_once(bring):
    header = ["case_id", "slide_id", "age", "survival_months", "censorship"]
    endpoint = {"name": "OS", "time": "survival_months", "unit": "months", "event": "censorship", "coding": "censored=1"}
    rows = [["P1", "a.svs", 60, 5, 0], ["P1", "b.svs", 60, 5, 0], ["P2", "c.svs", 50, 7, 1]]
    report = bring(rows, header=header, endpoints=[endpoint])
    assert (report.counts["rows"], report.counts["patients"], report.counts["OS events"]) == (3, 2, 1)
    assert only(report, C.ROWS_PER_PATIENT).severity == "info" and Endpoint.objects.count() == 2
    assert not [f for f in report.findings if f.code == C.DUPLICATE_ID]


def test_a_copied_row_is_a_warning_with_both_rows(bring):
    report = bring([*GOOD, GOOD[0]])
    assert report.state == "ready" and only(report, C.DUPLICATE_ID).where == "rows 2, 5, column patient_id"


def test_gdc_takes_the_death_of_the_dead_and_the_later_follow_up_of_the_living(bring):
    header = ["case_submitter_id", "vital_status", "days_to_death", "days_to_last_follow_up", "treatment_type"]
    rows = [
        ["P1", "Dead", 100, 90, "a"], ["P1", "Dead", 100, 90, "a"],
        ["P2", "Alive", "'--", 50, "a"], ["P2", "Alive", "'--", 80, "a"],
        ["P3", "Dead", "'--", 40, "b"],
    ]  # fmt: skip
    report = bring(rows, header=header)
    assert report.state == "ready", report.findings
    assert dict(Endpoint.objects.values_list("patient__code", "time_days")) == {"P1": 100.0, "P2": 80.0}
    assert (
        only(report, C.LATER_FOLLOW_UP)
        and only(report, C.ENDPOINT_INCOMPLETE).where == "row 6, column days_to_death|days_to_last_follow_up"
    )


def test_unknown_patients_are_created_or_refused_as_asked(bring, cohort):
    Patient.objects.create(cohort=cohort, code="P1")
    refused = bring(GOOD, create_patients=False)
    assert refused.state == "needs attention"
    assert [f.where for f in refused.findings if f.code == C.UNKNOWN_PATIENT] == ["row 3, column patient_id", "row 4, column patient_id"]
    assert bring(GOOD[:1], create_patients=False).state == "ready"
    created = bring(GOOD)
    told = only(created, C.UNKNOWN_PATIENT)
    assert created.counts["patients_created"] == 2 and told.severity == "warning" and told.where == "rows 3-4, column patient_id"
    assert only(bring([["p1", 1, "II", 1, "LIVING"]], dry_run=True), C.PATIENT_ALMOST_KNOWN).where == "row 2, column patient_id"


def test_rows_without_slide_and_slides_without_row_are_both_told(bring, cohort):
    from tissueboard.slides.models import Slide

    for code in ("P1", "P9"):
        sample = Sample.objects.create(patient=Patient.objects.create(cohort=cohort, code=code), code="s1")
        Slide.objects.create(sample=sample, name=f"S-{code}", state="checking", sealed_sha256=code * 32)
    report = bring(GOOD, dry_run=True)
    lacking = only(report, C.ROW_WITHOUT_SLIDE)
    assert "without a slide in the cohort: 2 (P2, P3)." in lacking.sentence and lacking.where == "rows 3-4, column patient_id"
    assert "not in the table: 1 (P9)." in only(report, C.SLIDE_WITHOUT_ROW).sentence


def test_the_dictionary_of_the_cohort_decides_what_a_category_may_be(bring):
    bring(GOOD)
    report = bring([["P1", 61, "IV", 12, "DECEASED"]])
    finding = only(report, C.UNKNOWN_CATEGORY)
    assert finding.where == "row 2, column stage" and "II, III" in finding.hint and report.state == "rejected"
    conflict = bring(GOOD, variables=[{"column": "stage", "name": "stage", "kind": "number"}])
    assert only(conflict, C.VARIABLE_CONFLICT).where == "column stage"


def test_identifying_columns_are_not_read(bring):
    report = bring([["P1", "Ann", 5]], header=["patient_id", "surname", "age"])
    assert report.state == "ready" and Patient.objects.get(code="P1").clinical == {"age": 5}
    named = bring([["P1", "Ann"]], header=["patient_id", "surname"], variables=[{"column": "surname", "name": "surname"}])
    assert only(named, C.IDENTIFIER_COLUMN).severity == "error"


def test_columns_that_are_not_there_or_double(bring):
    report = bring(GOOD, patient="who", variables=[{"column": "weight", "name": "weight"}])
    assert report.state == "needs attention" and [f.code for f in report.findings if f.severity == "error"] == [C.COLUMN_UNKNOWN] * 2
    double = bring([["P1", 1, 2]], header=["patient_id", "age", "age"], variables=[{"column": "age", "name": "age"}])
    assert double.state == "rejected" and any(f.code == C.DUPLICATE_COLUMN and f.severity == "error" for f in double.findings)


def test_no_survival_columns_is_said_but_values_go_in(bring):
    report = bring([["P1", 5]], header=["patient_id", "age"])
    assert report.state == "ready" and only(report, C.NO_SURVIVAL_COLUMNS).severity == "warning"


def test_many_findings_of_one_kind_are_summed_up(bring):
    report = bring([[f"P{i}", 50, "II", -1, "LIVING"] for i in range(100)])
    found = [f for f in report.findings if f.code == C.NEGATIVE_TIME]
    assert len(found) == 21 and found[-1].where == "rows 22-101, column os_months" and found[-1].sentence.startswith("80 more")


def test_a_failing_write_leaves_nothing_behind(bring, monkeypatch):
    from tissueboard.intake.clinical import write

    def fails(*_):
        raise OSError("disk full")

    before = rows_in_database()
    monkeypatch.setattr(write, "_write_samples", fails)
    with pytest.raises(OSError, match="disk full"):
        bring(GOOD)
    assert rows_in_database() == before


def test_samples_of_a_sample_table_are_made(bring):
    report = bring([["P1", "P1-01", 5], ["P1", "P1-02", 5]], header=["PATIENT_ID", "SAMPLE_ID", "AGE"])
    assert report.state == "ready" and list(Sample.objects.values_list("code", flat=True)) == ["P1-01", "P1-02"]
    long = bring([["P1", "x" * 65, 5]], header=["PATIENT_ID", "SAMPLE_ID", "AGE"])
    assert long.state == "rejected" and only(long, C.CODE_TOO_LONG).where == "row 2, column SAMPLE_ID"


def test_who_may(bring, people, cohort, write_csv):
    with pytest.raises(RoleMissing, match="contributor"):
        bring(GOOD, user="viewer", dry_run=True)
    with pytest.raises(NotVisible):
        bring(GOOD, user="outsider", dry_run=True)
    with pytest.raises(IntakeRefused):
        bring(GOOD, nonsense=1)
    assert not Patient.objects.exists()


EVENTS = ["patient", "kind", "name", "state", "value", "unit", "day", "end_day", "method"]
DONE = [
    ["P1", "treatment", "pembrolizumab", "done", "", "", 10, 200, ""],
    ["P1", "biomarker", "PD-L1", "done", "60", "% TPS", 0, "", "IHC 22C3"],
    ["P1", "mutation", "EGFR", "pending", "", "", "", "", "NGS panel"],
]


def test_events_come_in_once_and_later_states_leave_history(bring, cohort):
    Patient.objects.create(cohort=cohort, code="P1")
    assert bring(DONE, header=EVENTS).counts["events_created"] == 3
    pdl1 = Event.objects.get(name="PD-L1")
    assert (pdl1.value, pdl1.unit, pdl1.day, pdl1.state, pdl1.method) == ("60", "% TPS", 0.0, "done", "IHC 22C3")
    assert Event.objects.get(name="pembrolizumab").end_day == 200.0
    again = bring([*DONE[:2], ["P1", "mutation", "EGFR", "done", "L858R", "", "", "", "NGS panel"]], header=EVENTS)
    assert again.counts["events_created"] == 0 and Event.objects.count() == 3
    change = ClinicalChange.objects.get()
    assert change.variable == "mutation EGFR" and change.old["state"] == "pending" and change.new["value"] == "L858R"


@pytest.mark.parametrize(
    ("place", "value", "code", "column"),
    [
        (0, "P9", C.UNKNOWN_PATIENT, "patient"),
        (0, "", C.PATIENT_MISSING, "patient"),
        (1, "party", C.UNKNOWN_EVENT_KIND, "kind"),
        (2, "", C.EVENT_NAME_MISSING, "name"),
        (3, "maybe", C.UNKNOWN_CATEGORY, "state"),
        (6, "monday", C.WRONG_TYPE, "day"),
        (7, "5", C.ENTRY_AFTER_TIME, "end_day"),
        (8, "x" * 81, C.WRONG_TYPE, "method"),
    ],
)
def test_events_with_one_bad_cell_do_not_go_in(bring, cohort, place, value, code, column):
    Patient.objects.create(cohort=cohort, code="P1")
    bad = [DONE[1], [*DONE[0][:place], value, *DONE[0][place + 1 :]]]
    report = bring(bad, header=EVENTS)
    assert only(report, code).where == f"row 3, column {column}" and report.state != "ready" and not Event.objects.exists()
