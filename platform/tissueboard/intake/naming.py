"""Codes for patients, samples and slides. A file's name may identify a person, so it is never used as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

from ml.slides.findings import Finding
from tissueboard.cohorts.models import SUBJECTS_TCGA, Cohort, Patient

from .clinical.rows import MAX_ID, PERSON
from .errors import IntakeCode, IntakeRefused, info

TCGA_SAMPLE = re.compile(r"^TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}-(\d{2}[A-Z])", re.IGNORECASE)
UNSPECIFIED = "unspecified"


@dataclass(frozen=True)
class Codes:
    """patient, sample: codes. slide: "S-" and eight hexadecimal digits of the file's SHA-256. findings: what was replaced."""

    patient: str
    sample: str
    slide: str
    findings: tuple[Finding, ...] = ()


def codes_for(cohort: Cohort, file_name: str, sha256: str, patient_code: str | None = None, sample_code: str | None = None) -> Codes:
    """The codes under which a slide file is kept.

    The patient is, in this order: the code that was given; the first group of the cohort's `code_pattern` in the file's name (case ignored;
    TCGA codes in capitals); a patient of the cohort whose code is the file's stem; else the pseudonym P-<8 hexadecimal digits> with the
    finding IDENTIFIER_REPLACED. Errors: IntakeRefused CODE_REFUSED, PATTERN_BROKEN.
    """
    stem = PurePath(file_name).name.split(".")[0] if file_name.count(".") > 1 else PurePath(file_name).stem
    slide, findings = f"S-{sha256[:8]}", tuple[Finding, ...]()
    patient = _given(patient_code) or _by_pattern(cohort, file_name) or _known(cohort, PurePath(file_name).stem) or _known(cohort, stem)
    if not patient:
        patient = f"P-{sha256[:8]}"
        findings = (
            info(
                IntakeCode.IDENTIFIER_REPLACED,
                f"The file's name may identify the patient; she is kept as {patient}, the slide as {slide}.",
                "Give the patient's code on import, or set the cohort's pattern for codes in file names.",
                file=file_name,
            ),
        )
    match = TCGA_SAMPLE.match(PurePath(file_name).name)
    sample = _given(sample_code) or (match.group(1).upper() if match else UNSPECIFIED)
    return Codes(patient, sample, slide, findings)


def _given(code: str | None) -> str:
    if code is None or not code.strip():
        return ""
    code = code.strip()
    if len(code) > MAX_ID or PERSON.search(code):
        raise IntakeRefused(
            IntakeCode.CODE_REFUSED,
            "The code that was given looks like a person's name or is longer than 64 characters.",
            "Give a code that says nothing about the person.",
        )
    return code


def _by_pattern(cohort: Cohort, file_name: str) -> str:
    try:
        match = re.search(cohort.code_pattern, PurePath(file_name).name, re.IGNORECASE) if cohort.code_pattern else None
        found = match.group(1) if match else ""
    except (re.error, IndexError):
        raise IntakeRefused(
            IntakeCode.PATTERN_BROKEN,
            f"The cohort's pattern for codes {cohort.code_pattern!r} is not a regular expression with a group.",
            "Correct it in the cohort's settings, e.g. ^(STUDY-[0-9]{4}).",
        ) from None
    if not found or len(found) > MAX_ID:
        return ""
    return _known(cohort, found) or (found.upper() if cohort.code_pattern == SUBJECTS_TCGA else found)


def _known(cohort: Cohort, code: str) -> str:
    """The code of the cohort's patient that equals this one but for capitals, or "" if there is none."""
    return Patient.objects.filter(cohort=cohort, code__iexact=code).values_list("code", flat=True).first() or ""
