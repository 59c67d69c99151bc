"""H&E slide -> feature bag, with a version of an encoder. What it will need is known before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from django.conf import settings

from ml.slides.blocks import BlockFolder
from ml.slides.estimate import Estimate, bag_bytes, check_disk
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import grid_of, open_working
from tissueboard.store import checksum, store

from .models import Prediction
from .publishing import publish_output
from .sources import load_source, no_tissue, refusals, telling

if TYPE_CHECKING:
    from ml.encoders.extract import Extraction

KIND = "predictions.features"
RECENT = 20
BLOCKS = "features"


def make_features(ctx: JobContext) -> Done:
    """Job predictions.features. params: slide, version (family encoder). Finished blocks survive the attempt.

    Refusals: NO_TISSUE, DISK_TOO_FULL before the work, DISK_FULL in the middle of it, TOO_MANY_BAD_TILES, BLOCK_DAMAGED, those of
    `open_working`, `grid_of` and `load_version`.
    """
    from ml.encoders import EncoderError
    from ml.encoders.extract import extract
    from ml.slides.loader import TileSource
    from tissueboard.model_registry.encoders import load_version, refused

    source = load_source(ctx.params)
    if "imported" in source.version.config:
        sentence = f"The version {source.version.name} stands for features that were made elsewhere; it has no weights here."
        raise JobRefused("WEIGHTS_MISSING", sentence, "Choose an encoder that is registered with its weights.")
    encoder = load_version(source.version, _device(source.version))
    with open_working(source.slide) as opened:
        grid = grid_of(source.slide, opened, encoder.tile_um)
    if not len(grid):
        raise no_tissue(encoder.tile_um)
    blocks, temp = ctx.workdir / BLOCKS, store.new_temp(".h5")
    tiles = TileSource(store.path(source.slide.working_key), grid, source.slide.mpp)
    inputs = {**source.inputs(), "code": ctx.code_version}
    try:
        with refusals():
            _check_room(blocks, len(grid), encoder.dim)
            found = extract(tiles, encoder, temp, blocks, source.slide.name, inputs, progress=telling(ctx, 0.95))
        key = f"slides/{source.slide.pk}/features-{source.version.pk}-{checksum(temp)[:12]}.h5"
        sha256 = store.save(temp, key)
    except EncoderError as error:
        raise refused(error) from error
    finally:
        temp.unlink(missing_ok=True)
    facts = facts_of(found)
    fields = {"inputs": source.inputs(), "code_version": ctx.code_version, "facts": facts, "key": key, "sha256": sha256}
    output = OutputSpec(Prediction.Kind.FEATURE_BAG, key, {"sha256": sha256, **facts})
    return Done([output], lambda: publish_output(source, Prediction.Kind.FEATURE_BAG, {"job_id": ctx.job_id, **fields}))


def facts_of(found: Extraction) -> dict[str, Any]:
    """What is kept beside a bag: size, tile, speed, and the tiles that could not be read."""
    speed = found.tiles_per_second
    return {
        "n_tiles": found.n_tiles,
        "n_skipped": found.n_skipped,
        "skipped": found.skipped,
        "tile_um": found.tile_um,
        "dim": found.dim,
        "encoder": found.encoder,
        "seconds": round(found.seconds, 3),
        "tiles_per_second": None if speed is None else round(speed, 2),
        "reading": {"how": found.reading, "waited_seconds": round(found.waited_seconds, 3)},
        "done_before": found.done_before,
    }


def estimate_features(slide: Slide, version: ModelVersion) -> Estimate:
    """What the features of a slide will need, without opening it: tiles by a bag of the same tile, or by the area of the tissue.

    seconds: by what this version took for other slides here, None before the first. bytes: of the finished bag.
    """
    return estimate_many([slide], version)[slide.pk]


def estimate_many(slides: Iterable[Slide], version: ModelVersion) -> dict[int, Estimate]:
    """`estimate_features` by slide id, with two queries however many slides there are."""
    slides = list(slides)
    tile_um, dim = _shape(version)
    speed = tiles_per_second(version)
    counted = _counted(slides, tile_um)
    tiles = {slide.pk: counted.get(slide.pk, _by_area(slide, tile_um)) for slide in slides}
    return {pk: Estimate(n, None if speed is None else n / speed, bag_bytes(n, dim)) for pk, n in tiles.items()}


def tiles_per_second(version: ModelVersion) -> float | None:
    """Median of the last bags that this version gave here; None before the first."""
    bags = Prediction.objects.filter(version=version, kind=Prediction.Kind.FEATURE_BAG, job__kind=KIND, facts__tiles_per_second__gt=0)
    found = list(bags.order_by("-created_at").values_list("facts__tiles_per_second", flat=True)[:RECENT])
    return float(median(found)) if found else None


def _counted(slides: list[Slide], tile_um: float) -> dict[int, int]:
    """By slide id: tiles of the newest bag with tiles of this side; none for a slide without one."""
    bags = Prediction.objects.filter(slide__in=slides, kind=Prediction.Kind.FEATURE_BAG).order_by("created_at")
    found = {}
    for slide_id, facts in bags.values_list("slide_id", "facts"):
        if abs(facts.get("tile_um", 0) - tile_um) < 0.01 * tile_um:
            found[slide_id] = int(facts["n_tiles"] + facts.get("n_skipped", 0))
    return found


def _by_area(slide: Slide, tile_um: float) -> int:
    if slide.tissue_mm2 is not None:
        area_um2 = slide.tissue_mm2 * 1e6
    else:
        area_um2 = slide.width * slide.height * (slide.mpp or 0) ** 2
    return round(area_um2 / tile_um**2)


def _shape(version: ModelVersion) -> tuple[float, int]:
    """(side of a tile in um, values per tile) of an encoder's version, from the catalogue; of imported features, as they came."""
    from ml.encoders import encoder

    if "imported" in version.config:
        return float(version.config["tile_um"]), int(version.config["dim"])
    spec = encoder(version.config["encoder"])
    return float(spec.tile_um), spec.dim


def _device(version: ModelVersion) -> str:
    """A GPU where there is one; fixed descriptors need none, nor torch."""
    from ml.encoders import EncoderError, encoder

    try:
        if encoder(version.config.get("encoder", "")).weight_free:
            return "cpu"
    except EncoderError:
        return "cpu"  # `load_version` says what is wrong with it
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_room(blocks: Path, n: int, dim: int) -> None:
    """SlideError DISK_TOO_FULL where the blocks, or the file beside them, will not fit. Blocks of an earlier attempt are there already."""
    size, there = bag_bytes(n, dim), sum(path.stat().st_size for path in blocks.glob("*.block")) if BlockFolder.begun(blocks) else 0
    Path(settings.JOBS_WORK_ROOT).mkdir(parents=True, exist_ok=True)
    store.root.mkdir(parents=True, exist_ok=True)
    if os.stat(settings.JOBS_WORK_ROOT).st_dev == os.stat(store.root).st_dev:
        check_disk(store.root, 2 * size, min(there, size))
    else:
        check_disk(settings.JOBS_WORK_ROOT, size, min(there, size))
        check_disk(store.root, size)
