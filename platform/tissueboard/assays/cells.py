"""The cells of a multiplex image: a label mask and a table of them are brought in, confirmed where they look wrong, replaced, read.

A mask of an implausible size of cells waits for a person and takes nobody's place: most likely the um per pixel of the image is wrong.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import cache
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils import timezone

from ml.slides.findings import Finding, FindingCode, Severity, SlideError
from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.errors import NotVisible
from tissueboard.store import checksum, store

from .errors import AssayCode, AssayRefused, refused
from .models import CellMask, MultiplexImage
from .selectors import cell_mask_of, waiting_cells_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ml.multiplex.cells import Cells

FULL = (errno.ENOSPC, errno.EDQUOT)
PATH_SECONDS = 60


@dataclass(frozen=True)
class CellsAsked:
    """What a person says about the files. id_column, type_columns (with commas): "" to find them. table_image: what the table calls this
    image, where it holds several. confirmed: she looked at the size of the cells, and it is right."""

    id_column: str = ""
    type_columns: str = ""
    table_image: str = ""
    confirmed: bool = False


@dataclass(frozen=True)
class CellsResult:
    """state: ready, needs attention, or checked (a dry run). cells: None in a dry run. facts: of the mask and the table."""

    state: str
    cells: CellMask | None
    findings: list[Finding]
    facts: dict[str, Any]


def add_cells(
    user: Any, image: MultiplexImage, mask: Path | None, table: Path | None = None, asked: CellsAsked | None = None, *,
    names: tuple[str, str] = ("", ""), dry_run: bool = False, tick: Callable[[], None] | None = None,
) -> CellsResult:  # fmt: skip
    """Keeps the cells of an image; those that it had become history. Needs contributor (user None: the house itself).

    mask: TIFF or npz of labels of the image's size; None to give the mask that is there another table. table: CSV or Parquet. names: under
    which a person sent them. Both are parsed in a child process.
    Errors: NotVisible, RoleMissing, AssayRefused IMAGE_NOT_READY (409), NOTHING_GIVEN, NO_CELLS, and what ml.multiplex says of the files.
    """
    from ml.multiplex.cell_tables import Columns
    from ml.multiplex.cells import bring_cells_isolated

    asked = asked or CellsAsked()
    _may_add(user, image)
    if mask is None and table is None:
        raise AssayRefused(AssayCode.NOTHING_GIVEN, "Neither a mask nor a table was given.", "Give a label mask of the image.")
    own = _current(image) if mask is None else None
    if mask is None and own is None:
        raise AssayRefused(AssayCode.NO_CELLS, "The image has no mask of cells yet.", "Give the label mask together with the table.")
    types = tuple(t.strip() for t in asked.type_columns.split(",") if t.strip())
    columns = Columns(asked.id_column.strip(), types, asked.table_image.strip())
    source = store.path(own.key) if own is not None else mask
    assert source is not None
    new_mask, new_table = store.new_temp(".zarr"), store.new_temp(".parquet")
    try:
        found = bring_cells_isolated(
            source, (image.width, image.height), float(image.mpp or 1), new_mask, table, new_table if table else None, columns,
            (names[0] or source.name, names[1] or (table.name if table else "")), tick=tick,
        )  # fmt: skip
        findings = _confirmed(found.findings, user) if asked.confirmed else found.findings
        waits = any(one.severity == Severity.ERROR for one in findings)
        facts = {"mask": found.mask, "table": found.table}
        if dry_run:
            return CellsResult("checked", None, findings, facts)
        state = CellMask.State.NEEDS_ATTENTION if waits else CellMask.State.READY
        kept = _keep(user, image, found, state, _plain(findings, image), own, new_mask, new_table if table else None)
        return CellsResult(kept.state, kept, findings, facts)
    except SlideError as error:
        raise refused(error) from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        sentence = "The server's disk is full: the cells could not be written."
        raise AssayRefused(FindingCode.DISK_FULL, sentence, "Ask the people who run this server to make room.", status=507) from error
    finally:
        shutil.rmtree(new_mask, ignore_errors=True)
        new_table.unlink(missing_ok=True)


def receive_cells(
    user: Any, image: MultiplexImage, mask: UploadedFile | None, table: UploadedFile | None, typed: Mapping[str, Any], dry_run: bool = False
) -> CellsResult:
    """`add_cells` of uploaded files. typed: the fields of CellsAsked as a person typed them. Errors: those, and FILE_TOO_LARGE (413)."""
    _may_add(user, image)
    asked = CellsAsked(
        str(typed.get("id_column") or "")[:80],
        str(typed.get("type_columns") or "")[:400],
        str(typed.get("table_image") or "")[:200],
        typed.get("confirmed") in (True, "true", "yes", "on", "1"),
    )
    temps: list[Path] = []
    try:
        paths = [_received(one, temps) if one is not None else None for one in (mask, table)]
        names = (_name_of(mask), _name_of(table))
        return add_cells(user, image, paths[0], paths[1], asked, names=names, dry_run=dry_run)
    finally:
        for temp in temps:
            temp.unlink(missing_ok=True)


def confirm_cells(user: Any, image: MultiplexImage) -> CellMask:
    """A person says that the waiting mask is right; it takes the place of the one before. Needs contributor.

    Errors: NotVisible, RoleMissing, AssayRefused CELLS_STATE (409) if none waits.
    """
    require(user, image.sample.patient.cohort, Role.CONTRIBUTOR)
    with transaction.atomic():
        _locked(image)
        waiting = waiting_cells_of(user, image)
        if waiting is None:
            raise AssayRefused(AssayCode.CELLS_STATE, "No mask of this image waits for anybody.", "Reload the page.", status=409)
        CellMask.objects.filter(image=image, state=CellMask.State.READY, replaced_at__isnull=True).update(replaced_at=timezone.now())
        waiting.findings = [one.to_dict() for one in _confirmed([Finding(**f) for f in waiting.findings], user)]
        waiting.state = CellMask.State.READY
        waiting.save(update_fields=["state", "findings"])
        _log(user, "confirm cells", image)
    return waiting


def remove_cells(user: Any, image: MultiplexImage, *, waiting: bool = False) -> None:
    """Takes the cells of an image, or those that wait, away; they stay as history. Needs contributor. AssayRefused NO_CELLS (409)."""
    require(user, image.sample.patient.cohort, Role.CONTRIBUTOR)
    state = CellMask.State.NEEDS_ATTENTION if waiting else CellMask.State.READY
    with transaction.atomic():
        found = CellMask.objects.filter(image=image, state=state, replaced_at__isnull=True)
        if not found.update(replaced_at=timezone.now()):
            raise AssayRefused(AssayCode.NO_CELLS, "There are no such cells.", "Reload the page.", status=409)
        _log(user, "remove cells", image)
    cache.delete(f"cell-mask-{image.pk}")


def mask_labels(cells: CellMask) -> NDArray[np.int32]:
    """(height, width) int32 labels of the cells, for ml.multiplex.read.read_image. AssayRefused where the files are lost."""
    from ml.multiplex.mask_files import read_labels

    try:
        return read_labels(store.path(cells.key))
    except SlideError as error:
        raise refused(error) from error


def cell_table(cells: CellMask) -> pd.DataFrame | None:
    """The table of the cells: cell_id, columns of types, numbers; None without one. AssayRefused FILE_CHANGED, FILE_MISSING."""
    import pandas as pd

    if not cells.table_key:
        return None
    path = store.path(cells.table_key)
    if not path.is_file():
        raise AssayRefused(FindingCode.FILE_MISSING, "The table of the cells is not there any more.", "Bring it in again.")
    if checksum(path) != cells.table_sha256:
        raise AssayRefused(AssayCode.FILE_CHANGED, "The table of the cells is not the one that was brought in.", "Bring it in again.")
    return pd.read_parquet(path)


def outline_source(image_id: int) -> tuple[Path, str, tuple[int, int]]:
    """(folder, tag, image size) for tiles of outlines, remembered for a minute. NotVisible if there is none. Callers hold a tile token."""
    known = cache.get(f"cell-mask-{image_id}")
    if known is None:
        found = CellMask.objects.filter(image_id=image_id, state=CellMask.State.READY, replaced_at__isnull=True)
        row = found.values_list("key", "sha256", "image__width", "image__height").first()
        if row is None:
            raise NotVisible("mask of cells")
        known = (row[0], row[1][:16], (row[2], row[3]))
        cache.set(f"cell-mask-{image_id}", known, PATH_SECONDS)
    return store.path(known[0]), known[1], known[2]


def _may_add(user: Any, image: MultiplexImage) -> None:
    if user is not None:
        require(user, image.sample.patient.cohort, Role.CONTRIBUTOR)
    if image.state != MultiplexImage.State.READY:
        sentence = f"The image {image.name} is not ready: {image.state}."
        raise AssayRefused(AssayCode.IMAGE_NOT_READY, sentence, "Resolve its findings first.", status=409)


def _current(image: MultiplexImage) -> CellMask | None:
    return CellMask.objects.filter(image=image, state=CellMask.State.READY, replaced_at__isnull=True).first()


def _confirmed(findings: list[Finding], user: Any) -> list[Finding]:
    """An implausible size that a person confirmed is a warning from then on."""
    who = user.get_username() if user is not None else "the house"
    return [
        Finding(one.code, Severity.WARNING, one.file, one.where, one.sentence, f"Confirmed by {who}.")
        if one.code == FindingCode.CELL_AREA_IMPLAUSIBLE
        else one
        for one in findings
    ]


def _plain(findings: list[Finding], image: MultiplexImage) -> list[dict[str, str]]:
    """As they are kept for all viewers: file names can name people."""
    return [Finding(f.code, f.severity, image.name, f.where, f.sentence, f.hint).to_dict() for f in findings]


def _keep(
    user: Any, image: MultiplexImage, found: Cells, state: str, findings: list[dict[str, str]], own: CellMask | None, new_mask: Path,
    new_table: Path | None,
) -> CellMask:  # fmt: skip
    """The row of cells whose files are written; the row takes the place of the one of its state."""
    if own is not None:
        key, sha256 = own.key, own.sha256
    else:
        sha256 = checksum(new_mask)
        key = f"assays/{image.pk}/cells/mask-{sha256[:16]}.zarr"
        if not store.exists(key):
            store.save(new_mask, key)
    table_key = table_sha = ""
    if new_table is not None:
        table_sha = checksum(new_table)
        table_key = f"assays/{image.pk}/cells/table-{table_sha[:16]}.parquet"
        store.save(new_table, table_key)
    with transaction.atomic():
        _locked(image)
        CellMask.objects.filter(image=image, state=state, replaced_at__isnull=True).update(replaced_at=timezone.now())
        kept = CellMask.objects.create(
            image=image, state=state, key=key, sha256=sha256, n_cells=found.mask["n_cells"], table_key=table_key, table_sha256=table_sha,
            facts={"mask": found.mask, "table": found.table}, findings=findings, created_by=user,
        )  # fmt: skip
        _log(user, "add cells", image)
    cache.delete(f"cell-mask-{image.pk}")
    return kept


def _locked(image: MultiplexImage) -> None:
    MultiplexImage.objects.select_for_update().get(pk=image.pk)


def _log(user: Any, verb: str, image: MultiplexImage) -> None:
    record(user, verb, image, cohort_id=image.sample.patient.cohort_id, patient_code=image.sample.patient.code)


def _received(file: UploadedFile, temps: list[Path]) -> Path:
    temp, size = store.new_temp(".part"), 0
    temps.append(temp)
    with temp.open("wb") as out:
        for chunk in file.chunks():
            size += len(chunk)
            if size > settings.UPLOAD_MAX_BYTES:
                sentence = f"The file has more than {settings.UPLOAD_MAX_BYTES >> 20} MB, the most that one upload may have."
                hint = "Ask the people who run this server to bring it in from its folder (import_cells)."
                with suppress(OSError):
                    temp.unlink()
                raise AssayRefused(AssayCode.FILE_TOO_LARGE, sentence, hint, status=413)
            out.write(chunk)
    return temp


def _name_of(file: UploadedFile | None) -> str:
    return (file.name or "file").replace("\\", "/").rpartition("/")[2][-255:] if file is not None else ""


__all__ = [
    "CellsAsked",
    "CellsResult",
    "add_cells",
    "cell_mask_of",
    "cell_table",
    "confirm_cells",
    "mask_labels",
    "outline_source",
    "receive_cells",
    "remove_cells",
]
