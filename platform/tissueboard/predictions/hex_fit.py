"""Training a HEX on the measured slides of some cohorts."""

from __future__ import annotations

from typing import Any

from tissueboard.assays.models import Assay
from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import MEMBERSHIP_SALT, NewVersion, register
from tissueboard.slides.models import Slide
from tissueboard.slides.tiling import open_working
from tissueboard.store import store

LEAST_PATIENTS = 4


def fit_hex(ctx: JobContext) -> Done:
    """Job predictions.fit_hex. params: cohorts (ids), config (of HexFitConfig, without what the assays decide), name."""
    from pydantic import ValidationError

    from ml import families
    from ml.hex.checkpoint import save_fit

    cohorts = list(Cohort.objects.filter(pk__in=ctx.params["cohorts"]).order_by("pk"))
    tiles = _Tiles(cohorts, ctx)
    try:
        config = families.config("hex", "fit", {"markers": tuple(tiles.markers), "tile_um": tiles.tile_um, **ctx.params.get("config", {})})
    except ValidationError as error:
        raise JobRefused(
            "CONFIG_INVALID", f"The training's settings are not valid: {error.errors()[0]['msg']}.", "Correct them."
        ) from error
    tiles.read(config.input_px)
    result = families.runner("hex", "fit")(
        tiles.images,
        tiles.labels,
        tiles.patients,
        tiles.slides,
        tiles.markers,
        config,
        progress=lambda fraction, text: ctx.progress(0.15 + 0.75 * fraction, text),
        checkpoint_dir=ctx.workdir,
        strata=tiles.sites,
    )
    simulated = all(c.simulated for c in cohorts)
    label = ModelVersion.Label.SIMULATED if simulated else ModelVersion.Label.TRAINED_HERE
    folder = store.new_temp()
    provenance = save_fit(
        result,
        folder,
        salt=MEMBERSHIP_SALT,
        code_version=ctx.code_version,
        label=label,
        inputs=tiles.checksums,
        facts={"cohorts": [c.name for c in cohorts], "job": ctx.job_id},
    )
    key = f"models/hex/{ctx.job_id}"
    sha = store.save(folder, key)
    new = NewVersion(
        family="hex",
        name=ctx.params["name"],
        label=label,
        config=config.model_dump(mode="json"),
        key=key,
        sha256=sha,
        provenance={k: provenance[k] for k in ("made_at", "code_version", "inputs", "encoder", "facts")},
        licence="Apache-2.0",
        metrics=_metrics(result, tiles),
        members=dict(enumerate(provenance["membership"])),
        pitch_um=config.tile_um,
        panel=config.markers,
        pretraining_overlap=provenance["encoder"]["pretraining_overlap"],
    )

    def publish() -> None:
        # Simulated tissue is nobody's data: its model stands on no cohort and may be used everywhere, with its label.
        register(new, cohorts=[] if simulated else cohorts)

    return Done([OutputSpec("model", key, {"sha256": sha, "seconds": result.seconds})], publish)


class _Tiles:
    """Tile images and measured labels of all ready slides with an assay in the cohorts."""

    def __init__(self, cohorts: list[Cohort], ctx: JobContext):
        self.ctx = ctx
        assays = Assay.objects.filter(sample__patient__cohort__in=cohorts, slide__state=Slide.State.READY)
        self.assays = list(assays.select_related("slide", "panel", "sample__patient").order_by("pk"))
        people = {a.sample.patient.code for a in self.assays}
        if len(people) < LEAST_PATIENTS:
            raise JobRefused(
                "TOO_FEW_PATIENTS",
                f"{len(people)} patients have a ready slide with a measured panel; training takes {LEAST_PATIENTS}.",
                "Import more slides with assays.",
            )
        panels = {tuple(a.panel.markers) for a in self.assays}
        sizes = {a.tile_um for a in self.assays}
        if len(panels) > 1 or len(sizes) > 1:
            raise JobRefused("PANELS_DIFFER", "The assays differ in their panels or tile sizes.", "Train on assays of one panel and size.")
        self.markers = list(panels.pop())
        self.tile_um = sizes.pop()
        self.sites = {a.sample.patient.code: a.slide.site for a in self.assays}
        self.checksums = {f"assay {a.pk}": a.sha256 for a in self.assays} | {
            f"slide {a.slide_id}": a.slide.working_sha256 for a in self.assays
        }

    def read(self, input_px: int) -> None:
        """Reads all tiles at input_px: images (n, S, S, 3) uint8, labels (n, P) float32. Errors: those of `open_working`."""
        import numpy as np
        import pandas as pd

        from ml.types import TileGrid

        images: list[Any] = []
        labels: list[Any] = []
        self.xy_um: list[Any] = []
        self.patients: list[str] = []
        self.slides: list[str] = []
        for i, assay in enumerate(self.assays):
            self.ctx.progress(0.15 * i / len(self.assays), f"reading slide {i + 1} of {len(self.assays)}")
            table = pd.read_parquet(store.path(assay.key))
            with open_working(assay.slide) as slide:
                grid = TileGrid(table[["x", "y"]].to_numpy("int64"), self.tile_um / slide.need_mpp(), slide.need_mpp(), slide.size)
                images.append(slide.tile_array(grid, input_px))
                self.xy_um.append(grid.xy * slide.need_mpp())
            labels.append(table[self.markers].to_numpy("float32"))
            self.patients += [assay.sample.patient.code] * len(table)
            self.slides += [str(assay.slide_id)] * len(table)
        self.images, self.labels = np.concatenate(images), np.concatenate(labels)


def _metrics(result: Any, tiles: _Tiles) -> dict[str, Any]:
    """Metrics of the version's page, limits of colour bars, and the card, as plain JSON (NaN becomes null)."""
    import numpy as np

    from ml.hex.conformal import calibrate
    from ml.hex.resolution import effective_resolution

    scaled = result.weights.scale.apply(tiles.labels)
    resolution = effective_resolution(result.held_out, scaled, np.concatenate(tiles.xy_um), tiles.slides, tiles.tile_um)
    low, high = np.quantile(result.held_out, [0.01, 0.99], axis=0)
    names = result.weights.markers
    return plain(
        {
            **result.metrics(),
            "limits": {name: [float(a), float(b)] for name, a, b in zip(names, low, high)},
            "card": {
                row.marker: {
                    "r2": row.r2_within,
                    "r": row.r_within,
                    "r_lower": row.r_within_lower,
                    "r_upper": row.r_within_upper,
                    "n": row.patients,
                    "external_n": row.external_patients,
                    "locked": row.locked,
                    "reason": row.reason,
                }
                for row in result.card
            },
            # Every fitting patient calibrates: her tiles were predicted by the fold that never saw her.
            "conformal": calibrate(result.held_out, scaled, tiles.patients, names).to_dict(),
            "comparison": _comparison(result, tiles, scaled),
            "effective_resolution_um": resolution.um,
            "resolution_curve": resolution.curve,
        }
    )


def _comparison(result: Any, tiles: _Tiles, labels: Any) -> list[dict[str, Any]]:
    """HEX beside its baselines on the same folds and held-out patients: medians over slides, then over markers."""
    import numpy as np

    from ml.hex.baselines import baselines
    from ml.hex.evaluate import slide_figures

    predicted = {"HEX": result.held_out, **baselines(tiles.images, labels, tiles.patients, tiles.slides, result.fold_of)}
    rows = []
    for name, values in predicted.items():
        found = slide_figures(values, labels, tiles.slides, tiles.patients)
        row = {key: float(np.nanmedian(np.nanmedian(getattr(found, key), axis=0))) for key in ("r", "r2", "r2_raw")}
        rows.append({"name": name, **row})
    return rows


def plain(value: Any) -> Any:
    """The same with numpy numbers as Python's and NaN or infinity as None, so that Postgres takes it as JSON."""
    import math

    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
