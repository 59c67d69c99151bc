"""Regions as pages and scripts show them: words for roles, a colour per class, numbers with units."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from frontend.figures.palette import GROUPS

# (role, what a form says, one word)
ROLES = (
    ("annotation", "Only show it", "shown"),
    ("analyse", "Analyse inside it only", "analysed"),
    ("exclude", "Leave it out of the analysis", "left out"),
)
ROLE_COLOURS = {"analyse": "#0a5873", "exclude": "#43525f"}
# Okabe and Ito's colours, then the muted ones of Paul Tol: twelve that stay apart.
CLASS_COLOURS = (*(colour for colour, _ in GROUPS), "#332288", "#117733", "#882255", "#44AA99", "#999933", "#AA4499")
SOURCES = {"drawn": "drawn here", "imported": "from a file"}


@dataclass(frozen=True)
class Panel:
    """One region for people. area: with its unit, "" for lines and points."""

    row: Any
    title: str
    role: str
    colour: str
    shape: str
    area: str
    source: str
    measurements: list[tuple[str, float]]
    case: str


def area_text(mm2: float) -> str:
    """An area with three digits, small ones in um2; "" for none."""
    if not mm2:
        return ""
    return f"{mm2:.3g} mm²" if mm2 >= 0.001 else f"{mm2 * 1e6:.3g} µm²"


def role_word(role: str) -> str:
    return next(word for name, _, word in ROLES if name == role)


def panel_of(region: Any, slide: Any) -> Panel:
    """A region as its panel and the list of all show it."""
    case = reverse("case", kwargs={"patient_id": slide.sample.patient_id})
    return Panel(
        row=region,
        title=region.name or region.classification or ("Note" if not region.area_px0 else f"Region {region.pk}"),
        role=role_word(region.role),
        colour=colour_of(region.role, region.classification, region.colour),
        shape=region.geometry["type"],
        area=area_text(region.area_px0 * (slide.mpp / 1000) ** 2),
        source=SOURCES[region.source],
        measurements=sorted(region.measurements.items()),
        case=f"{case}?slide={slide.pk}&region={region.pk}#slide",
    )


def colour_of(role: str, classification: str, given: str) -> str:
    """#rrggbb of a region: its class's own, else one of the role's or the palette's that stays the same for a class everywhere."""
    if given:
        return given
    if role in ROLE_COLOURS:
        return ROLE_COLOURS[role]
    if not classification:
        return "#000000"
    return CLASS_COLOURS[int(hashlib.sha256(classification.lower().encode()).hexdigest(), 16) % len(CLASS_COLOURS)]


def drawing_data(regions: Any, slide: Any) -> dict[str, Any]:
    """A queryset of regions as {sha: of what is processed now, classes: [{role, word, name, colour, n}], regions: [{id, k, t, c}]}.

    k: place of the class; t, c: type and coordinates of the geometry in px0, to a tenth.
    """
    from tissueboard.slides.processing import restriction_of

    classes: dict[tuple[str, str], dict[str, Any]] = {}
    places: dict[tuple[str, str], int] = {}
    drawn = []
    fields = ("pk", "role", "classification", "colour", "geometry")
    for pk, role, name, colour, geometry in regions.values_list(*fields):
        key = (role, name)
        if key not in classes:
            places[key] = len(classes)
            classes[key] = {"role": role, "word": role_word(role), "name": name, "colour": colour_of(role, name, colour), "n": 0}
        classes[key]["n"] += 1
        drawn.append({"id": pk, "k": places[key], "t": geometry["type"], "c": _tenths(geometry["coordinates"])})
    return {"sha": restriction_of(slide).sha256, "classes": list(classes.values()), "regions": drawn}


def _tenths(value: Any) -> Any:
    return [_tenths(v) for v in value] if isinstance(value, list) else round(value, 1)
