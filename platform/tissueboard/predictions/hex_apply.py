"""H&E slide -> feature bag and virtual protein map, with a version of HEX."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.model_registry.services import choose_fold
from tissueboard.slides.tiling import grid_of, open_working
from tissueboard.store import checksum, store

from .hex_weights import load_hex, reading_px
from .map_outputs import save_map
from .models import Prediction
from .publishing import publish_output
from .sources import Source, load_source, no_tissue, refusals, skipped_facts, telling

if TYPE_CHECKING:
    from ml.types import TileGrid

SCALE_TILES = 256
BLOCKS = "hex"
# Kept beside the features so that niches can be made without reading the tiles again.
MORPHOLOGY = "morphology"


def apply_hex(ctx: JobContext) -> Done:
    """Job predictions.virtual_map. params: slide, version. Reads every tile once; both outputs come from that one pass."""
    source = load_source(ctx.params)
    work = TileInference(source)
    arrays, grid = work.run(ctx)
    ctx.progress(0.9, "saving")
    bag_key, bag_sha = _save_bag(source, grid, arrays)
    map_key, map_sha, map_facts = save_map(source, grid, arrays, work.choice)
    bag_facts = {"n_tiles": len(grid), "tile_um": grid.tile_um, "features_fold": 0, "dim": arrays["features"].shape[1]}
    left_out = skipped_facts(work.skipped)

    def publish() -> None:
        common = {
            "job_id": ctx.job_id,
            "fold": work.choice.fold,
            "in_sample": work.choice.in_sample,
            "inputs": source.inputs(),
            "code_version": ctx.code_version,
        }
        for kind, key, sha, facts in (
            (Prediction.Kind.FEATURE_BAG, bag_key, bag_sha, {**bag_facts, **left_out}),
            (Prediction.Kind.VIRTUAL_MAP, map_key, map_sha, {**map_facts, **left_out}),
        ):
            publish_output(source, kind, {**common, "key": key, "sha256": sha, "facts": facts})

    outputs = [OutputSpec("feature bag", bag_key, {"sha256": bag_sha}), OutputSpec("virtual map", map_key, {"sha256": map_sha})]
    return Done(outputs, publish)


class TileInference:
    """One pass over the tiles of a slide, in blocks that survive the attempt."""

    def __init__(self, source: Source):
        self.source = source
        self.weights = load_hex(source.version)
        self.choice = choose_fold(source.version, source.slide.sample.patient, len(self.weights.folds))
        config = self.weights.config
        self.side = reading_px(config.input_px, config.tile_um, source.slide.mpp)
        self.skipped: dict[int, str] = {}

    def run(self, ctx: JobContext) -> tuple[dict[str, Any], TileGrid]:
        """What `compute` gives, of all tiles that could be read, and their grid."""
        from ml.slides.loader import TileSource
        from ml.slides.tile_run import SlideWork, run_one

        slide = self.source.slide
        with open_working(slide) as opened:
            grid = self.grid(opened)
        if not len(grid):
            raise no_tissue(self.weights.config.tile_um)
        tiles = TileSource(store.path(slide.working_key), grid, slide.mpp)
        inputs = {**self.source.inputs(), "code": ctx.code_version, "fold": self.choice.fold}
        with refusals():
            compute = self.compute(tiles)
            done = run_one(SlideWork(slide.name, tiles, ctx.workdir / BLOCKS), compute, self.side, inputs, progress=telling(ctx, 0.85))
            arrays, kept, self.skipped = done.folder.arrays(), done.kept, done.folder.bad
        left = replace(grid, xy=grid.xy[kept], tissue=None if grid.tissue is None else grid.tissue[kept])
        return {name: array[kept] for name, array in arrays.items()}, left

    def grid(self, opened: Any) -> TileGrid:
        """Tiles side by side on the tissue of the open slide."""
        return grid_of(self.source.slide, opened, self.weights.config.tile_um)

    def compute(self, source: Any) -> Any:
        """(b, side, side, 3) uint8 -> {features (b, d), values (b, P), out_of_range (b,) where known, morphology (b, m)}.

        source: the TileSource that the slide's stain scale is measured on.
        """
        from ml.hex.predict import infer
        from ml.slides.morphology import tile_morphology

        scale = self._stain_scale(source)

        def compute(tiles: Any) -> dict[str, Any]:
            answer = infer(self.weights, tiles, self.choice.fold)
            morphology = tile_morphology(tiles, scale, mpp=source.grid.tile_um / self.side)
            return {"features": answer.features, MORPHOLOGY: morphology, **values_of(answer)}

        return compute

    def _stain_scale(self, source: Any) -> Any:
        """One scale for the whole slide, from tiles all over it, or a block of tiles would be compared with itself."""
        import numpy as np

        from ml.slides.findings import FindingCode, SlideError
        from ml.slides.loader import tile_batches
        from ml.slides.morphology import stain_scale

        spread = np.unique(np.linspace(0, len(source.grid) - 1, min(len(source.grid), SCALE_TILES)).astype(int))
        batches = list(tile_batches([replace(source, rows=spread)], self.side, SCALE_TILES))
        tiles = np.concatenate([batch.tiles[batch.readable] for batch in batches])
        if not len(tiles):
            told = next(iter(batches[0].reasons.values()))
            raise SlideError(
                FindingCode.TILE_UNREADABLE, f"None of {len(spread)} tiles can be read. The first: {told}", "Copy the slide again."
            )
        return stain_scale(tiles)


def values_of(answer: Any) -> dict[str, Any]:
    """{values (b, P), and out_of_range (b,) where the weights know their range} of a HexPrediction."""
    return {"values": answer.values} | ({} if answer.out_of_range is None else {"out_of_range": answer.out_of_range})


def _save_bag(source: Source, grid: Any, arrays: dict[str, Any]) -> tuple[str, str]:
    import h5py

    from ml.slides.features import write_bag
    from ml.types import FeatureBag

    temp = store.new_temp(".h5")
    encoder = f"{source.version.name}:fold0"
    write_bag(temp, FeatureBag(arrays["features"], grid, encoder), {"name": source.slide.name})
    with h5py.File(temp, "a") as file:
        file.create_dataset(MORPHOLOGY, data=arrays[MORPHOLOGY].astype("float32"))
        file.create_dataset("values", data=arrays["values"])
    key = f"slides/{source.slide.pk}/bag-{source.version.pk}-{checksum(temp)[:12]}.h5"
    return key, store.save(temp, key)
