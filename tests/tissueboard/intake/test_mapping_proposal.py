"""A mapping is proposed from names; what an event value means is asked, with a preview, unless words say it."""

import pytest

from tissueboard.intake.clinical import EndpointMapping, Mapping, VariableMapping, propose_mapping, read_table
from tissueboard.intake.clinical.coding import Coding, meaning
from tissueboard.intake.errors import IntakeCode as C
from tissueboard.intake.errors import IntakeRefused

SPELLINGS = {
    "cbioportal": (["PATIENT_ID", "OS_MONTHS", "OS_STATUS"], ["P1", "5", "1:DECEASED"], ["P2", "7", "0:LIVING"], "OS", "months", "words"),
    "mcat": (["case_id", "survival_months", "censorship"], ["P1", "5", "1"], ["P2", "7", "0"], "OS", "months", ""),
    "survpath": (["case_id", "survival_months_dss", "censorship_dss"], ["P1", "5", "1"], ["P2", "7", "0"], "DSS", "months", ""),
    "textbook": (["id", "time", "event"], ["P1", "5", "1"], ["P2", "7", "0"], "OS", "", ""),
    "gdc": (
        ["case_submitter_id", "vital_status", "days_to_death", "days_to_last_follow_up"],
        ["P1", "Dead", "5", "'--"],
        ["P2", "Alive", "'--", "7"],
        "OS", "days", "words",
    ),
    "gdc with prefixes": (
        ["cases.submitter_id", "demographic.vital_status", "demographic.days_to_death", "diagnoses.days_to_last_follow_up"],
        ["P1", "Dead", "5", "'--"],
        ["P2", "Alive", "'--", "7"],
        "OS", "days", "words",
    ),
    "tcga-cdr": (["bcr_patient_barcode", "PFI", "PFI.time"], ["P1", "1", "5"], ["P2", "0", "7"], "PFI", "days", ""),
    "plain words": (["patient", "os_time", "os_status"], ["P1", "5", "dead"], ["P2", "7", "alive"], "OS", "", "words"),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_survival_columns_are_found_in_the_usual_spellings(write_csv, spelling):
    header, one, two, name, unit, coding = SPELLINGS[spelling]
    proposal = propose_mapping(read_table(write_csv("t.csv", [header, one, two])))
    assert proposal.mapping.patient == header[0]
    assert [(e.name, e.unit, e.coding) for e in proposal.mapping.endpoints] == [(name, unit, coding)]
    asked = {f.code for f in proposal.questions}
    assert (C.EVENT_CODING_NEEDED in asked) == (coding == "") and (C.TIME_UNIT_NEEDED in asked) == (unit == "")


def test_numbers_are_never_read_as_events_by_themselves_but_previewed(write_csv):
    rows = [["id", "time", "status"], *[[f"P{i}", i, int(i < 3)] for i in range(10)]]
    proposal = propose_mapping(read_table(write_csv("t.csv", rows)))
    assert proposal.previews["OS"] == {"values": {"1": 3, "0": 7}, "events_if": {"event=1": 3, "event=0": 7}}
    question = next(f for f in proposal.questions if f.code == C.EVENT_CODING_NEEDED)
    assert "3 events if event=1" in question.sentence and question.where == "column status"


def test_words_with_one_unclear_value_are_asked(write_csv):
    rows = [["id", "os_months", "os_status"], ["P1", 1, "DECEASED"], ["P2", 2, "LIVING"], ["P3", 3, "lost"]]
    assert propose_mapping(read_table(write_csv("t.csv", rows))).mapping.endpoints[0].coding == ""


@pytest.mark.parametrize(
    ("cell", "happened"),
    [
        ("1:DECEASED", True), ("0:LIVING", False), ("0:DiseaseFree", False), ("1:Recurred/Progressed", True), ("Dead", True),
        ("1", None), ("0:DECEASED", None), ("1:LIVING", None), ("lost", None),
    ],
)  # fmt: skip
def test_what_words_mean(cell, happened):
    assert meaning(cell) is happened


def test_codings():
    assert [Coding.parse("event=1").read(c) for c in ("1", "1.0", "0", "2", "", "NA")] == [True, True, False, False, None, None]
    assert [Coding.parse("censored=1").read(c) for c in ("1", "0")] == [False, True]
    assert Coding.parse("event=Relapse|2").read("relapse") is True
    for text in ("", "1", "event", "event=", "dead=1"):
        with pytest.raises(IntakeRefused) as refusal:
            Coding.parse(text)
        assert refusal.value.code == C.BAD_MAPPING


def test_variables_get_a_kind_from_their_values(write_csv):
    rows = [["patient_id", "age", "stage", "er", "sampled", "note", "first_name", "index"]]
    rows += [
        [f"P{i}", 40 + i, "I" if i % 2 else "II", "yes" if i % 3 else "no", f"2024-01-{i + 1:02d}", f"free text {i}", "Ann", i]
        for i in range(20)
    ]
    rows[5][1] = "sixty"
    proposal = propose_mapping(read_table(write_csv("t.csv", rows)))
    kinds = {v.name: str(v.kind) for v in proposal.mapping.variables}
    assert kinds == {"age": "number", "stage": "category", "er": "boolean", "sampled": "date", "note": "text"}
    assert next(v for v in proposal.mapping.variables if v.name == "stage").categories == ("I", "II")
    assert any(f.code == C.IDENTIFIER_COLUMN and "first_name" in f.sentence for f in proposal.questions)


def test_of_a_wide_table_only_clinical_names_are_proposed(write_csv):
    genes = [f"GENE{i}_rnaseq" for i in range(100)]
    table = read_table(write_csv("t.csv", [["case_id", "age", *genes], ["P1", 50, *([0.5] * 100)], ["P2", 60, *([0.1] * 100)]]))
    proposal = propose_mapping(table)
    assert [v.name for v in proposal.mapping.variables] == ["age"]
    assert any(f.code == C.COLUMNS_NOT_READ and f.sentence.startswith("100 of 102") for f in proposal.questions)


def test_a_mapping_survives_the_way_to_json_and_back(write_csv):
    header, one, two, *_ = SPELLINGS["gdc"]
    mapping = propose_mapping(read_table(write_csv("t.csv", [header, one, two]))).mapping
    sent = {k: v for k, v in mapping.to_dict().items() if k != "ignored"}
    assert Mapping.from_dict(sent).endpoints == mapping.endpoints


@pytest.mark.parametrize(
    "options",
    [
        {"pateint": "id"},
        {"patient": 5},
        {"decimal": "x"},
        {"create_patients": "yes"},
        {"endpoints": "OS"},
        {"endpoints": [{"name": "OS"}]},
        {"endpoints": [{"name": "OS", "time": "t", "event": "e", "unit": "moons"}]},
        {"endpoints": [{"name": "OS", "time": "t", "event": "e", "coding": "1"}]},
        {"endpoints": [{"name": "OS", "time": "t", "event": "e"}, {"name": "OS", "time": "u", "event": "e"}]},
        {"endpoints": [{"name": "OS", "time": "t", "event": "e", "when": "now"}]},
        {"endpoints": [{"name": "OS", "time": ["t"], "event": {"e": 1}}]},
        {"variables": [{"column": "age"}]},
        {"variables": [{"column": "age", "name": "age", "kind": "integer"}]},
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused_with_a_sentence(options):
    with pytest.raises(IntakeRefused) as refusal:
        Mapping.from_dict(options)
    assert refusal.value.code == C.BAD_MAPPING and refusal.value.sentence.endswith(".")


def test_command_line_spellings():
    assert EndpointMapping.parse("OS=t:months:s:censored=1") == EndpointMapping("OS", "t", "months", "s", "censored=1")
    assert EndpointMapping.parse("PFS=t|u:days:s").time_columns == ("t", "u")
    assert EndpointMapping.parse("OS=t:days:s:event=1:entry").entry == "entry"
    assert VariableMapping.parse("age=age at diagnosis:number:years") == VariableMapping("age at diagnosis", "age", "number", "years")
    assert VariableMapping.parse("stage") == VariableMapping("stage", "stage")
    with pytest.raises(IntakeRefused):
        EndpointMapping.parse("OS:t")
