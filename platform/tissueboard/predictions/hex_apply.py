"""H&E slide -> feature bag and virtual protein map, with a version of HEX."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import choose_fold, weights_path
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import grid_of, open_working
from tissueboard.store import store

from .models import Prediction

BLOCK = 512
SCALE_TILES = 256
# Kept beside the features so that niches can be made without reading the tiles again.
MORPHOLOGY = "morphology"


@dataclass(frozen=True)
class Source:
    """What an output was made from, for its provenance."""

    slide: Slide
    version: ModelVersion

    def inputs(self) -> dict[str, str]:
        return {"working slide": self.slide.working_sha256, "weights": self.version.sha256}


def apply_hex(ctx: JobContext) -> Done:
    """Job predictions.virtual_map. params: slide, version. Reads every tile once; both outputs come from that one pass."""
    source = load_source(ctx.params)
    fold_of = _Infer(source)
    arrays, grid = fold_of.run(ctx)
    ctx.progress(0.9, "saving")
    bag_key, bag_sha = _save_bag(source, grid, arrays)
    map_key, map_sha, map_facts = _save_map(source, grid, arrays)

    def publish() -> None:
        common = {
            "patient": source.slide.sample.patient,
            "job_id": ctx.job_id,
            "fold": fold_of.choice.fold,
            "in_sample": fold_of.choice.in_sample,
            "inputs": source.inputs(),
            "code_version": ctx.code_version,
        }
        for kind, key, sha, facts in (
            (Prediction.Kind.FEATURE_BAG, bag_key, bag_sha, {"n_tiles": len(grid), "tile_um": grid.tile_um, "features_fold": 0}),
            (Prediction.Kind.VIRTUAL_MAP, map_key, map_sha, map_facts),
        ):
            Prediction.objects.update_or_create(
                slide=source.slide, kind=kind, version=source.version, defaults={**common, "key": key, "sha256": sha, "facts": facts}
            )

    outputs = [OutputSpec("feature bag", bag_key, {"sha256": bag_sha}), OutputSpec("virtual map", map_key, {"sha256": map_sha})]
    return Done(outputs, publish)


def load_source(params: dict[str, Any]) -> Source:
    """Slide and version named by a job's params; JobRefused where the slide is not ready."""
    slide = Slide.objects.select_related("sample__patient__cohort").get(pk=params["slide"])
    if slide.state != Slide.State.READY:
        raise JobRefused("SLIDE_NOT_READY", f"The slide {slide.name} is not ready: {slide.state}.", "Resolve its findings first.")
    return Source(slide, ModelVersion.objects.get(pk=params["version"]))


class _Infer:
    """One pass over the tiles of a slide."""

    def __init__(self, source: Source):
        from ml.hex.checkpoint import load

        self.source = source
        self.weights = load(weights_path(source.version))
        self.choice = choose_fold(source.version, source.slide.sample.patient, len(self.weights.folds))

    def run(self, ctx: JobContext) -> tuple[dict[str, Any], Any]:
        """{features (n, d), values (n, P), out_of_range (n,), morphology (n, m)} and the tile grid."""
        import numpy as np

        from ml.hex.predict import infer
        from ml.slides.morphology import stain_scale, tile_morphology

        config = self.weights.config
        parts: dict[str, list[Any]] = {"features": [], "values": [], "out_of_range": [], MORPHOLOGY: []}
        with open_working(self.source.slide) as slide:
            grid = grid_of(self.source.slide, slide, config.tile_um)
            if not len(grid):
                raise JobRefused(
                    "NO_TISSUE", f"No tile of {config.tile_um:g} um has enough tissue.", "Check the slide; it may be empty or too small."
                )
            side = max(config.input_px, 112)
            # One scale for the whole slide, from tiles all over it, or a block of tiles would be compared with itself.
            spread = np.linspace(0, len(grid) - 1, min(len(grid), SCALE_TILES)).astype(int)
            scale = stain_scale(slide.tile_array(replace(grid, xy=grid.xy[spread], tissue=None), side))
            for done, tiles in enumerate(slide.tiles(grid, side, batch=BLOCK)):
                answer = infer(self.weights, tiles, self.choice.fold)
                parts["features"].append(answer.features)
                parts["values"].append(answer.values)
                parts["out_of_range"].append(answer.out_of_range)
                parts[MORPHOLOGY].append(tile_morphology(tiles, scale, mpp=grid.tile_um / side))
                ctx.progress(0.85 * min(1.0, (done + 1) * BLOCK / len(grid)), f"{min((done + 1) * BLOCK, len(grid))} of {len(grid)} tiles")
        return {name: np.concatenate(blocks) for name, blocks in parts.items()}, grid


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
    key = f"slides/{source.slide.pk}/bag-{source.version.pk}.h5"
    return key, store.save(temp, key)


def _save_map(source: Source, grid: Any, arrays: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    import numpy as np

    from ml.hex.predict import to_map
    from ml.slides.map_files import write_map

    resolution = source.version.metrics.get("effective_resolution_um")
    virtual = to_map(arrays["values"], grid, source.version.panel, arrays["out_of_range"], effective_resolution_um=resolution)
    temp = store.new_temp(".zarr")
    write_map(temp, virtual, mpp=grid.mpp)
    key = f"slides/{source.slide.pk}/map-{source.version.pk}.ome.zarr"
    sha = store.save(temp, key)
    far = arrays["out_of_range"]
    facts = {
        "names": list(virtual.names),
        "pitch_um": virtual.pitch_um,
        "effective_resolution_um": virtual.effective_resolution_um,
        "rows": virtual.values.shape[1],
        "cols": virtual.values.shape[2],
        "origin_px0": list(virtual.origin_px0),
        "step_px0": virtual.step_px0,
        "out_of_range_share": float(np.mean(far > 1)),
        "out_of_range_median": float(np.median(far)),
        "n_tiles": len(grid),
        "unit": virtual.unit,
    }
    return key, sha, facts
