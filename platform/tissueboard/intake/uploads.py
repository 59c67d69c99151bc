"""Files that people send by browser or REST: bytes into the store, then the same verbs as on the command line."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping as AnyMapping
from dataclasses import fields
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction

from ml.slides.findings import SlideError
from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.slides.models import Slide
from tissueboard.store import store

from .clinical import ClinicalReport, import_clinical
from .disk import full_disk_refused
from .errors import IntakeCode, IntakeRefused, error, refuse_mixing
from .models import Import
from .sealing import suffix_of
from .slide_import import Request, may_override

MAX_TABLE_BYTES = 64 * 2**20
SLIDE_OPTIONS = {field.name for field in fields(Request)} - {"simulated"}  # nobody uploads a simulated slide
MULTIPLEX_OPTIONS = {"patient_code", "sample_code", "mpp", "trust_mpp", "technology", "channels", "panel"}
JOB_KIND, OVERRIDE_KIND = "intake.import_slide", "intake.override_mpp"
# Files whose pictures a job looks at; the job of multiplex images belongs to the assays.
JOB_KINDS = {Import.Kind.SLIDE: JOB_KIND, Import.Kind.MULTIPLEX: "assays.import_multiplex"}
MAX_CHANNELS, MAX_CHANNEL_NAME = 500, 80


def receive_upload(
    user: Any, cohort: Cohort, uploaded_file: UploadedFile, kind: str, options: AnyMapping[str, Any] | None = None, dry_run: bool = False
) -> Import:
    """Takes one file in. Needs the role contributor.

    kind "slide" or "multiplex": a job on `io` checks and imports it (dry_run: only checks; `confirm_import` imports).
    kind "clinical": a dry run is made at once and its report kept on the row, whatever `dry_run` says; `confirm_import` imports.
    options: of `import_slide` (patient_code, sample_code, mpp, trust_mpp, stain, scanner, site, stain_batch), of a multiplex image
    (patient_code, sample_code, mpp, trust_mpp, technology, channels, panel) or of `import_clinical`.
    Errors: NotVisible, RoleMissing, IntakeRefused (UPLOAD_TOO_LARGE with 413, BAD_MAPPING, COHORT_IS_SIMULATED).
    """
    require(user, cohort, Role.CONTRIBUTOR)
    kind = Import.Kind(kind)
    if kind in JOB_KINDS:
        refuse_mixing(cohort, simulated=False)
    options = checked_options(kind, options)
    limit = settings.UPLOAD_MAX_BYTES if kind in JOB_KINDS else min(MAX_TABLE_BYTES, settings.UPLOAD_MAX_BYTES)
    name = (uploaded_file.name or "file").replace("\\", "/").rpartition("/")[2][-255:]
    temp, sha256, size = _receive(uploaded_file, limit, suffix_of(name))
    try:
        with transaction.atomic():
            received = Import.objects.create(
                cohort=cohort, kind=kind, file_name=name, size_bytes=size, sha256=sha256, options=options,
                dry_run=dry_run or kind == Import.Kind.CLINICAL, created_by=user,
            )  # fmt: skip
            received.key = f"uploads/{received.pk}/file{suffix_of(name)}"
            store.save(temp, received.key)
            received.save(update_fields=["key"])
            record(user, "upload file", received, cohort_id=cohort.pk)
            if kind in JOB_KINDS:
                _enqueue(user, received)
    finally:
        temp.unlink(missing_ok=True)
    if kind == Import.Kind.CLINICAL:
        _report(received, _read_table(user, received, options, dry_run=True))
    return received


def review_import(user: Any, import_: Import, options: AnyMapping[str, Any]) -> Import:
    """A dry run of a received table again, with other options (mapping, coding). Writes the report, imports nothing."""
    _waiting(user, import_, Import.Kind.CLINICAL)
    return _report(import_, _read_table(user, import_, options, dry_run=True))


def confirm_import(user: Any, import_: Import, options: AnyMapping[str, Any] | None = None) -> Import:
    """Imports what was received and only checked so far. Needs contributor; options left out are those of the dry run.

    A table is imported at once, whole or not at all; its bytes are dropped when it is in. A slide or multiplex image goes to the queue.
    Errors: NotVisible, RoleMissing, IntakeRefused (IMPORT_STATE with 409, BAD_MAPPING).
    """
    _waiting(user, import_)
    if import_.kind in JOB_KINDS:
        import_.options = import_.options if options is None else checked_options(import_.kind, options)
        import_.dry_run, import_.state = False, Import.State.RECEIVING
        with transaction.atomic():
            import_.save()
            _enqueue(user, import_)
        return import_
    report = _read_table(user, import_, import_.options if options is None else options, dry_run=False)
    import_.dry_run = report.state != "ready"
    _report(import_, report)
    if report.state == "ready":
        drop_bytes(import_)
    return import_


def park_import(import_: Import, code: str, sentence: str, hint: str) -> None:
    """Leaves a slide upload whose work ended early to a person: its bytes stay, it can be confirmed again or discarded."""
    finding = error(code, sentence, hint, file=import_.file_name)
    import_.state, import_.dry_run = Import.State.NEEDS_ATTENTION, True
    import_.findings = [finding.to_dict()]
    import_.save(update_fields=["state", "dry_run", "findings"])


def request_override(user: Any, slide: Slide, mpp: Any) -> Job:
    """`override_mpp` as a job on `io`, for pages: a large slide takes minutes. Needs contributor; asking twice gives the same job.

    mpp: a number or what a person typed. Errors: NotVisible, RoleMissing, IntakeRefused (BAD_MAPPING; IMPORT_STATE with 409).
    """
    cohort = slide.sample.patient.cohort
    require(user, cohort, Role.CONTRIBUTOR)
    may_override(slide)
    return enqueue(user, OVERRIDE_KIND, {"slide": slide.pk, "mpp": positive_number(mpp)}, cohorts=[cohort])


def discard_import(user: Any, import_: Import) -> Import:
    """Says that a received file is not wanted: its bytes go, its report stays. Needs contributor."""
    _waiting(user, import_)
    drop_bytes(import_)
    import_.state = Import.State.REJECTED
    import_.save(update_fields=["state"])
    record(user, "discard import", import_, cohort_id=import_.cohort_id)
    return import_


def drop_bytes(import_: Import) -> None:
    """Removes the received bytes of an import from the store."""
    if import_.key:
        store.delete(import_.key)
        import_.key = ""
        import_.save(update_fields=["key"])


def checked_options(kind: str, options: AnyMapping[str, Any] | None) -> dict[str, Any]:
    """Options of an import as they are kept; of a picture: known keys, short texts, mpp a positive number. IntakeRefused BAD_MAPPING."""
    if kind not in JOB_KINDS:
        return dict(options or {})
    known = SLIDE_OPTIONS if kind == Import.Kind.SLIDE else MULTIPLEX_OPTIONS
    checked: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if name not in known:
            raise _bad_option(f"There is no option {name} of a {kind}.", known)
        if value is None or value == "":
            continue
        if name == "mpp":
            checked[name] = positive_number(value)
        elif name == "channels":
            checked[name] = channel_names(value)
        elif name == "panel":
            checked[name] = panel_rows(value)
        elif name == "trust_mpp":
            checked[name] = value in (True, "true", "on", "1")
        elif isinstance(value, str) and len(value) <= 80:
            checked[name] = value
        else:
            raise _bad_option(f"The option {name} has to be a text of at most 80 characters.", known)
    return checked


def channel_names(value: Any) -> list[str]:
    """Names of channels as a list or as a person types them: one a line, or with commas between. IntakeRefused BAD_MAPPING."""
    parts = re.split(r"[\n,;]", value) if isinstance(value, str) else value
    fits = isinstance(parts, list) and len(parts) <= MAX_CHANNELS and all(isinstance(p, str) for p in parts)
    names = [" ".join(p.split()) for p in parts if p.strip()] if fits else []
    if not names or any(len(n) > MAX_CHANNEL_NAME or not n.isprintable() for n in names):
        raise _bad_option(f"The channels have to be 1 to {MAX_CHANNELS} names of at most {MAX_CHANNEL_NAME} characters.", MULTIPLEX_OPTIONS)
    return names


def panel_rows(value: Any) -> list[list[Any]]:
    """The panel of a stack as [name, whether it is kept] per row: of its CSV (text or bytes), or as rows. IntakeRefused BAD_MAPPING."""
    from ml.multiplex.panels import read_panel

    if isinstance(value, str | bytes):
        try:
            return [list(row) for row in read_panel(value.encode(errors="replace") if isinstance(value, str) else value)]
        except SlideError as error:
            raise IntakeRefused(IntakeCode.BAD_MAPPING, error.sentence, error.hint, where=error.where) from error
    fits = isinstance(value, list) and 0 < len(value) <= MAX_CHANNELS
    if not fits or not all(isinstance(r, list) and len(r) == 2 and isinstance(r[0], str) and len(r[0]) <= MAX_CHANNEL_NAME for r in value):
        raise _bad_option("The panel has to be a CSV, or a list of rows [name, whether it is kept].", MULTIPLEX_OPTIONS)
    return [[name, bool(keep)] for name, keep in value]


def positive_number(value: Any) -> float:
    """um per pixel as a person types it. IntakeRefused BAD_MAPPING if it is no positive finite number."""
    try:
        number = float(str(value).replace(",", "."))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise _bad_option("The um per pixel have to be a positive number, e.g. 0.25 for a 40x or 0.5 for a 20x scan.", SLIDE_OPTIONS)
    return number


def _bad_option(sentence: str, known: set[str]) -> IntakeRefused:
    return IntakeRefused(IntakeCode.BAD_MAPPING, sentence, f"Options are {', '.join(sorted(known))}.")


def _receive(uploaded_file: UploadedFile, limit: int, suffix: str) -> tuple[Any, str, int]:
    """(temporary path, SHA-256, bytes) of the stream; nothing is left behind when it is too large or breaks off."""
    temp, digest, size = store.new_temp(suffix), hashlib.sha256(), 0
    try:
        with full_disk_refused(), temp.open("wb") as out:
            for chunk in uploaded_file.chunks():
                size += len(chunk)
                if size > limit:
                    raise IntakeRefused(
                        IntakeCode.UPLOAD_TOO_LARGE,
                        f"The file has more than {limit >> 20} MB, the most that one upload may have.",
                        "Ask the people who run this server to import it from its folder (import_slides, import_clinical).",
                        status=413,
                    )
                digest.update(chunk)
                out.write(chunk)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    return temp, digest.hexdigest(), size


def _enqueue(user: Any, import_: Import) -> None:
    # How often it was asked for is part of the job's identity: after a refusal a person may confirm the same file again.
    asked = import_.facts.get("asked", 0) + 1
    job = enqueue(
        user,
        JOB_KINDS[Import.Kind(import_.kind)],
        {"import": import_.pk, "dry_run": import_.dry_run},
        cohorts=[import_.cohort],
        key=f"asked {asked}",
    )
    import_.job_id, import_.facts = job.pk, {**import_.facts, "asked": asked}
    import_.save(update_fields=["job_id", "facts"])


def _read_table(user: Any, import_: Import, options: AnyMapping[str, Any], *, dry_run: bool) -> ClinicalReport:
    options = {key: value for key, value in options.items() if key != "ignored"}
    return import_clinical(user, import_.cohort, store.path(import_.key), options, dry_run=dry_run, file_name=import_.file_name)


def _report(import_: Import, report: ClinicalReport) -> Import:
    import_.state = report.state
    import_.findings = [finding.to_dict() for finding in report.findings]
    import_.facts = {"counts": report.counts, "preview": report.preview}
    import_.options = report.mapping
    import_.save()
    return import_


def _waiting(user: Any, import_: Import, kind: str | None = None) -> None:
    """The import is one that still waits for a decision of this user."""
    require(user, import_.cohort, Role.CONTRIBUTOR)
    if not import_.dry_run or not import_.key or (kind and import_.kind != kind):
        raise IntakeRefused(
            IntakeCode.IMPORT_STATE,
            f"The import of {import_.file_name} is decided already.",
            "Send the file again to import it once more.",
            status=409,
        )
