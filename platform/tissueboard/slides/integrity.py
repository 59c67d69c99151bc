"""Is a working slide still the file that was imported? Asked before every job reads it: a number must come from what its source names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db import transaction

from ml.slides.findings import FindingCode, SlideError
from tissueboard.errors import TissueboardError
from tissueboard.store import checksum, store

from .models import Slide

STAMP = "working_stamp"  # in Slide.facts: size and time of change of the file whose checksum is `working_sha256`


def stamp_of(path: Path) -> dict[str, int]:
    """What changes when somebody writes to a file, without reading it: {size, mtime_ns}."""
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def check_unchanged(slide: Slide, whole: bool = False) -> None:
    """Nothing happens if the working slide is the imported file; TissueboardError FILE_MISSING or FILE_CHANGED (409) otherwise.

    Size and time of change are compared with those kept at import; where they differ, or none are kept, and always with `whole`, the
    checksum of the whole file decides, and a file that was only touched or moved gets its new stamp kept.
    """
    path = store.path(slide.working_key) if slide.working_key else None
    if path is None or not path.is_file():
        raise TissueboardError(
            FindingCode.FILE_MISSING,
            f"The file of the slide {slide.name} is not in the store.",
            "Ask the people who run this server to restore it, or to make it anew with check_slides --repair.",
            status=409,
        )
    stamp = stamp_of(path)
    if not whole and slide.facts.get(STAMP) == stamp:
        return
    if checksum(path) != slide.working_sha256:
        raise TissueboardError(
            FindingCode.FILE_CHANGED,
            f"The file of the slide {slide.name} is not the one that was imported: its checksum is another.",
            "Nothing was computed from it. The sealed original is kept apart: make the slide anew with check_slides --repair.",
            status=409,
        )
    if slide.facts.get(STAMP) != stamp:
        keep_facts(slide, {STAMP: stamp})


def keep_facts(slide: Slide, facts: dict[str, Any]) -> None:
    """Adds facts to a slide whose row somebody else may be changing."""
    with transaction.atomic():
        row = Slide.objects.select_for_update(of=("self",)).get(pk=slide.pk)
        row.facts = {**row.facts, **facts}
        row.save(update_fields=["facts"])
    slide.facts = {**slide.facts, **facts}


def refusal_of(error: SlideError, slide: Slide) -> TissueboardError:
    """What a reader says about a slide, as a refusal whose text people may read."""
    where = f"{slide.name}, {error.where}" if error.where else slide.name
    return TissueboardError(error.code, error.sentence, error.hint, where=where, status=409)
