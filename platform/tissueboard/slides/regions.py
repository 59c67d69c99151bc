"""What people do with regions of a slide: draw, describe, remove. Each in one transaction with its row in the access log."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import Count, F, Sum
from django.utils import timezone

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.errors import Code, TissueboardError

from .models import Region, Slide
from .processing import PROCESSED

MAX_REGIONS = 20_000
MAX_POINTS = 1_000_000
MAX_POINTS_DRAWN = 20_000
LENGTHS = {"classification": 200, "name": 200, "note": 2000}


@transaction.atomic
def draw_region(
    user: Any,
    slide: Slide,
    *,
    geometry: Any,
    role: str = Region.Role.ANNOTATION,
    classification: str = "",
    name: str = "",
    note: str = "",
) -> tuple[Region, list[str]]:
    """Keeps what a person outlined, or the place of a note. geometry: GeoJSON in px0. Needs contributor.

    Gives the region and what had to be mended ("cut at the edge"), as sentences. Raises NotVisible, RoleMissing, TissueboardError
    (`where` names the field).
    """
    slide = locked(user, slide)
    area, said = checked_geometry(geometry, slide)
    region = Region(slide=slide, created_by=user, **texts(classification=classification, name=name, note=note))
    region.role, region.geometry, region.n_points, region.area_px0 = checked_role(role, area), *measures(area)
    if not (region.area_px0 or region.note or region.name):
        raise TissueboardError(Code.BAD_REQUEST, "The note is empty.", "Write what is to be seen at this place.", where="note")
    check_room(slide, 1, region.n_points)
    region.colour = colour_here(slide, region.classification)
    region.save()
    processing_changed(slide, region.role)
    log(user, "draw region", region)
    return region, said


@transaction.atomic
def edit_region(
    user: Any,
    region: Region,
    *,
    role: str | None = None,
    classification: str | None = None,
    name: str | None = None,
    note: str | None = None,
) -> Region:
    """Changes what is said of a region; None leaves it. Needs contributor. Raises as `draw_region`."""
    slide = locked(user, region.slide)
    region = live(region)
    given = {"classification": classification, "name": name, "note": note}
    new = texts(**{key: text for key, text in given.items() if text is not None})
    before = region.role
    if role is not None:
        new["role"] = checked_role(role, region.area_px0 > 0)
    changed = [key for key, value in new.items() if getattr(region, key) != value]
    if not changed:
        return region
    for key in changed:
        setattr(region, key, new[key])
    if "classification" in changed:
        region.colour = colour_here(slide, region.classification)
        changed.append("colour")
    region.changed_by, region.changed_at = user, timezone.now()
    region.save(update_fields=[*changed, "changed_by", "changed_at"])
    if region.role != before:
        processing_changed(slide, before, region.role)
    log(user, "edit region", region)
    return region


@transaction.atomic
def remove_region(user: Any, region: Region) -> None:
    """Takes a region off the slide; its row stays for the history of what was made with it. Needs contributor."""
    slide = locked(user, region.slide)
    region = live(region)
    region.removed_by, region.removed_at = user, timezone.now()
    region.save(update_fields=["removed_by", "removed_at"])
    processing_changed(slide, region.role)
    log(user, "remove region", region)


# --- what both ways in (drawn, imported) share


def locked(user: Any, slide: Slide) -> Slide:
    """The slide, held until the end of the transaction, for a contributor. Raises NotVisible, RoleMissing, SLIDE_NOT_READY."""
    require(user, slide.sample.patient.cohort, Role.CONTRIBUTOR)
    return need_ready(Slide.objects.select_for_update(of=("self",)).select_related("sample__patient__cohort").get(pk=slide.pk))


def need_ready(slide: Slide) -> Slide:
    """The slide, if it has a picture to draw on; TissueboardError SLIDE_NOT_READY otherwise."""
    if slide.state != Slide.State.READY:
        raise TissueboardError(
            "SLIDE_NOT_READY", f"The slide {slide.name} is not ready: {slide.state}.", "Resolve its findings first.", status=409
        )
    return slide


def live(region: Region) -> Region:
    """The region as it is now, held; TissueboardError where somebody removed it in the meantime."""
    now = Region.objects.select_for_update().filter(pk=region.pk, removed_at__isnull=True).first()
    if now is None:
        raise TissueboardError("REGION_REMOVED", "This region was removed in the meantime.", "Reload the page.", status=409)
    return now


def checked_geometry(geometry: Any, slide: Slide) -> tuple[Any, list[str]]:
    """A shapely geometry on the slide, and what had to be mended."""
    from ml.slides.geojson_feature import Notes, Refused, read_feature

    notes = Notes(file="")
    if _positions(geometry.get("coordinates") if isinstance(geometry, dict) else None) > MAX_POINTS_DRAWN:
        raise _too_many_points()
    try:
        read = read_feature({"type": "Feature", "geometry": geometry}, notes, (slide.width, slide.height), (0.0, 0.0))
    except Refused as reason:
        raise TissueboardError(reason.code, reason.sentence, "Draw it again on the slide.", where="geometry") from None
    if measures(read.geometry)[1] > MAX_POINTS_DRAWN:  # mending and cutting add some
        raise _too_many_points()
    return read.geometry, [finding.sentence for finding in notes.found]


def _positions(coordinates: Any) -> int:
    """Positions in nested lists of GeoJSON, before anything is made of them."""
    n, rest = 0, [coordinates]
    while rest:
        found = rest.pop()
        if isinstance(found, list) and any(isinstance(one, list) for one in found):
            rest += found
        else:
            n += 1
    return n


def _too_many_points() -> TissueboardError:
    sentence = f"The outline has more than {MAX_POINTS_DRAWN:,} points."
    return TissueboardError("TOO_MANY_VERTICES", sentence, "Draw it with fewer points.", where="geometry")


def measures(geometry: Any) -> tuple[dict[str, Any], int, float]:
    """(GeoJSON, number of points, area in square px0) of a shapely geometry, as they are kept."""
    import shapely

    from ml.slides.regions import to_json

    return to_json(geometry), int(shapely.get_num_coordinates(geometry)), float(geometry.area)


def checked_role(role: str, is_area: Any) -> str:
    """The role; TissueboardError where it is none, or where a line or point would say what is processed."""
    if role not in Region.Role.values:
        sentence = f"The role {str(role)[:20]!r} is not known."
        raise TissueboardError(Code.BAD_REQUEST, sentence, f"Use one of: {', '.join(Region.Role.values)}.", where="role")
    area = is_area if isinstance(is_area, bool) else is_area.area > 0
    if role in PROCESSED and not area:
        sentence = "A line or a point cannot say what is processed."
        raise TissueboardError("ROLE_NEEDS_AREA", sentence, "Draw an area, or keep it as an annotation.", where="role")
    return role


def texts(**given: str) -> dict[str, str]:
    """The texts without control characters; TissueboardError where one is too long (`where` names it)."""
    kept = {}
    for field, text in given.items():
        lines = ("".join(c for c in line if c.isprintable()).strip() for line in str(text).splitlines())
        kept[field] = ("\n" if field == "note" else " ").join(lines).strip()
        if len(kept[field]) > LENGTHS[field]:
            sentence = f"The {field} has {len(kept[field]):,} characters; it may have {LENGTHS[field]:,}."
            raise TissueboardError(Code.BAD_REQUEST, sentence, "Say it in fewer words.", where=field)
    return kept


def check_room(slide: Slide, regions: int, points: int) -> None:
    """TissueboardError TOO_MANY_REGIONS where the slide would hold more than the viewer can draw."""
    here = Region.objects.filter(slide=slide, removed_at__isnull=True).aggregate(n=Count("pk"), points=Sum("n_points"))
    if here["n"] + regions > MAX_REGIONS or (here["points"] or 0) + points > MAX_POINTS:
        raise TissueboardError(
            "TOO_MANY_REGIONS",
            f"The slide would have {here['n'] + regions:,} regions with {(here['points'] or 0) + points:,} points; "
            f"at most {MAX_REGIONS:,} with {MAX_POINTS:,} points can be kept.",
            "Bring in annotations without cells, or remove regions first.",
            status=409,
        )


def colour_here(slide: Slide, classification: str) -> str:
    """The colour that the class has on this slide already; "" where it has none."""
    if not classification:
        return ""
    known = Region.objects.filter(slide=slide, removed_at__isnull=True, classification=classification).exclude(colour="")
    return known.values_list("colour", flat=True).first() or ""


def processing_changed(slide: Slide, *roles: str) -> None:
    """Makes everything computed from the slide due again, if one of the roles says what is processed."""
    if set(roles) & set(PROCESSED):
        Slide.objects.filter(pk=slide.pk).update(regions_revision=F("regions_revision") + 1)


def log(user: Any, verb: str, obj: Any) -> None:
    patient = obj.slide.sample.patient
    record(user, verb, obj, cohort_id=patient.cohort_id, patient_code=patient.code)
