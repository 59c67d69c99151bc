"""Which part of a slide is processed: the one place that every job takes its tissue mask and tile grid from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tissueboard.store import store

from .models import Slide

if TYPE_CHECKING:
    from ml.slides.reader import Slide as OpenSlide
    from ml.slides.tissue import TissueMask
    from ml.types import TileGrid


def open_working(slide: Slide) -> OpenSlide:
    """The working slide, open for reading at its stored um per pixel. Errors: SlideError as ml.slides.reader.open_slide."""
    from ml.slides.reader import open_slide

    return open_slide(store.path(slide.working_key), mpp=slide.mpp)


def mask_of(slide: Slide, opened: OpenSlide) -> TissueMask:
    """The tissue of a slide that may be processed."""
    from ml.slides.tissue import tissue_mask

    return tissue_mask(opened)


def grid_of(slide: Slide, opened: OpenSlide, tile_um: float, step_um: float | None = None, min_tissue: float = 0.3) -> TileGrid:
    """Tiles of `tile_um` every `step_um` (default: side by side) on the tissue that may be processed. tile_um, step_um: um."""
    from ml.slides.grid import tile_grid

    return tile_grid(mask_of(slide, opened), opened, tile_um=tile_um, step_um=step_um or tile_um, min_tissue=min_tissue)


def input_key(slide: Slide) -> str:
    """What makes the slide as an input a different one: the checksum of its pixels (part of every job's idempotency key)."""
    return slide.working_sha256
