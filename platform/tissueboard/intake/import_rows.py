"""The Import row of a file, and what is said of a file that the cohort has already: the same for slides and multiplex images."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml.slides.findings import Finding
from tissueboard.cohorts.models import Cohort

from .errors import IntakeCode, error
from .models import Import


def opened(user: Any, cohort: Cohort, import_: Import | None, kind: str, name: str, path: Path, sha256: str) -> Import:
    """The row of an import that begins: the uploaded one, or a new one."""
    if import_ is None:
        import_ = Import(cohort=cohort, kind=kind, file_name=name[-255:], created_by=user)
    import_.state, import_.sha256, import_.size_bytes = Import.State.CHECKING, sha256, path.stat().st_size
    import_.dry_run = False
    import_.save()
    return import_


def closed(
    user: Any,
    cohort: Cohort,
    import_: Import | None,
    kind: str,
    name: str,
    state: str,
    findings: Iterable[Finding],
    made: dict[str, int],
    dry_run: bool,
    sha256: str,
) -> Import | None:
    """Writes the report into the row; None for a dry run that has none (only uploads have one then). made: what came of it, by kind."""
    if import_ is None:
        if dry_run:
            return None
        import_ = Import(cohort=cohort, kind=kind, file_name=name[-255:], created_by=user)
    import_.state = state
    import_.sha256 = sha256 or import_.sha256
    import_.findings = [finding.to_dict() for finding in findings]
    import_.facts = {**import_.facts, **made}
    import_.save()
    return import_


def of_another_patient(known: Any, what: str, name: str, patient_code: str | None) -> Finding | None:
    """The finding where a file that the cohort has is sent again under another patient's code: one file cannot show two patients, so
    nothing is changed and somebody has to find out whose it is. known: the Slide or MultiplexImage; what: "slide" or "image"."""
    given, holder = (patient_code or "").strip(), known.sample.patient.code
    if not given or given == holder:
        return None
    return error(
        IntakeCode.PATIENT_DISAGREES,
        f"The cohort has this file already, as the {what} {known.name} of patient {holder}, not of {given}.",
        f"Nothing was changed. Find out whose {what} it is: one of the two names the wrong patient.",
        file=name,
    )
