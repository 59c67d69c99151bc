"""MICA on a cohort: fitted on its slides and outcomes, applied to a patient, with the map of what her risk comes from.

MICA gives a probability from a likelihood in which a censored patient counts as alive to the end of her interval. The absolute risk on a
page is that of a ridge Cox of one covariate, the complementary log-log of MICA's out-of-fold probability, on the same patients and folds:
calibrated to the cohort, and with the interval that every risk here has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tissueboard.cohorts.models import Cohort, Patient
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.jobs.services import enqueue
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import MEMBERSHIP_SALT, NewVersion, choose_fold, register, weights_path
from tissueboard.slides.tiling import input_key
from tissueboard.store import checksum, store

from .mica_bags import bag_of, encoder_named
from .models import Prediction
from .plain import plain
from .publishing import publish_output
from .refusing import model_refusals
from .risk_jobs import index_map, outcomes_of, reference_maps, save_risk, stage_c_of
from .sources import Source

KIND = "predictions.mica"
CALIBRATION = "calibration.json"
SCORE = "MICA"
# Maps of so many reference patients set the fixed colour limit of attributions.
LIMIT_SLIDES = 50
ATTRIBUTION = "contribution to the risk"


def fit_mica(ctx: JobContext) -> Done:
    """Job predictions.fit_mica. params: cohort, version (HEX), encoder (version of family encoder; absent: HEX's own features), endpoint,
    config, name. Afterwards every patient of the cohort with a map gets a job of her own."""
    from ml import families
    from ml.mica.checkpoint import save_fit

    cohort = Cohort.objects.get(pk=ctx.params["cohort"])
    hex_version = ModelVersion.objects.get(pk=ctx.params["version"])
    encoder = encoder_named(ctx.params.get("encoder"))
    config = families.config("mica", "fit", ctx.params.get("config", {}))
    endpoint = ctx.params["endpoint"]
    rows, left_out = reference_maps(cohort, hex_version, endpoint)
    if not rows:
        raise JobRefused(
            "NO_REFERENCE", f"No patient of {cohort.name} has both {endpoint} and a map of {hex_version}.", "Make the maps first."
        )
    with model_refusals():
        bags = [bag_of(source, encoder, config.codex_encoder, config.modality) for source, _ in rows]
        outcomes = outcomes_of(rows, endpoint)
        fits = _fits(ctx, bags, outcomes, config)
        fitted = next(iter(fits.values()))
        ctx.progress(0.92, "calibrating")
        calibrated = _calibrate(fitted, outcomes, config)
        stage_c = stage_c_of(rows, calibrated.config)
        limit = _limit(fitted, bags)
    folder = store.new_temp()
    simulated = cohort.simulated
    label = ModelVersion.Label.SIMULATED if simulated else ModelVersion.Label.TRAINED_HERE
    inputs = {f"virtual map {source.pk}": source.sha256 for source, _ in rows}
    facts = {"cohorts": [cohort.name], "job": ctx.job_id}
    provenance = save_fit(fitted, folder, salt=MEMBERSHIP_SALT, code_version=ctx.code_version, label=label, inputs=inputs, facts=facts)
    (folder / CALIBRATION).write_text(calibrated.to_json(with_reference=False))
    key = f"models/mica/{ctx.job_id}"
    sha = store.save(folder, key)
    metrics = {
        **_metrics(fits, fitted, calibrated),
        "endpoint": endpoint,
        "stage_c": stage_c,
        "left_out": left_out,
        "attribution_limit": limit,
        "codex_encoder": config.codex_encoder,
        "he_encoder": fitted.weights.inputs.encoder,
        "time_zero": sorted({e.time_zero for _, e in rows}),
    }
    new = NewVersion(
        family="mica",
        name=ctx.params["name"],
        label=label,
        config=config.model_dump(mode="json"),
        key=key,
        sha256=sha,
        provenance={k: provenance[k] for k in ("made_at", "code_version", "inputs", "facts")},
        licence="Apache-2.0",
        metrics=plain(metrics),
        members=dict(enumerate(provenance["membership"])),
        panel=fitted.weights.markers,
    )

    def publish() -> None:
        version = register(new, cohorts=[cohort], parents=[hex_version, *([encoder] if encoder is not None else [])])
        for patient in Patient.objects.filter(cohort=cohort).order_by("code"):
            source = index_map(patient, hex_version)
            if source is not None:
                params = {"patient": patient.pk, "slide": source.slide_id, "version": version.pk}
                enqueue(None, KIND, params, cohorts=[cohort], key=input_key(source.slide))

    return Done([OutputSpec("model", key, {"sha256": sha, "n": len(rows)})], publish)


def _fits(ctx: JobContext, bags: list[Any], outcomes: Any, config: Any) -> dict[str, Any]:
    """Name -> ml.mica.train.MicaFit; the first is the model, the others its parts alone on the same folds."""
    from ml import families
    from ml.mica.train import fit_modalities

    given = {
        "progress": lambda fraction, text: ctx.progress(0.9 * fraction, text),
        "checkpoint_dir": ctx.workdir / "mica",
        "record": ctx.curve,
    }
    if config.compare and config.modality == "both":
        return fit_modalities(bags, outcomes, config, **given)
    return {SCORE: families.runner("mica", "fit")(bags, outcomes, config, **given)}


def _calibrate(fitted: Any, outcomes: Any, config: Any) -> Any:
    """The ridge Cox (ml.survival.risk_model.RiskModel) on MICA's out-of-fold probability; its folds are MICA's."""
    from ml import families

    # Log hazards that differ by less than a tenth are no difference: a few patients with almost one score must not be spread out. And a
    # score of risk can only raise the risk: where levels of folds turn that round, it moves nothing.
    settings = {"folds": config.folds, "seed": config.seed, "horizon_days": config.horizon_days, "min_events": 2}
    settings |= {"least_scale": 0.1, "non_negative": True}
    cox = families.config("cox_summary", "fit", settings)
    return families.runner("cox_summary", "fit")([[score_of(p)] for p in fitted.probability], [SCORE], outcomes, cox)


def score_of(probability: float) -> float:
    """log(-log(1 - p)): the probability of an event on the scale of a log hazard."""
    import math

    return math.log(-math.log1p(-min(max(probability, 1e-6), 1 - 1e-6)))


def _limit(fitted: Any, bags: list[Any]) -> float | None:
    """99th percentile of the size of a tile's attribution over reference patients, each by the fold without her: the fixed colour limit."""
    import numpy as np

    from ml.mica.explain import explain

    if fitted.weights.config.modality == "codex":
        return None
    some = [bags[i] for i in np.unique(np.linspace(0, len(bags) - 1, min(len(bags), LIMIT_SLIDES)).astype(int))]
    sizes = [np.abs(explain(fitted.weights, bag, fitted.fold_of[bag.patient]).tiles) for bag in some]
    return float(np.quantile(np.concatenate(sizes), 0.99))


def _metrics(fits: dict[str, Any], fitted: Any, calibrated: Any) -> dict[str, Any]:
    """Figures of the version's page. C is MICA's own, out-of-fold over pairs within folds; the calibration changes no order within one."""
    from dataclasses import asdict

    from ml.mica.evaluate import compare

    own = fitted.metrics()
    config = fitted.weights.config
    risks = {name: one.risk for name, one in fits.items()}
    table = compare(fitted.outcomes, fitted.fold_of, risks, draws=config.bootstrap, seed=config.seed)
    differences = {d.name: d for d in table.differences}
    rows = []
    for row in table.rows:
        gap = differences.get(row.name)
        told = {"name": row.name, "c": row.c, "lower": row.lower, "upper": row.upper}
        rows.append(told | ({"less": -gap.difference, "less_lower": -gap.upper, "less_upper": -gap.lower} if gap else {}))
    permuted = own["permutations"]
    return {
        "n": own["n"],
        "events": own["events"],
        "c": own["c"],
        "c_lower": own["lower"],
        "c_upper": own["upper"],
        "c_kind": own["c_kind"],
        "c_pooled": own["c_pooled"],
        "horizon_days": own["horizon_days"],
        "cut": calibrated.cut,
        "permutation_p": permuted["p"] if permuted else None,
        "permutations": permuted["runs"] if permuted else 0,
        "null_mean_c": permuted["null_mean"] if permuted else None,
        "probability_predicted": own["probability_predicted"],
        "probability_observed": own["probability_observed"],
        "folds": [{k: v for k, v in facts.items() if k != "curve"} for facts in own["folds"]],
        "modalities": rows,
        "seconds": sum(one.seconds for one in fits.values()),
        "calibration": {k: v for k, v in asdict(calibrated.whole).items() if k == "coefficients"},
    }


def apply_mica(ctx: JobContext) -> Done:
    """Job predictions.mica. params: patient, slide, version. A patient of the reference gets the fold that held her out."""
    from ml import families
    from ml.mica.checkpoint import load

    patient = Patient.objects.get(pk=ctx.params["patient"])
    version = ModelVersion.objects.get(pk=ctx.params["version"])
    hex_version = version.parents.get(family="hex")
    encoder = version.parents.filter(family="encoder").first()
    source = index_map(patient, hex_version)
    if source is None:
        raise JobRefused("NO_MAP", f"{patient.code} has no virtual map of {hex_version}.", "Run the virtual map first.")
    source.patient = patient
    with model_refusals():
        weights = load(weights_path(version))
        calibrated = load_calibration(version)
        choice = choose_fold(version, patient, len(weights.folds))
        bag = bag_of(source, encoder, version.config["codex_encoder"], weights.config.modality)
        (found,) = families.runner("mica", "predict")(weights, [bag], choice.fold)
        (risk,) = families.runner("cox_summary", "predict")(calibrated, [[score_of(found.probability)]], [patient.code])
        about, shown = _explanation(version, source, weights, bag, choice.fold)
    in_sample = choice.in_sample or source.in_sample
    facts = {"mica_probability": found.probability, "mica_risk": found.risk, "explanation": about}

    def publish() -> None:
        group = "higher" if calibrated.group(risk) == "high" else "lower"
        fold = None if in_sample else choice.fold
        save_risk(ctx, version, source, risk, group=group, fold=fold, more=facts, in_sample=choice.in_sample)
        if shown is not None:
            fields = {"fold": choice.fold, "in_sample": in_sample, "code_version": ctx.code_version, "job_id": ctx.job_id}
            fields |= {"inputs": {"virtual map": source.sha256, "weights": version.sha256}, "facts": plain(shown.facts)}
            publish_output(Source(source.slide, version), Prediction.Kind.EXPLANATION, {**fields, "key": shown.key, "sha256": shown.sha256})

    outputs = [OutputSpec("risk", "", {"patient": patient.pk})]
    return Done(outputs + ([OutputSpec("explanation", shown.key, {"sha256": shown.sha256})] if shown else []), publish)


def load_calibration(version: ModelVersion) -> Any:
    """The ridge Cox that turns MICA's probability into the absolute risk of a page."""
    from ml.survival.risk_model import RiskModel

    return RiskModel.from_json((weights_path(version) / CALIBRATION).read_text())


@dataclass(frozen=True)
class Shown:
    """The map of an explanation in the store."""

    key: str
    sha256: str
    facts: dict[str, Any]


def _explanation(
    version: ModelVersion, source: Prediction, weights: Any, bag: Any, fold: int | None
) -> tuple[dict[str, Any], Shown | None]:
    """Integrated gradients of the risk: markers that raise and lower it most, and the map over the slide (None for a model without
    tiles)."""
    import numpy as np

    from ml.hex.maps import to_map
    from ml.mica.explain import explain
    from ml.slides.map_files import write_map

    from .mica_bags import grid_of_bag

    found = explain(weights, bag, fold)
    about: dict[str, Any] = {"gap": found.relative_gap}
    if found.codex is not None:
        order = np.argsort(found.codex)
        named = [(found.markers[i], float(found.codex[i])) for i in order]
        about["markers"] = named[::-1][:5] + named[:5] if len(named) > 10 else named[::-1]
    if found.tiles is None:
        return about, None
    grid = grid_of_bag(source, version.parents.filter(family="encoder").first())
    virtual = to_map(found.tiles.astype(np.float32)[:, None], grid, (ATTRIBUTION,))
    virtual = replace(virtual, unit="contribution to MICA's risk score")
    temp = store.new_temp(".zarr")
    write_map(temp, virtual, mpp=grid.mpp)
    key = f"slides/{source.slide_id}/explanation-{version.pk}-{checksum(temp)[:12]}.ome.zarr"
    limit = version.metrics.get("attribution_limit")
    facts = {
        "names": [ATTRIBUTION],
        "pitch_um": virtual.pitch_um,
        "rows": virtual.values.shape[1],
        "cols": virtual.values.shape[2],
        "origin_px0": list(virtual.origin_px0),
        "step_px0": virtual.step_px0,
        "unit": virtual.unit,
        "limit": limit,
        "relative_gap": found.relative_gap,
        "steps": found.steps,
        "n_tiles": len(grid),
    }
    return about, Shown(key, store.save(temp, key), facts)
