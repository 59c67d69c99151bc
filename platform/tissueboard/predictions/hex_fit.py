"""Training a HEX on the measured slides of some cohorts, from the start or from a version that is there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tissueboard.cohorts.models import Cohort
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import Member, ModelVersion
from tissueboard.model_registry.services import MEMBERSHIP_SALT, NewVersion, register
from tissueboard.store import store

from .hex_tiles import MeasuredTiles
from .hex_weights import encoder_file, load_hex
from .plain import plain
from .refusing import model_refusals

LEAST_PATIENTS = 4


def fit_hex(ctx: JobContext) -> Done:
    """Job predictions.fit_hex. params: cohorts (ids), config (of HexFitConfig, without what the assays decide), name; start: id of a HEX
    version to fine-tune from (optional)."""
    from pydantic import ValidationError

    from ml import families
    from ml.hex.checkpoint import save_fit

    cohorts = list(Cohort.objects.filter(pk__in=ctx.params["cohorts"]).order_by("pk"))
    tiles = MeasuredTiles(cohorts, ctx, LEAST_PATIENTS)
    try:
        config = families.config("hex", "fit", {"markers": tuple(tiles.markers), "tile_um": tiles.tile_um, **ctx.params.get("config", {})})
    except ValidationError as error:
        raise JobRefused(
            "CONFIG_INVALID", f"The training's settings are not valid: {error.errors()[0]['msg']}.", "Correct them."
        ) from error
    with model_refusals():
        weights = encoder_file(name=config.encoder)
        start = _start(ctx.params.get("start"), tiles, config)
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
            encoder_weights=None if weights is None else str(weights),
            record=ctx.curve,
            start=start.models,
        )
    simulated = all(c.simulated for c in cohorts) and start.simulated
    label = ModelVersion.Label.SIMULATED if simulated else ModelVersion.Label.TRAINED_HERE
    folder = store.new_temp()
    provenance = save_fit(
        result,
        folder,
        salt=MEMBERSHIP_SALT,
        code_version=ctx.code_version,
        label=label,
        inputs={**tiles.checksums, **start.inputs},
        facts={"cohorts": [c.name for c in cohorts], "job": ctx.job_id},
        seen_before=start.seen,
        encoder_weights=weights,
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
        licence=start.licence,
        metrics=_metrics(result, tiles),
        members=dict(enumerate(provenance["membership"])),
        pitch_um=config.tile_um,
        panel=config.markers,
        pretraining_overlap=provenance["encoder"]["pretraining_overlap"],
    )

    def publish() -> None:
        # Simulated tissue is nobody's data: its model stands on no cohort and may be used everywhere, with its label.
        register(new, cohorts=[] if simulated else cohorts, parents=start.parents)

    return Done([OutputSpec("model", key, {"sha256": sha, "seconds": result.seconds})], publish)


@dataclass(frozen=True)
class _Start:
    """What is fine-tuned. models: fold -> (model, its markers); seen: fold -> hashes of the patients that it saw."""

    models: dict[int, Any] = field(default_factory=dict)
    seen: dict[int, list[str]] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    parents: tuple[ModelVersion, ...] = ()
    simulated: bool = True
    licence: str = "Apache-2.0"


def _start(version_id: int | None, tiles: MeasuredTiles, config: Any) -> _Start:
    """For every new fold a fold of the older version that saw none of the patients whom the new one holds out."""
    if version_id is None:
        return _Start()
    from ml.training.splits import patient_folds, patient_hash

    version = ModelVersion.objects.get(pk=version_id, family="hex")
    older = load_hex(version)
    folds = patient_folds(tiles.sites, config.folds, config.seed, tiles.sites)
    saw: dict[int, set[str]] = {j: set() for j in range(len(older.folds))}
    for fold, digest in Member.objects.filter(version=version).values_list("fold", "patient_hash"):
        saw.setdefault(fold, set()).add(digest)
    models, seen = {}, {}
    for k in range(config.folds):
        held = {patient_hash(code, MEMBERSHIP_SALT) for code, fold in folds.items() if fold == k}
        free = next((j for j in saw if not saw[j] & held), None)
        if free is None:
            sentence = f"Every fold of {version} saw patients whom the new training must hold out."
            raise JobRefused("START_SAW_PATIENTS", sentence, "Fine-tune on other patients, or train from the start.")
        models[k] = (older.folds[free].model.cpu(), older.markers)
        seen[k] = sorted(saw[free])
    simulated = version.label == ModelVersion.Label.SIMULATED
    return _Start(models, seen, {f"weights of {version}": version.sha256}, (version,), simulated, version.licence)


def _metrics(result: Any, tiles: MeasuredTiles) -> dict[str, Any]:
    """Metrics of the version's page, limits of colour bars, and the card, as plain JSON (NaN becomes null)."""
    import numpy as np

    from ml.hex.conformal import calibrate
    from ml.hex.resolution import effective_resolution

    names = result.weights.markers
    scaled = result.weights.scale.apply(tiles.labels[:, [tiles.markers.index(name) for name in names]])
    resolution = effective_resolution(result.held_out, scaled, np.concatenate(tiles.xy_um), tiles.slides, tiles.tile_um)
    low, high = np.quantile(result.held_out, [0.01, 0.99], axis=0)
    return plain(
        {
            **result.metrics(),
            "limits": {name: [float(a), float(b)] for name, a, b in zip(names, low, high)},
            "card": card_rows(result.card),
            # Every fitting patient calibrates: her tiles were predicted by the fold that never saw her.
            "conformal": calibrate(result.held_out, scaled, tiles.patients, names).to_dict(),
            "comparison": _comparison(result, tiles, scaled),
            "effective_resolution_um": resolution.um,
            "resolution_curve": resolution.curve,
        }
    )


def card_rows(card: Any) -> dict[str, dict[str, Any]]:
    """The predictability card (rows of ml.hex.evaluate.CardRow) as the pages read it, by marker."""
    return {
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
        for row in card
    }


def _comparison(result: Any, tiles: MeasuredTiles, labels: Any) -> list[dict[str, Any]]:
    """HEX beside its baselines on the same folds and held-out patients: medians over slides, then over markers."""
    from ml.hex.baselines import baselines, cross_fit_ridge

    predicted = {"HEX": result.held_out, **baselines(tiles.images, labels, tiles.patients, tiles.slides, result.fold_of)}
    if result.vectors is not None:
        predicted["ridge on the same features"] = cross_fit_ridge(result.vectors, labels, tiles.patients, result.fold_of)
    return comparison_rows(predicted, labels, tiles)


def comparison_rows(predicted: dict[str, Any], labels: Any, tiles: MeasuredTiles) -> list[dict[str, Any]]:
    """A row per predictor: medians over slides, then over markers, of the within-slide r and R2; pooled r and MSE as the paper has them."""
    import numpy as np

    from ml.hex.evaluate import columns_r, slide_figures

    rows = []
    for name, values in predicted.items():
        found = slide_figures(values, labels, tiles.slides, tiles.patients)
        row = {key: float(np.nanmedian(np.nanmedian(getattr(found, key), axis=0))) for key in ("r", "r2", "r2_raw")}
        pooled = {"r_pooled": float(np.median(columns_r(values, labels))), "mse": float(((values - labels) ** 2).mean())}
        rows.append({"name": name, **row, **pooled})
    return rows
