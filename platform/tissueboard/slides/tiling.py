"""Which part of a slide is processed: the one place that every job takes its tissue mask and tile grid from."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tissueboard.errors import TissueboardError
from tissueboard.store import store

from .integrity import check_unchanged, refusal_of
from .models import Slide
from .processing import restriction_of, restrictions_of

if TYPE_CHECKING:
    from ml.slides.reader import Slide as OpenSlide
    from ml.slides.tissue import TissueMask
    from ml.types import TileGrid


def open_working(slide: Slide) -> OpenSlide:
    """The working slide, open for reading at its stored um per pixel.

    Errors: TissueboardError FILE_MISSING, FILE_CHANGED where it is not the imported file any more, OPEN_FAILED.
    """
    from ml.slides.findings import SlideError
    from ml.slides.reader import open_slide

    check_unchanged(slide)
    try:
        return open_slide(store.path(slide.working_key), mpp=slide.mpp)
    except SlideError as error:
        raise refusal_of(error, slide) from error


def mask_key() -> str:
    """What makes the house's tissue masks different from Otsu's: "" or name and checksum of the network. TissueboardError as `mask_of`."""
    from django.conf import settings

    if settings.TISSUE_MASK == "otsu":
        return ""
    from ml.slides.findings import SlideError
    from ml.slides.masks import method_key

    try:
        return method_key(settings.TISSUE_MASK, settings.TISSUE_MASK_WEIGHTS)
    except SlideError as error:
        raise TissueboardError(error.code, error.sentence, error.hint, where=error.where, status=409) from error


def mask_of(slide: Slide, opened: OpenSlide) -> TissueMask:
    """The tissue of a slide that may be processed: inside its regions to analyse (the whole slide, if it has none), without those left out.

    The regions are those of this moment; `inputs_of` of the same slide object names them afterwards. The method is the setting TISSUE_MASK.
    Errors: TissueboardError MASK_WEIGHTS_MISSING, MASK_WEIGHTS_INVALID, LEVEL_TOO_LOW, TILE_UNREADABLE.
    """
    from django.conf import settings

    from ml.slides.findings import SlideError
    from ml.slides.masks import mask_method
    from ml.slides.regions import Region, from_json, restrict
    from ml.slides.tissue import tissue_mask

    restriction = restriction_of(slide)
    slide.processed_regions = restriction.sha256
    try:
        mask = tissue_mask(opened, method=mask_method(settings.TISSUE_MASK, settings.TISSUE_MASK_WEIGHTS))
    except SlideError as error:
        raise refusal_of(error, slide) from error
    if not restriction:
        return mask
    include, exclude = ([Region(from_json(area)) for area in areas] for areas in (restriction.analyse, restriction.exclude))
    return restrict(mask, include, exclude)


def grid_of(
    slide: Slide, opened: OpenSlide, tile_um: float, step_um: float | None = None, min_tissue: float = 0.3, most: int | None = None
) -> TileGrid:
    """Tiles of `tile_um` every `step_um` (default: side by side) on the tissue that may be processed. tile_um, step_um: um.

    most: tiles that there may be. Raises TissueboardError TOO_MANY_TILES (before they are laid, where their number is plain);
    NO_TILE_IN_REGIONS where the regions of the slide leave no tile; a slide without regions gives an empty grid.
    """
    from ml.slides.grid import tile_grid

    mask, step = mask_of(slide, opened), step_um or tile_um
    if most is not None:
        check_tiles(slide, round(mask.area_mm2 * 1e6 / step**2), step, most)
    grid = tile_grid(mask, opened, tile_um=tile_um, step_um=step, min_tissue=min_tissue)
    if most is not None:
        check_tiles(slide, len(grid), step, most)
    if not len(grid) and slide.processed_regions:
        raise TissueboardError(
            "NO_TILE_IN_REGIONS",
            f"The regions of the slide {slide.name} leave no tile of {tile_um:g} um with at least {min_tissue:.0%} tissue.",
            "Draw larger regions to analyse on the tissue, or leave out less of it.",
            status=409,
        )
    return grid


def check_tiles(slide: Slide, n: int, step_um: float, most: int) -> None:
    """TissueboardError TOO_MANY_TILES where n tiles every `step_um` are more than there may be; it names a step that would do."""
    if n > most:
        enough = math.ceil(10 * step_um * math.sqrt(n / most)) / 10
        raise TissueboardError(
            "TOO_MANY_TILES",
            f"A stride of {step_um:g} um takes about {n:,} tiles of the slide {slide.name}; at most {most:,} are computed at once.",
            f"Take a stride of {enough:g} um or more, or draw a region to analyse and make the map of that.",
            where="stride_um",
            status=409,
        )


def input_key(slide: Slide) -> str:
    """What makes the slide as an input a different one (part of every job's key): its pixels, the regions processed, a learned mask.

    Outputs are replaced in place, so going back to earlier regions must be a new job too: the count of changes is part of the key.
    """
    return input_keys([slide])[slide.pk]


def input_keys(slides: Iterable[Slide]) -> dict[int, str]:
    """`input_key` by slide id, with two queries however many slides there are."""
    pixels = {slide.pk: slide for slide in slides}
    revisions = dict(Slide.objects.filter(pk__in=pixels, regions_revision__gt=0).values_list("pk", "regions_revision"))
    restrictions = restrictions_of(pixels[pk] for pk in revisions)
    keys = {pk: slide.working_sha256 for pk, slide in pixels.items()}
    keys |= {pk: f"{keys[pk]}:{restrictions[pk].sha256}:{revision}" for pk, revision in revisions.items()}
    return {pk: f"{key}:{method}" for pk, key in keys.items()} if (method := mask_key()) else keys


def inputs_of(slide: Slide) -> dict[str, str]:
    """Checksums of what a job made its output from: the pixels and, where regions restricted them, the regions that `mask_of` took.

    Of a slide object that no mask was taken of, the regions of this moment.
    """
    regions = restriction_of(slide).sha256 if slide.processed_regions is None else slide.processed_regions
    named = {"working slide": slide.working_sha256, "regions": regions, "tissue mask": mask_key()}
    return {name: value for name, value in named.items() if value}
