"""Asking for a map of overlapping tiles: which strides are possible on a slide, and the job that makes it."""

from __future__ import annotations

import math
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.errors import TissueboardError
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import check_tiles, input_key

from .selectors import dense_map_beside, maps_of_slide
from .sources import Source

KIND = "predictions.dense_map"
# About half an hour of the small encoder on one core; reading the tiles is fifty times as fast as encoding them.
MOST_TILES = 1_000_000


def ask_dense_map(user: Any, slide: Slide, stride_um: float) -> Job:
    """Starts the map of overlapping tiles with the version of the slide's current virtual map; asking twice finds the same job.

    stride_um: distance of neighbouring tiles, finer than the tile. A slide keeps one such map per version: another stride replaces it.
    Needs contributor. Raises TissueboardError SLIDE_NOT_READY, NO_MAP, STRIDE_INVALID, STRIDE_TOO_FINE, TOO_MANY_TILES.
    """
    patient = slide.sample.patient
    require(user, patient.cohort, Role.CONTRIBUTOR)
    if slide.state != Slide.State.READY:
        sentence = f"The slide {slide.name} is not ready: {slide.state}."
        raise TissueboardError("SLIDE_NOT_READY", sentence, "Resolve its findings first.", status=409)
    current = next(iter(maps_of_slide(user, slide)), None)
    if current is None:
        sentence = f"The slide {slide.name} has no virtual map yet, and a finer one is made beside it."
        raise TissueboardError("NO_MAP", sentence, "Run the case pipeline first.", status=409)
    tile_um = float(current.version.pitch_um or current.facts["pitch_um"])
    stride_um = check_stride(slide, tile_um, stride_um)
    if slide.tissue_mm2 is not None and not slide.regions_revision:
        check_tiles(slide, round(slide.tissue_mm2 * 1e6 / stride_um**2), stride_um, MOST_TILES)
    older = dense_map_beside(user, current)
    if older is not None and older.facts["stride_um"] == stride_um and older.inputs == Source(slide, current.version).inputs():
        return older.job
    params = {"slide": slide.pk, "version": current.version_id, "stride_um": stride_um}
    # Going back to an earlier stride is a new job: its map is not there any more.
    key = f"{input_key(slide)}:{older.job_id if older else ''}"
    job = enqueue(user, KIND, params, cohorts=[patient.cohort], key=key)
    record(user, "ask for dense map", slide, cohort_id=patient.cohort_id, patient_code=patient.code)
    return job


def check_stride(slide: Slide, tile_um: float, stride_um: Any) -> float:
    """The stride as a number of um; TissueboardError STRIDE_INVALID (no number, not above 0, not below the tile), STRIDE_TOO_FINE."""
    try:
        found = float(stride_um)
    except (TypeError, ValueError):
        found = math.nan
    if not 0 < found < tile_um:
        raise TissueboardError(
            "STRIDE_INVALID",
            f"The stride is {str(stride_um)[:40] or 'missing'}; a number of um above 0 and below the tile of {tile_um:g} um was expected.",
            "A quarter of the tile is a good start.",
            where="stride_um",
        )
    if slide.mpp and found < slide.mpp:
        raise TissueboardError(
            "STRIDE_TOO_FINE",
            f"A stride of {found:g} um is less than a pixel of the slide ({slide.mpp:g} um).",
            "Tiles begin at whole pixels; take a pixel or more.",
            where="stride_um",
        )
    return found
