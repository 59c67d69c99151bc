"""What a niche set is about: a slide, whose proteins are virtual, or a multiplex image, whose channels were measured."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from tissueboard.assays.models import MultiplexImage
from tissueboard.slides.models import Slide

Tissue = Slide | MultiplexImage


def is_measured(tissue: Tissue) -> bool:
    """Whether the values come from measured channels. The two kinds are never in one answer."""
    return isinstance(tissue, MultiplexImage)


def column(tissue: Tissue) -> dict[str, Any]:
    """{"slide": tissue} or {"image": tissue}: what a row about it has."""
    return {"image" if is_measured(tissue) else "slide": tissue}


def of_kind(measured: bool, path: str = "") -> Q:
    """Rows about images (measured) or slides. path: look-up from the row to what has both columns."""
    return Q(**{f"{path}{'image' if measured else 'slide'}__isnull": False})


def site_of(tissue: Tissue) -> str:
    """Where it was made; "" where that is not recorded, as of every image of measured channels."""
    return "" if isinstance(tissue, MultiplexImage) else tissue.site


def tissue_of(row: Any) -> Tissue:
    """The slide or image of a prediction or a niche."""
    found: Tissue = row.slide if row.slide_id is not None else row.image
    return found
