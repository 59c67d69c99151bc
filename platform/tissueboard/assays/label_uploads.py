"""Label tables that people send by browser or REST: bytes into a temporary file, what was typed into options, then `add_labels`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from tissueboard.cohorts.access import Role, require
from tissueboard.slides.models import Slide
from tissueboard.store import store

from .errors import AssayCode, LabelsRefused
from .label_checks import finding
from .labels import FULL, TILE_UM, Asked, LabelResult, add_labels

MAX_BYTES = 256 * 2**20  # about 250,000 tiles of 57 markers
MAX_TYPED = 80 * 500


def receive_labels(user: Any, slide: Slide, file: UploadedFile, typed: Mapping[str, Any], *, dry_run: bool = False) -> LabelResult:
    """`add_labels` of one uploaded table. typed: kind, tile_um, markers (one a line, or with commas), panel, table_slide, frame
    ("whole" or "scanned"), replace, as a person typed them; what is left out has its usual value.

    Errors: as `add_labels`, and LabelsRefused TABLE_TOO_LARGE (413).
    """
    require(user, slide.sample.patient.cohort, Role.CONTRIBUTOR)
    asked = asked_of(typed)
    name = (file.name or "table.csv").replace("\\", "/").rpartition("/")[2][-255:]
    limit = min(MAX_BYTES, settings.UPLOAD_MAX_BYTES)
    temp, size = store.new_temp(".csv"), 0
    try:
        with temp.open("wb") as out:
            for chunk in file.chunks():
                size += len(chunk)
                if size > limit:
                    sentence = f"The table has more than {limit >> 20} MB, the most that one upload may have."
                    hint = "Ask the people who run this server to bring it in from its folder (import_labels)."
                    raise LabelsRefused([finding(AssayCode.TABLE_TOO_LARGE, sentence, hint)], status=413)
                out.write(chunk)
        return add_labels(user, slide, temp, asked, file_name=name, dry_run=dry_run)
    except OSError as error:
        if error.errno not in FULL:
            raise
        sentence = "The server's disk is full: the table could not be received."
        hint = "Ask the people who run this server to make room, then send it again."
        raise LabelsRefused([finding(AssayCode.DISK_FULL, sentence, hint)], status=507) from error
    finally:
        temp.unlink(missing_ok=True)


def asked_of(typed: Mapping[str, Any]) -> Asked:
    """What a person typed, as `add_labels` takes it. LabelsRefused TILE_SIZE_IMPLAUSIBLE, MARKERS_INVALID."""
    given = typed.get("tile_um")
    tile_um = ("" if given is None else str(given)).strip().replace(",", ".") or str(TILE_UM)
    if not re.fullmatch(r"\d{1,6}(\.\d{1,9})?", tile_um):
        sentence = f"The side of a tile is no number of um: {tile_um[:20]}."
        raise LabelsRefused([finding(AssayCode.TILE_SIZE_IMPLAUSIBLE, sentence, "HEX's tiles are 56 um wide.", "tile side")])
    return Asked(
        kind=str(typed.get("kind") or "codex"),
        tile_um=float(tile_um),
        markers=marker_names(str(typed.get("markers") or "")),
        panel=str(typed.get("panel") or "").strip(),
        table_slide=str(typed.get("table_slide") or "").strip(),
        whole_file=typed.get("frame") != "scanned",
        replace=typed.get("replace") in (True, "true", "yes", "on", "1"),
    )


def marker_names(text: str) -> list[str] | None:
    """Names as a person types them, one a line or with commas or semicolons between; None for nothing. LabelsRefused MARKERS_INVALID."""
    from ml.hex.errors import HexDataError
    from ml.hex.label_tables import check_markers

    from .label_checks import refusal_of

    if not text.strip():
        return None
    if len(text) > MAX_TYPED:
        raise LabelsRefused([finding("MARKERS_INVALID", "That is no list of marker names.", "Give one name per channel.", "markers")])
    try:
        return list(check_markers([part for part in re.split(r"[\n,;]", text) if part.strip()], "markers"))
    except HexDataError as error:
        raise refusal_of(error) from error
