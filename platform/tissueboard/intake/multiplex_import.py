"""How a file of measured channels becomes a multiplex image: checked in a child process, sealed, and made an OME-Zarr pyramid once.

As with slides, a rejected file leaves its findings only; one that lacks channel names or the um per pixel is sealed and waits for a person.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from django.db import transaction

from ml.slides.findings import Finding, FindingCode, SlideError
from tissueboard.accounts.audit import record
from tissueboard.assays.errors import AssayCode, AssayRefused
from tissueboard.assays.models import MultiplexImage
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort, Patient, Sample
from tissueboard.store import store

from .disk import as_finding, full_disk_refused
from .errors import IntakeCode, error, info, refuse_mixing
from .import_rows import closed, of_another_patient, opened
from .models import Import
from .multiplex_folder import one_file
from .naming import Codes, codes_for
from .sealing import checksum, seal
from .slide_import import anonymous

READY, ATTENTION, REJECTED = map(str, (MultiplexImage.State.READY, MultiplexImage.State.NEEDS_ATTENTION, MultiplexImage.State.REJECTED))
KEPT_FACTS = ("bytes", "kind", "format", "n_channels", "names_source", "header_mpp", "signal", "signal_estimated")
# Codes of findings that say what the pixels are like; those of the check give way to those of the whole image.
FROM_PIXELS = {FindingCode.CHANNEL_EMPTY, FindingCode.CHANNEL_SATURATED, FindingCode.CHANNEL_NOT_FINITE}
TECHNOLOGY_OF = {"QPTIFF": MultiplexImage.Technology.VECTRA}
Tick = Callable[[], None]


@dataclass(frozen=True)
class MultiplexImportResult:
    """file: name as given. state: ready, needs attention or rejected. image: None if rejected or dry. import_: None in a dry run."""

    file: str
    state: str
    findings: list[Finding]
    image: MultiplexImage | None = None
    import_: Import | None = None
    facts: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The line of the report: file, state, findings [{code, severity, file, where, sentence, hint}]."""
        return {"file": self.file, "state": self.state, "findings": [finding.to_dict() for finding in self.findings]}


@dataclass(frozen=True)
class Given:
    """What a person says about an image; None where the file is to say it. trust_mpp: hers wins over the file's.
    panel: (name, whether it is kept) per row."""

    channels: list[str] | None = None
    mpp: float | None = None
    trust_mpp: bool = False
    panel: list[tuple[str, bool]] | None = None


def import_multiplex(
    user: Any,
    cohort: Cohort,
    path: str | Path,
    *,
    file_name: str | None = None,
    patient_code: str | None = None,
    sample_code: str | None = None,
    channels: Sequence[str] | None = None,
    mpp: float | None = None,
    trust_mpp: bool = False,
    technology: str = "",
    simulated: bool = False,
    dry_run: bool = False,
    import_: Import | None = None,
    tick: Tick | None = None,
    panel: Sequence[tuple[str, bool]] | None = None,
) -> MultiplexImportResult:
    """Brings one multi-channel image into a cohort, or says why not. Needs the role contributor (user None: the house itself).

    path: a TIFF, an OME-Zarr, or a zip or folder of one, of one TIFF per marker, or of a stack and its panel (folders are sealed as a zip).
    channels: names in the order of the planes, panel: the rows of a panel instead, mpp: um per pixel, where the file does not state them; a
    stated mpp that the file contradicts by more than 10% needs attention (MPP_DISAGREES) unless trust_mpp. technology: of
    MultiplexImage.Technology, "" to take it from the format where that tells. dry_run: the check only.
    import_, tick: as for slides. What the file holds never raises.
    Errors: NotVisible, RoleMissing, AssayRefused BAD_TECHNOLOGY, IntakeRefused (CODE_REFUSED, PATTERN_BROKEN, FILE_CHANGED,
    COHORT_IS_SIMULATED, DISK_FULL with 507).
    """
    if user is not None:
        require(user, cohort, Role.CONTRIBUTOR)
    refuse_mixing(cohort, simulated)
    _known_technology(technology)
    name = file_name or Path(path).name
    given = Given(list(channels) if channels else None, mpp, trust_mpp, [(str(n), bool(k)) for n, k in panel] if panel else None)
    with full_disk_refused(), one_file(Path(path)) as file:
        if not file.is_file() or file.stat().st_size == 0:
            return _close(user, cohort, import_, _check(file, name, given), dry_run, name)
        sha256 = checksum(file)
        known = (
            MultiplexImage.objects.filter(sample__patient__cohort=cohort, sealed_sha256=sha256).select_related("sample__patient").first()
        )
        if known is not None and (wrong := of_another_patient(known, "image", name, patient_code)):
            return _close(user, cohort, import_, MultiplexImportResult(name, REJECTED, [wrong], known), dry_run, name, sha256)
        if known is not None and known.state == READY:
            return _close(user, cohort, import_, _again(known, name), dry_run, name, sha256)
        result = _check(file, name, given)
        codes = codes_for(cohort, name, sha256, patient_code, sample_code) if known is None else None
        if codes is not None and result.state != REJECTED:
            result = replace(result, findings=[*result.findings, *_said_of(codes, sha256)])
        if dry_run or result.state == REJECTED:
            return _close(user, cohort, import_, result, dry_run, name, sha256)
        if known is not None and known.state == ATTENTION:
            result = replace(result, findings=[_duplicate(known, name), *result.findings])
        sealed_key = known.sealed_key if known else seal(file, sha256)
        import_ = opened(user, cohort, import_, Import.Kind.MULTIPLEX, name, file, sha256)
        image = known or _new_image(cohort, codes, technology, simulated, sha256, sealed_key)
    finished = finish(user, image, result, given, import_, tick)
    return _close(user, cohort, import_, finished, False, name, sha256)


def complete_multiplex(
    user: Any, image: MultiplexImage, *, channels: Sequence[str] | None = None, mpp: float | None = None, tick: Tick | None = None
) -> MultiplexImportResult:
    """Gives a waiting image its channel names or um per pixel, checks the sealed original again and finishes it. Needs contributor.

    What was given before and is left out now is kept. The person has looked at this image, so her values win over the file's.
    Errors: NotVisible, RoleMissing, AssayRefused IMAGE_STATE if the image does not wait for a person.
    """
    cohort = image.sample.patient.cohort
    if user is not None:
        require(user, cohort, Role.CONTRIBUTOR)
    if image.state in (READY, REJECTED):  # one that a worker died on is still "building tiles" when its job comes again
        may_complete(image)
    before = image.facts.get("given", {})
    panel = [(str(n), bool(k)) for n, k in before.get("panel") or []] or None
    given = Given(list(channels) if channels else before.get("channels"), mpp or before.get("mpp"), trust_mpp=True, panel=panel)
    result = _check(store.path(image.sealed_key), image.name, given)
    if result.state == REJECTED:
        result = replace(result, state=ATTENTION)  # the bytes were taken in before: they are not lost now
    import_ = Import.objects.filter(cohort=cohort, kind=Import.Kind.MULTIPLEX, sha256=image.sealed_sha256).first()
    finished = finish(user, image, result, given, import_, tick)
    return _close(user, cohort, import_, finished, False, finished.file) if import_ else finished


def may_complete(image: MultiplexImage) -> None:
    """AssayRefused IMAGE_STATE (409) unless the image waits for a person."""
    if image.state != ATTENTION:
        raise AssayRefused(
            AssayCode.IMAGE_STATE,
            f"The image {image.name} is {image.state}; names and um per pixel can be given only while it needs attention.",
            "If they are wrong in a finished image, import the file into a new cohort with the right ones.",
            status=409,
        )


def _known_technology(technology: str) -> None:
    if technology and technology not in MultiplexImage.Technology.values:
        known = ", ".join(MultiplexImage.Technology.values)
        raise AssayRefused(AssayCode.BAD_TECHNOLOGY, f"There is no technology {technology[:24]!r}.", f"It is one of {known}.")


def _check(path: Path, name: str, given: Given) -> MultiplexImportResult:
    """The verdict of the isolated check under the file's own name, with our rule for a stated mpp that the file contradicts."""
    from ml.multiplex.isolated import check_multiplex_isolated

    report = check_multiplex_isolated(path, given.channels, given.mpp, panel=given.panel)
    findings, state = [replace(f, file=name) for f in report.findings], report.state
    if not given.trust_mpp and FindingCode.MPP_CONFLICT in report.codes:
        sentence = f"The file states {report.facts['header_mpp']:.4g} um per pixel, but {given.mpp:.4g} was given."
        hint = "Look at the instrument's settings: import it without a value, or confirm yours for this image."
        wrong = error(IntakeCode.MPP_DISAGREES, sentence, hint, file=name)
        findings = [wrong if f.code == FindingCode.MPP_CONFLICT else f for f in findings]
        state = ATTENTION if state == READY else state
    return MultiplexImportResult(name, state, findings, facts=report.facts)


def _said_of(codes: Codes, sha256: str) -> list[Finding]:
    """What `codes_for` says of a slide, about an image."""
    return [replace(f, sentence=f.sentence.replace(f"the slide as {codes.slide}", f"the image as {_name(sha256)}")) for f in codes.findings]


def _name(sha256: str) -> str:
    return f"M-{sha256[:8]}"


def _again(known: MultiplexImage, name: str) -> MultiplexImportResult:
    """The answer to a file that the cohort has already."""
    earlier = [replace(Finding(**f), file=name) for f in known.findings if f["code"] != AssayCode.DUPLICATE_IMAGE]
    return MultiplexImportResult(name, known.state, [_duplicate(known, name), *earlier], known)


def _duplicate(known: MultiplexImage, name: str) -> Finding:
    sentence = f"The cohort has this file already, as the image {known.name} of patient {known.sample.patient.code}."
    hint = "A finished image is not made again; one that needs attention is checked again."
    return info(AssayCode.DUPLICATE_IMAGE, sentence, hint, file=name)


def _new_image(cohort: Cohort, codes: Codes | None, technology: str, simulated: bool, sha256: str, sealed_key: str) -> MultiplexImage:
    assert codes is not None
    with transaction.atomic():
        patient, _ = Patient.objects.get_or_create(cohort=cohort, code=codes.patient)
        sample, _ = Sample.objects.get_or_create(patient=patient, code=codes.sample)
        image, _ = MultiplexImage.objects.get_or_create(
            sample=sample,
            sealed_sha256=sha256,
            defaults={
                "name": _name(sha256),
                "sealed_key": sealed_key,
                "technology": technology or MultiplexImage.Technology.UNKNOWN,
                "simulated": simulated,
            },
        )
    return image


def finish(
    user: Any, image: MultiplexImage, result: MultiplexImportResult, given: Given, import_: Import | None, tick: Tick | None
) -> MultiplexImportResult:
    """From a sealed and checked image to a ready one, or to one that waits with its findings."""
    facts = result.facts or {}
    if image.technology == MultiplexImage.Technology.UNKNOWN:
        image.technology = TECHNOLOGY_OF.get(facts.get("format", ""), image.technology)
    image.facts = {key: facts[key] for key in KEPT_FACTS if facts.get(key) is not None}
    if given.channels or given.mpp or given.panel:
        who = user.get_username() if user is not None else ""
        image.facts["given"] = {"channels": given.channels, "mpp": given.mpp, "panel": given.panel, "by": who}
    image.width, image.height, image.dtype = facts.get("width", 0), facts.get("height", 0), facts.get("dtype", "")
    image.channels, image.mpp = facts.get("channels", []), facts.get("mpp")
    image.mpp_source = "override" if facts.get("mpp_source") == "override" else "file" if image.mpp else ""
    findings, state = list(result.findings), result.state
    if state == READY:
        try:
            findings = _convert(image, findings, given, import_, tick)
        except SlideError as reason:
            findings.append(reason.finding(result.file))
            state = ATTENTION
    image.findings = [anonymous(f, result.file, image.name).to_dict() for f in findings]
    image.state = state
    with transaction.atomic():
        image.save()
        record(user, "import multiplex image", image, cohort_id=image.sample.patient.cohort_id, patient_code=image.sample.patient.code)
    return MultiplexImportResult(result.file, state, findings, image, import_)


def _convert(image: MultiplexImage, findings: list[Finding], given: Given, import_: Import | None, tick: Tick | None) -> list[Finding]:
    """Writes the pyramid, whole or not at all, and gives the findings with those about pixels counted over the whole image."""
    from ml.multiplex.convert import signal_findings
    from ml.multiplex.isolated import convert_multiplex_isolated

    MultiplexImage.objects.filter(pk=image.pk).update(state=MultiplexImage.State.BUILDING_TILES)
    if import_ is not None:
        Import.objects.filter(pk=import_.pk).update(state=Import.State.BUILDING_TILES)
    temp = store.new_temp(".zarr")
    try:
        made = convert_multiplex_isolated(store.path(image.sealed_key), temp, given.channels, given.mpp, tick=tick, panel=given.panel)
        key = f"assays/{image.pk}/image.zarr"
        image.sha256 = store.save(temp, key)
    except OSError as reason:
        raise as_finding(reason) from reason
    except SlideError:
        raise  # becomes a finding, and the state follows from it
    except BaseException:
        # Cancelled, or the worker is told to end: nothing was lost, and a person can go on from here.
        MultiplexImage.objects.filter(pk=image.pk).update(state=ATTENTION)
        raise
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    image.key = key
    image.channels, image.mpp = made["channels"], made["mpp"]
    image.facts |= {"signal": made["signal"], "signal_estimated": made["signal_estimated"]}
    file = findings[0].file if findings else image.name
    seen = signal_findings(file, made["dtype"], made["channels"], made["signal"], False)
    return [f for f in findings if f.code not in FROM_PIXELS] + seen


def _close(
    user: Any, cohort: Cohort, import_: Import | None, result: MultiplexImportResult, dry_run: bool, name: str, sha256: str = ""
) -> MultiplexImportResult:
    """The result with its Import row (a dry run has a row only if the file was uploaded)."""
    made = {"image": result.image.pk} if result.image is not None else {}
    row = closed(user, cohort, import_, Import.Kind.MULTIPLEX, name, result.state, result.findings, made, dry_run, sha256)
    return replace(result, image=None if dry_run else result.image, import_=row)
