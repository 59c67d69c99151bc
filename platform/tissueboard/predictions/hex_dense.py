"""H&E slide -> map of overlapping tiles with a version of HEX: a finer pitch, kept beside the map of tiles side by side.

Features and niches stay on tiles side by side, so that a tissue counts once in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.slides.tiling import grid_of

from .dense_maps import MOST_TILES, check_stride
from .hex_apply import TileInference, values_of
from .map_outputs import save_map
from .models import Prediction
from .publishing import publish_output
from .sources import Source, load_source, skipped_facts

if TYPE_CHECKING:
    from ml.types import TileGrid


def make_dense_map(ctx: JobContext) -> Done:
    """Job predictions.dense_map. params: slide, version, stride_um. Finished blocks survive the attempt; the only output is the map.

    Refusals: STRIDE_INVALID, STRIDE_TOO_FINE, TOO_MANY_TILES, and those of predictions.virtual_map.
    """
    source = load_source(ctx.params)
    work = DenseInference(source, ctx.params["stride_um"])
    arrays, grid = work.run(ctx)
    ctx.progress(0.9, "saving")
    key, sha, facts = save_map(source, grid, arrays, work.choice, work.stride_um)
    fields = {
        "job_id": ctx.job_id,
        "fold": work.choice.fold,
        "in_sample": work.choice.in_sample,
        "inputs": source.inputs(),
        "code_version": ctx.code_version,
        "key": key,
        "sha256": sha,
        "facts": {**facts, "stride_um": work.stride_um, **skipped_facts(work.skipped)},
    }
    kind = Prediction.Kind.DENSE_MAP
    return Done([OutputSpec(kind, key, {"sha256": sha})], lambda: publish_output(source, kind, fields))


class DenseInference(TileInference):
    """One pass over tiles that overlap, for their values alone."""

    def __init__(self, source: Source, stride_um: float):
        from ml import families

        super().__init__(source)
        check_stride(source.slide, self.weights.config.tile_um, stride_um)
        self.config = families.config("hex", "predict", {"stride_um": stride_um})
        self.stride_um: float = self.config.stride_um

    def grid(self, opened: Any) -> TileGrid:
        """Tiles every `stride_um` on the tissue of the open slide, at most MOST_TILES."""
        return grid_of(self.source.slide, opened, self.weights.config.tile_um, self.stride_um, most=MOST_TILES)

    def compute(self, source: Any) -> Any:
        """(b, side, side, 3) uint8 -> {values (b, P), out_of_range (b,) where known}."""
        from ml.hex.predict import infer

        fold = self.choice.fold

        def compute(tiles: Any) -> dict[str, Any]:
            # Vectors are not kept, so no other fold is asked for its own.
            return values_of(infer(self.weights, tiles, fold, self.config, features_fold=fold or 0))

        return compute
