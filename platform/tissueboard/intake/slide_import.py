"""How a slide file becomes a slide: checked in a child process, sealed as it came, and made anew without identifiers.

A rejected file leaves its findings only; its bytes are not kept. One that needs attention is sealed and waits for a person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.db import transaction

from ml.slides.dicom_series import left_out_findings
from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort, Patient, Sample
from tissueboard.slides.models import Slide

from .archives import one_slide
from .disk import as_finding, full_disk_refused, refusal
from .errors import IntakeCode, IntakeRefused, error, info, refuse_mixing
from .import_rows import closed, of_another_patient, opened
from .models import Import
from .naming import Codes, codes_for
from .ready import make_files
from .sealing import alone, checksum, main_file, seal

READY, ATTENTION, REJECTED = map(str, (Slide.State.READY, Slide.State.NEEDS_ATTENTION, Slide.State.REJECTED))
KEPT_FACTS = (
    *("bytes", "kind", "header_mpp", "levels", "tissue_share", "pen_share", "frame_share", "objective_power", "associated_images"),
)
Tick = Callable[[], None]


@dataclass(frozen=True)
class SlideImportResult:
    """file: name as given. state: ready, needs attention or rejected. slide: None if rejected or dry. import_: None in a dry run."""

    file: str
    state: str
    findings: list[Finding]
    slide: Slide | None = None
    import_: Import | None = None

    def to_dict(self) -> dict[str, Any]:
        """The line of the report: file, state, findings [{code, severity, file, where, sentence, hint}]."""
        return {"file": self.file, "state": self.state, "findings": [finding.to_dict() for finding in self.findings]}


@dataclass(frozen=True)
class Request:
    """What a person says about a slide file; see `import_slide`."""

    patient_code: str | None = None
    sample_code: str | None = None
    mpp: float | None = None
    trust_mpp: bool = False
    stain: str = "H&E"
    scanner: str = ""
    site: str = ""
    stain_batch: str = ""
    simulated: bool = False


def import_slide(
    user: Any,
    cohort: Cohort,
    path: str | Path,
    *,
    file_name: str | None = None,
    patient_code: str | None = None,
    sample_code: str | None = None,
    mpp: float | None = None,
    trust_mpp: bool = False,
    stain: str = "H&E",
    scanner: str = "",
    site: str = "",
    stain_batch: str = "",
    simulated: bool = False,
    dry_run: bool = False,
    import_: Import | None = None,
    tick: Tick | None = None,
) -> SlideImportResult:
    """Brings one slide into a cohort, or says why not. Needs the role contributor (user None: the house itself).

    path: its file; of a slide of several files the main one with the others beside it, or a ZIP or TAR of them all.

    mpp: um per px0 where the file does not state it. Where the file states another plausible value (more than 10% off) the slide needs
    attention (MPP_DISAGREES) unless `trust_mpp`, because a value given for a whole folder must not overwrite a right one.
    dry_run: the check only, nothing is written. import_: the row of a received upload.
    tick: called about once a second during long work; what it raises ends the work. What the file holds never raises.
    Errors: NotVisible, RoleMissing, IntakeRefused (CODE_REFUSED, PATTERN_BROKEN, FILE_CHANGED, COHORT_IS_SIMULATED).
    """
    if user is not None:
        require(user, cohort, Role.CONTRIBUTOR)
    refuse_mixing(cohort, simulated)
    path = Path(path)
    name = file_name or path.name
    request = Request(patient_code, sample_code, mpp, trust_mpp, stain, scanner, site, stain_batch, simulated)
    with full_disk_refused(), one_slide(path) as inside:
        return _import_one(user, cohort, inside, name, request, dry_run, import_, tick)


def _import_one(
    user: Any, cohort: Cohort, path: Path, name: str, request: Request, dry_run: bool, import_: Import | None, tick: Tick | None
) -> SlideImportResult:
    """`import_slide` of a file that is there, or of the slide that its archive holds; name: as the person named it."""
    if not path.is_file() or path.stat().st_size == 0:
        return _close(user, cohort, import_, _check(path, name, request), dry_run, name)
    sha256 = checksum(path)
    known = Slide.objects.filter(sample__patient__cohort=cohort, sealed_sha256=sha256).select_related("sample__patient").first()
    if known is not None and (wrong := of_another_patient(known, "slide", name, request.patient_code)):
        return _close(user, cohort, import_, SlideImportResult(name, REJECTED, [wrong], known), dry_run, name, sha256)
    if known is not None and known.state == READY:
        return _close(user, cohort, import_, _again(known, name), dry_run, name, sha256)
    result = _check(path, name, request)
    codes = codes_for(cohort, name, sha256, request.patient_code, request.sample_code) if known is None else None
    if codes is not None and result.state != REJECTED:
        result = replace(result, findings=[*result.findings, *codes.findings])
    if dry_run or result.state == REJECTED:
        return _close(user, cohort, import_, result, dry_run, name, sha256)
    if known is not None and known.state == ATTENTION:
        result = replace(result, findings=[_duplicate(known, name), *result.findings])
    import_ = opened(user, cohort, import_, Import.Kind.SLIDE, name, path, sha256)
    try:
        with full_disk_refused():
            sealed_key = known.sealed_key if known else seal(path, sha256)
    except IntakeRefused as refused:
        said = error(refused.code, refused.sentence, refused.hint, file=name).to_dict()
        Import.objects.filter(pk=import_.pk).update(state=ATTENTION, findings=[said])
        raise
    slide = known or _new_slide(cohort, codes, request, sha256, sealed_key)
    finished = _close(user, cohort, import_, _finish(user, slide, result, request, import_, tick), False, name, sha256)
    if FindingCode.DISK_FULL in {f.code for f in finished.findings}:
        raise refusal()  # the slide waits with this finding; an upload keeps its bytes
    return finished


def override_mpp(user: Any, slide: Slide, mpp: float, tick: Tick | None = None) -> SlideImportResult:
    """Says how many um a px0 of a waiting slide is, checks the sealed original again and finishes the import. Needs contributor.

    The person has looked at this slide, so her value wins over the file's (a warning says so).
    Errors: NotVisible, RoleMissing, IntakeRefused IMPORT_STATE if the slide does not wait for a person.
    """
    cohort = slide.sample.patient.cohort
    if user is not None:
        require(user, cohort, Role.CONTRIBUTOR)
    may_override(slide)
    request = Request(mpp=mpp, trust_mpp=True)
    result = _check(main_file(slide.sealed_key), slide.name, request)
    import_ = Import.objects.filter(cohort=cohort, kind=Import.Kind.SLIDE, sha256=slide.sealed_sha256).first()
    if result.state == REJECTED:
        result = replace(result, state=ATTENTION)  # the bytes were taken in before: they are not lost now
    finished = _finish(user, slide, result, request, import_, tick)
    return _close(user, cohort, import_, finished, False, finished.file) if import_ else finished


def may_override(slide: Slide) -> None:
    """IntakeRefused IMPORT_STATE (409) unless the slide waits for a person: predictions of a finished slide stand on its um per pixel."""
    if slide.state != ATTENTION:
        raise IntakeRefused(
            IntakeCode.IMPORT_STATE,
            f"The slide {slide.name} is {slide.state}; its um per pixel can be given only while it needs attention.",
            "If the value of a finished slide is wrong, import the file into a new cohort with the right one.",
            status=409,
        )


@dataclass(frozen=True)
class _Checked(SlideImportResult):
    facts: dict[str, Any] | None = None


def _check(path: Path, name: str, request: Request) -> _Checked:
    """The verdict of the isolated check under the file's own name, with our rule for a stated mpp that the file contradicts."""
    if not path.is_file() or path.stat().st_size == 0:
        from ml.slides.check import check_slide  # nothing to parse, so nothing to isolate

        report = check_slide(path, request.mpp)
    else:
        from ml.slides.isolate import check_slide_isolated

        with alone(path) as place:
            report = check_slide_isolated(place, request.mpp)
    left_out = left_out_findings(path) if report.facts.get("kind") == "dicom" else []
    findings = [replace(f, file=name) for f in [*report.findings, *left_out]]
    state = report.state
    if not request.trust_mpp and FindingCode.MPP_CONFLICT in report.codes:
        findings = [_disagrees(f, report.facts, request.mpp) if f.code == FindingCode.MPP_CONFLICT else f for f in findings]
        state = ATTENTION if state == READY else state
    return _Checked(name, state, findings, facts=report.facts)


def _disagrees(finding: Finding, facts: dict[str, Any], mpp: float | None) -> Finding:
    return error(
        IntakeCode.MPP_DISAGREES,
        f"The file states {facts['header_mpp']:.4g} um per pixel, but {mpp:.4g} was given.",
        "Look at the slide and say which is right: import it without a value, or confirm yours for this slide.",
        file=finding.file,
    )


def _again(known: Slide, name: str) -> SlideImportResult:
    """The answer to a file that the cohort has already."""
    earlier = [replace(Finding(**f), file=name) for f in known.findings if f["code"] != IntakeCode.DUPLICATE_SLIDE]
    return SlideImportResult(name, known.state, [_duplicate(known, name), *earlier], known)


def _duplicate(known: Slide, name: str) -> Finding:
    return info(
        IntakeCode.DUPLICATE_SLIDE,
        f"The cohort has this file already, as the slide {known.name} of patient {known.sample.patient.code}.",
        "A finished slide is not made again; one that needs attention is checked again.",
        file=name,
    )


def _new_slide(cohort: Cohort, codes: Codes | None, request: Request, sha256: str, sealed_key: str) -> Slide:
    assert codes is not None
    with transaction.atomic():
        patient, _ = Patient.objects.get_or_create(cohort=cohort, code=codes.patient)
        sample, _ = Sample.objects.get_or_create(patient=patient, code=codes.sample)
        slide, _ = Slide.objects.get_or_create(
            sample=sample,
            sealed_sha256=sha256,
            defaults={
                "name": codes.slide,
                "sealed_key": sealed_key,
                "stain": request.stain,
                "scanner": request.scanner,
                "site": request.site,
                "stain_batch": request.stain_batch,
                "simulated": request.simulated,
            },
        )
    return slide


def _finish(user: Any, slide: Slide, result: _Checked, request: Request, import_: Import | None, tick: Tick | None) -> SlideImportResult:
    """From a sealed and checked slide to a ready one, or to one that waits with its findings."""
    facts = result.facts or {}
    slide.vendor = str(facts.get("vendor") or "")[:40]
    slide.scanner = slide.scanner or scanner_of(facts)
    slide.facts = {key: facts[key] for key in KEPT_FACTS if facts.get(key) is not None}
    findings, state = list(result.findings), result.state
    if state == READY:
        try:
            findings += [replace(f, file=result.file) for f in _make_ready(user, slide, facts, request, import_, tick)]
        except SlideError as reason:
            findings.append(reason.finding(result.file))
            state = ATTENTION
    slide.findings = [anonymous(f, result.file, slide.name).to_dict() for f in findings]
    slide.state = state
    with transaction.atomic():
        slide.save()
        record(user, "import slide", slide, cohort_id=slide.sample.patient.cohort_id, patient_code=slide.sample.patient.code)
    return SlideImportResult(result.file, state, findings, slide, import_)


def _make_ready(
    user: Any, slide: Slide, facts: dict[str, Any], request: Request, import_: Import | None, tick: Tick | None
) -> list[Finding]:
    """The slide's files and what a ready slide must have; warnings about its quality. SlideError if that fails."""
    _advance(slide, import_, Slide.State.REMOVING_IDENTIFIERS)
    try:
        findings = make_files(slide, request.mpp, tick, lambda: _advance(slide, import_, Slide.State.BUILDING_TILES))
    except OSError as reason:
        raise as_finding(reason) from reason
    slide.mpp_source = "override" if facts.get("mpp_source") == "override" else "file"
    slide.tissue_mm2 = facts.get("tissue_mm2")
    if slide.mpp_source == "override" and user is not None:
        slide.facts["mpp_given_by"] = user.get_username()
    return findings


def _advance(slide: Slide, import_: Import | None, state: str) -> None:
    """Both rows say how far the work is while it goes on."""
    Slide.objects.filter(pk=slide.pk).update(state=state)
    if import_ is not None:
        Import.objects.filter(pk=import_.pk).update(state=state)


def _close(
    user: Any, cohort: Cohort, import_: Import | None, result: SlideImportResult, dry_run: bool, name: str, sha256: str = ""
) -> SlideImportResult:
    """The result with its Import row (a dry run has a row only if the file was uploaded)."""
    made = {"slide": result.slide.pk} if result.slide is not None else {}
    row = closed(user, cohort, import_, Import.Kind.SLIDE, name, result.state, result.findings, made, dry_run, sha256)
    return SlideImportResult(result.file, result.state, result.findings, None if dry_run else result.slide, row)


def scanner_of(facts: dict[str, Any]) -> str:
    """Which scanner it was, without its words: the vendor and six digits of a checksum of what the header says ("aperio 3f9a2c").

    The header's field is free text (some sites write the patient's number into it); a checksum still tells two scanners apart.
    """
    text = str(facts.get("scanner") or "").strip()
    return f"{str(facts.get('vendor') or 'scanner')[:40]} {hashlib.sha256(text.encode()).hexdigest()[:6]}" if text else ""


def anonymous(finding: Finding, file_name: str, slide_name: str) -> Finding:
    """A finding for the slide's own record, which viewers read: without the file's name."""
    stem = Path(file_name).stem

    def clean(text: str) -> str:
        text = text.replace(file_name, slide_name)
        return text.replace(stem, slide_name) if len(stem) >= 4 else text

    return Finding(
        str(finding.code), Severity(finding.severity).value, slide_name, clean(finding.where), clean(finding.sentence), clean(finding.hint)
    )
