"""A file's name may identify a person: which code stands for her, and what becomes of names that are no codes."""

import pytest

from tissueboard.cohorts.models import Patient
from tissueboard.intake.errors import IntakeCode as C
from tissueboard.intake.errors import IntakeRefused
from tissueboard.intake.naming import codes_for

SHA = "0123456789abcdef" * 4


def test_a_tcga_barcode_is_the_patients_code_in_any_case(cohort):
    codes = codes_for(cohort, "tcga-cr-7395-01a-01-ts1.svs", SHA)
    assert (codes.patient, codes.sample, codes.slide, codes.findings) == ("TCGA-CR-7395", "01A", "S-01234567", ())


def test_the_cohorts_own_pattern(cohort):
    cohort.code_pattern = r"(STUDY-\d{4})"
    assert codes_for(cohort, "scan of STUDY-0042 (2).ndpi", SHA).patient == "STUDY-0042"
    assert codes_for(cohort, "TCGA-CR-7395.svs", SHA).patient == "P-01234567"


def test_a_known_patients_code_as_the_files_name(cohort):
    Patient.objects.create(cohort=cohort, code="case 7b")
    assert codes_for(cohort, "Case 7B.svs", SHA).patient == "case 7b"
    assert codes_for(cohort, "case 7b.ome.tif", SHA).patient == "case 7b"


def test_any_other_name_becomes_a_pseudonym_and_says_so(cohort):
    codes = codes_for(cohort, "Rosenthal_Jane.svs", SHA)
    assert (codes.patient, codes.sample) == ("P-01234567", "unspecified")
    (finding,) = codes.findings
    assert finding.code == C.IDENTIFIER_REPLACED and finding.severity == "info" and "Rosenthal" not in finding.sentence


def test_given_codes_win_and_names_are_refused(cohort):
    codes = codes_for(cohort, "TCGA-CR-7395.svs", SHA, " X-1 ", "T2")
    assert (codes.patient, codes.sample) == ("X-1", "T2")
    for given in ("Jane Rosenthal", "jane@clinic.example", "x" * 65):
        with pytest.raises(IntakeRefused) as refusal:
            codes_for(cohort, "a.svs", SHA, given)
        assert refusal.value.code == C.CODE_REFUSED and given not in refusal.value.sentence


@pytest.mark.parametrize("pattern", ["(", "no group"])
def test_a_broken_pattern_is_named(cohort, pattern):
    cohort.code_pattern = pattern
    with pytest.raises(IntakeRefused) as refusal:
        codes_for(cohort, "has no group.svs", SHA)
    assert refusal.value.code == C.PATTERN_BROKEN
