"""Are the files of a slide still those that came in? Reads every byte of sealed original and working slide; can make the latter anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ml.slides.findings import Finding, FindingCode, SlideError
from tissueboard.accounts.audit import record
from tissueboard.errors import TissueboardError
from tissueboard.slides.integrity import check_unchanged
from tissueboard.slides.models import Slide
from tissueboard.store import store

from .disk import full_disk_refused
from .errors import error, info
from .ready import make_files
from .sealing import checksum, main_file


@dataclass(frozen=True)
class SlideFiles:
    """What was found of one slide. sealed, working: ok, changed, missing, or none (that the slide has no such file)."""

    slide: Slide
    sealed: str
    working: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Nothing is changed or missing."""
        return not {"changed", "missing"} & {self.sealed, self.working}

    def to_dict(self) -> dict[str, Any]:
        """The line of a report."""
        return {"slide": self.slide.name, "sealed": self.sealed, "working": self.working, "findings": [f.to_dict() for f in self.findings]}


def verify_slide(slide: Slide) -> SlideFiles:
    """Both files by their checksums; writes nothing but a fresh stamp of a working slide that was only touched."""
    findings: list[Finding] = []
    working = "none"
    if slide.state == Slide.State.READY:
        working = "ok"
        try:
            check_unchanged(slide, whole=True)
        except TissueboardError as refused:
            working = "missing" if refused.code == FindingCode.FILE_MISSING else "changed"
            findings.append(error(refused.code, refused.sentence, refused.hint, file=slide.name, where="working slide"))
    sealed = _sealed(slide)
    if sealed in ("changed", "missing"):
        code = FindingCode.FILE_MISSING if sealed == "missing" else FindingCode.FILE_CHANGED
        sentence = f"The sealed original of the slide {slide.name} is {'not in the store' if sealed == 'missing' else 'not what came in'}."
        hint = "Restore it from the backup; the working slide is a file of its own."
        findings.append(error(code, sentence, hint, file=slide.name, where="sealed original"))
    return SlideFiles(slide, sealed, working, findings)


def remake(user: Any, files: SlideFiles) -> SlideFiles:
    """A changed or missing working slide made anew from a sealed original that is whole; as it was, if that cannot be.

    The pixels are made in the same way, but other versions of the libraries may write other bytes: then the slide has a new checksum, and
    what was computed from the former file names the former one.
    """
    slide = files.slide
    if files.sealed != "ok" or files.working not in ("changed", "missing"):
        return files
    before = slide.working_sha256
    try:
        with full_disk_refused():
            warnings = make_files(slide, slide.mpp if slide.mpp_source == "override" else None)
    except (SlideError, TissueboardError) as reason:
        said = error(reason.code, reason.sentence, reason.hint, file=slide.name, where="working slide")
        return SlideFiles(slide, files.sealed, files.working, [*files.findings, said])
    slide.save(update_fields=["working_key", "working_sha256", "mpp", "width", "height", "facts"])
    record(user, "make slide anew", slide, cohort_id=slide.sample.patient.cohort_id, patient_code=slide.sample.patient.code)
    same = slide.working_sha256 == before
    sentence = (
        f"The working slide was made anew from the sealed original{', byte for byte as before' if same else ', with a new checksum'}."
    )
    hint = "Nothing to do." if same else "What was computed before names the former checksum; run it again where it matters."
    return SlideFiles(slide, "ok", "ok", [info(FindingCode.FILE_CHANGED, sentence, hint, file=slide.name), *warnings])


def _sealed(slide: Slide) -> str:
    if not slide.sealed_key:
        return "none"
    if not store.exists(slide.sealed_key):
        return "missing"
    try:
        return "ok" if checksum(main_file(slide.sealed_key)) == slide.sealed_sha256 else "changed"
    except (StopIteration, FileNotFoundError):
        return "missing"
