"""From a sealed original to a ready slide: working slide, thumbnail, quality, and the stamp by which jobs know the file again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml.slides.findings import Finding
from tissueboard.slides.integrity import STAMP, stamp_of
from tissueboard.slides.models import Slide
from tissueboard.store import store

from .sealing import main_file

THUMBNAIL_PX = 512
KEPT_OF_WORKING = ("levels", "origin_px0", "lossless", "pixels", "removed", "colour_profile")


def make_files(slide: Slide, mpp: float | None, tick: Any = None, advance: Any = None) -> list[Finding]:
    """Writes the working slide and its thumbnail, sets what a ready slide must have (saves nothing), and gives warnings about quality.

    mpp: um per px0 that a person stated. advance: called when the working slide is there. Errors: SlideError; OSError of a full disk.
    """
    from ml.slides.isolate import make_working_isolated

    temp, thumbnail, key = store.new_temp(".tif"), store.new_temp(".jpg"), f"slides/{slide.pk}/working.tif"
    try:
        made = make_working_isolated(main_file(slide.sealed_key), temp, mpp, tick=tick)
        if advance:
            advance()
        quality, findings = _look_at(temp, thumbnail, slide)
        store.save(thumbnail, f"slides/{slide.pk}/thumbnail.jpg")
        slide.working_sha256 = store.save(temp, key)
    finally:
        temp.unlink(missing_ok=True)
        thumbnail.unlink(missing_ok=True)
    slide.working_key = key
    slide.mpp, (slide.width, slide.height) = made["mpp"], made["size"]
    kept = {name: made[name] for name in KEPT_OF_WORKING}
    slide.facts = {**slide.facts, **kept, "quality": quality, STAMP: stamp_of(store.path(key))}
    return findings


def _look_at(working: Path, thumbnail: Path, slide: Slide) -> tuple[dict[str, Any], list[Finding]]:
    """Writes a JPEG of at most 512 px (from the working slide, so without label or macro) and judges the slide's quality."""
    from ml.slides.quality import slide_quality
    from ml.slides.quality_limits import quality_findings
    from ml.slides.reader import open_slide
    from ml.slides.tissue import tissue_mask

    with open_slide(working) as opened:
        picture = opened.osr.get_thumbnail((THUMBNAIL_PX, THUMBNAIL_PX)).convert("RGB")
        picture.info.clear()
        picture.save(thumbnail, "JPEG", quality=85)
        quality = slide_quality(opened, tissue_mask(opened), slide.stain)
    return quality.to_dict(), quality_findings(quality, slide.name)
