"""Regions by file: QuPath's GeoJSON is checked first, brought in class by class when a person says what each is for, and given back."""

from __future__ import annotations

import gzip
import hashlib
import uuid
from collections.abc import Mapping
from datetime import timedelta
from pathlib import PurePath
from typing import Any

from django.db import transaction
from django.utils import timezone

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.errors import Code, TissueboardError

from .models import Region, RegionImport, Slide
from .processing import PROCESSED
from .regions import check_room, checked_role, locked, log, measures, need_ready, processing_changed
from .selectors import regions_of_slide

MAX_UPLOAD = 32 << 20
KEPT_FINDINGS = 200
WAITS = timedelta(days=1)
# QuPath leaves classes out whose name ends with a star; these words are what people call the same.
LEFT_OUT = ("ignore", "exclu", "artefact", "artifact")
ROLE_KEY, NOTE_KEY = "Tissueboard role", "ANNOTATION_DESCRIPTION"
BATCH = 1000


def check_regions(user: Any, slide: Slide, content: bytes, file_name: str, *, whole_file: bool = False) -> RegionImport:
    """Reads a file of regions and keeps it until somebody confirms or discards it; nothing is brought in yet. Needs contributor.

    whole_file: its coordinates start at the corner of the whole original (programs on plain OpenSlide; QuPath without cropping), not at
    its scanned part (QuPath). A file without one usable region gives a rejected import with its findings.
    Raises NotVisible, RoleMissing, TissueboardError SLIDE_NOT_READY, FILE_TOO_LARGE, TOO_MANY_REGIONS.
    """
    from ml.slides.geojson_child import read_geojson_safely

    require(user, slide.sample.patient.cohort, Role.CONTRIBUTOR)
    need_ready(slide)
    if len(content) > MAX_UPLOAD:
        sentence = f"The file has more than {MAX_UPLOAD >> 20} MiB."
        raise TissueboardError("FILE_TOO_LARGE", sentence, "Export annotations only, without cells or tiles.", status=413)
    name = PurePath(file_name.replace("\\", "/")).name[:255] or "regions.geojson"
    own, regions, findings = read_geojson_safely(content, (slide.width, slide.height), origin_of(slide, whole_file), name)
    with transaction.atomic():
        slide = locked(user, slide)
        check_room(slide, len(regions), _points_in(regions))
        _drop_stale(slide)
        found = RegionImport.objects.create(
            slide=slide,
            state=RegionImport.State.WAITING if regions else RegionImport.State.REJECTED,
            file_name=name,
            size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            whole_file=whole_file,
            content=gzip.compress(own, 3) if regions else b"",
            classes=classes_of(regions, float(slide.mpp or 0.0), _known_ids(slide)),
            findings=[one.to_dict() for one in findings[:KEPT_FINDINGS]],
            n_findings=len(findings),
            created_by=user,
        )
        log(user, "check regions", found)
    return found


def classes_of(regions: list[Any], mpp: float, known: set[str]) -> list[dict[str, Any]]:
    """A row per class and type of object: how many, how large (mm2), how many are on the slide already, and the role proposed."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for region in regions:
        empty = {
            "classification": region.classification,
            "object_type": region.object_type,
            "n": 0,
            "known": 0,
            "areas": 0,
            "area_mm2": 0.0,
        }
        row = rows.setdefault((region.object_type, region.classification), empty | {"colour": "", "role": propose_role(region)})
        row["n"] += 1
        row["known"] += region.id in known
        row["areas"] += can_be_processed(region)
        row["area_mm2"] += region.area_mm2(mpp)
        row["colour"] = row["colour"] or hex_of(region.colour)
        if propose_role(region) != row["role"]:
            row["role"] = Region.Role.ANNOTATION.value
    return [rows[key] for key in sorted(rows)]


def propose_role(region: Any) -> str:
    """What a region is for, if nobody says otherwise: what we wrote ourselves, left out if it is called so, else only shown."""
    if not can_be_processed(region):
        return Region.Role.ANNOTATION.value
    written = region.metadata.get(ROLE_KEY)
    if written in Region.Role.values:
        return str(written)
    name = region.classification.lower()
    return Region.Role.EXCLUDE.value if name.endswith("*") or name.startswith(LEFT_OUT) else Region.Role.ANNOTATION.value


def can_be_processed(region: Any) -> bool:
    """Annotated areas only: cells and detections are results, lines and points have no inside."""
    return bool(region.is_area and region.object_type == "annotation")


@transaction.atomic
def confirm_regions(user: Any, found: RegionImport, roles: Mapping[int, str] | None = None) -> RegionImport:
    """Brings the regions in. roles: by place in `found.classes`; where none is given the proposed one counts.

    A region whose id is on the slide already takes its place. Needs contributor. Raises as `check_regions`, and IMPORT_FINISHED.
    """
    from ml.slides.geojson import read_own

    slide = locked(user, found.slide)
    found = _waiting(found)
    chosen = _roles(found.classes, roles or {})
    regions = read_own(gzip.decompress(bytes(found.content)))
    here = {str(r.external_id): r for r in Region.objects.filter(slide=slide, removed_at__isnull=True)}
    new_ones = [r for r in regions if r.id not in here]
    check_room(slide, len(new_ones), _points_in(new_ones))
    new, replaced, touched = [], [], set()
    for region in regions:
        role = chosen[(region.object_type, region.classification)] if can_be_processed(region) else Region.Role.ANNOTATION
        old = here.get(region.id)
        row = old or Region(slide=slide, external_id=uuid.UUID(region.id), created_by=user)
        touched |= {role, row.role if old else role}
        _fill(row, region, role, found)
        if old:
            row.changed_by, row.changed_at = user, timezone.now()
        (replaced if old else new).append(row)
    Region.objects.bulk_create(new, batch_size=BATCH)
    Region.objects.bulk_update(replaced, [*FILLED, "changed_by", "changed_at"], batch_size=BATCH)
    for row in found.classes:
        row["role"] = chosen[(row["object_type"], row["classification"])]
    found.state, found.finished_at, found.content = RegionImport.State.IMPORTED, timezone.now(), b""
    found.save(update_fields=["state", "finished_at", "content", "classes"])
    processing_changed(slide, *touched)
    log(user, "import regions", found)
    return found


@transaction.atomic
def discard_regions(user: Any, found: RegionImport) -> RegionImport:
    """Drops a checked file; nothing is brought in. Needs contributor. Raises as `confirm_regions`."""
    locked(user, found.slide)
    found = _waiting(found)
    found.state, found.finished_at, found.content = RegionImport.State.DISCARDED, timezone.now(), b""
    found.save(update_fields=["state", "finished_at", "content"])
    log(user, "discard regions", found)
    return found


def export_regions(user: Any, slide: Slide, *, whole_file: bool = False) -> bytes:
    """All regions of a slide that the user may see as GeoJSON for QuPath. whole_file: as `check_regions`."""
    from ml.slides.geojson import write_geojson
    from ml.slides.regions import Region as Outlined
    from ml.slides.regions import from_json

    rows = [
        Outlined(
            geometry=from_json(row.geometry),
            object_type=row.object_type,
            classification=row.classification,
            colour=rgb_of(row.colour),
            name=row.name,
            measurements=row.measurements,
            id=str(row.external_id),
            metadata=({NOTE_KEY: row.note} if row.note else {}) | ({ROLE_KEY: row.role} if row.role in PROCESSED else {}),
        )
        for row in regions_of_slide(user, slide)
    ]
    patient = slide.sample.patient
    record(user, "export regions", slide, cohort_id=patient.cohort_id, patient_code=patient.code)
    return write_geojson(rows, origin_of(slide, whole_file))


def origin_of(slide: Slide, whole_file: bool) -> tuple[float, float]:
    """Where the working slide's first pixel lies in the coordinates of a file, px0."""
    x, y = slide.facts.get("origin_px0", (0, 0)) if whole_file else (0, 0)
    return float(x), float(y)


def hex_of(colour: tuple[int, int, int] | None) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour) if colour else ""


def rgb_of(colour: str) -> tuple[int, int, int] | None:
    return (int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)) if colour else None


FILLED = (
    *("role", "geometry", "n_points", "area_px0", "object_type", "classification", "colour", "name", "note", "measurements", "source"),
    "file",
)


def _fill(row: Region, region: Any, role: str, found: RegionImport) -> None:
    row.role = role
    row.geometry, row.n_points, row.area_px0 = measures(region.geometry)
    row.object_type, row.classification, row.colour = region.object_type, region.classification, hex_of(region.colour)
    row.name, row.note = region.name, region.metadata.get(NOTE_KEY, "")[:2000]
    row.measurements, row.source, row.file = region.measurements, Region.Source.IMPORTED, found


def _roles(classes: list[dict[str, Any]], given: Mapping[int, str]) -> dict[tuple[str, str], str]:
    if unknown := [place for place in given if place not in range(len(classes))]:
        raise TissueboardError(Code.BAD_REQUEST, f"The file has no class number {unknown[0]}.", "Reload the page.", where="roles")
    return {
        (row["object_type"], row["classification"]): checked_role(given.get(place, row["role"]), row["areas"] > 0)
        for place, row in enumerate(classes)
    }


def _points_in(regions: list[Any]) -> int:
    import shapely

    return int(sum(shapely.get_num_coordinates([r.geometry for r in regions])))


def _known_ids(slide: Slide) -> set[str]:
    return {str(one) for one in Region.objects.filter(slide=slide, removed_at__isnull=True).values_list("external_id", flat=True)}


def _waiting(found: RegionImport) -> RegionImport:
    now = RegionImport.objects.select_for_update(of=("self",)).select_related("slide__sample__patient").get(pk=found.pk)
    if now.state != RegionImport.State.WAITING:
        sentence = f"This file was {now.state} already."
        raise TissueboardError("IMPORT_FINISHED", sentence, "Send it again to bring it in.", status=409)
    return now


def _drop_stale(slide: Slide) -> None:
    """Files that nobody came back for are let go, so that their bytes do not stay."""
    stale = RegionImport.objects.filter(slide=slide, state=RegionImport.State.WAITING, created_at__lt=timezone.now() - WAITS)
    stale.update(state=RegionImport.State.DISCARDED, content=b"", finished_at=timezone.now())
