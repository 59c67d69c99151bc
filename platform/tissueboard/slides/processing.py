"""Which regions say what is processed: the one reading of them that masks, idempotency keys, provenance and pages share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .models import Region, Slide

PROCESSED = (Region.Role.ANALYSE, Region.Role.EXCLUDE)


@dataclass(frozen=True)
class Restriction:
    """Areas (GeoJSON, px0) to analyse and to leave out. No area to analyse means the whole slide."""

    analyse: tuple[dict[str, Any], ...]
    exclude: tuple[dict[str, Any], ...]

    def __bool__(self) -> bool:
        return bool(self.analyse or self.exclude)

    @property
    def sha256(self) -> str:
        """Checksum of what it says, whatever the order in which it was drawn; "" for the whole slide."""
        if not self:
            return ""
        told = sorted(json.dumps([role, area], sort_keys=True) for role in ("analyse", "exclude") for area in getattr(self, role))
        return hashlib.sha256("\n".join(told).encode()).hexdigest()


def restriction_of(slide: Slide) -> Restriction:
    """What the regions of a slide say at this moment."""
    return restrictions_of([slide])[slide.pk]


def restrictions_of(slides: Iterable[Slide]) -> dict[int, Restriction]:
    """The same for many slides with one query, by id."""
    found: dict[int, dict[str, list[dict[str, Any]]]] = {slide.pk: {role: [] for role in PROCESSED} for slide in slides}
    rows = Region.objects.filter(slide__in=found, removed_at__isnull=True, role__in=PROCESSED).order_by("pk")
    for slide_id, role, geometry in rows.values_list("slide_id", "role", "geometry"):
        found[slide_id][role].append(geometry)
    return {pk: Restriction(tuple(by[Region.Role.ANALYSE]), tuple(by[Region.Role.EXCLUDE])) for pk, by in found.items()}
