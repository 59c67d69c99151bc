"""The risk model of a cohort: ridge Cox on the mean of a few virtual proteins per patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tissueboard.cohorts.models import Cohort, Endpoint, Patient
from tissueboard.jobs.context import Done, JobContext, OutputSpec
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.services import NewVersion, hash_of, register, weights_path
from tissueboard.store import store

from .maps import card, load_map, slide_means
from .models import Prediction
from .plain import plain

# Declared before any outcome is seen: B cells, cytotoxic T cells, hypoxia, stroma, tumour.
RISK_MARKERS = ("CD20", "CD8", "HIF1A", "aSMA", "Pan-Cytokeratin")
MODEL_FILE = "risk.json"
PERMUTATIONS = 200
STAGES = {"I": 1.0, "II": 2.0, "III": 3.0, "IV": 4.0}


@dataclass(frozen=True)
class Summary:
    """What the model sees of one patient: means over the tissue of her index slide, and the map that they come from."""

    patient: Patient
    values: list[float]
    source: Prediction


def index_map(patient: Patient, version: ModelVersion) -> Prediction | None:
    """The virtual map of a patient's index slide: the earliest sample (tumours are never averaged), its first slide."""
    maps = Prediction.objects.filter(patient=patient, version=version, kind=Prediction.Kind.VIRTUAL_MAP)
    return maps.select_related("slide__sample", "version").order_by("slide__sample__day", "slide__sample_id", "slide_id").first()


def summarise(prediction: Prediction, markers: list[str]) -> list[float]:
    """Mean of each marker over the tissue cells of a map."""
    means = slide_means(load_map(prediction))
    return [means[name] for name in markers]


def fit_risk(ctx: JobContext) -> Done:
    """Job predictions.fit_risk. params: cohort, version (HEX), endpoint, name. Out-of-fold risks for every reference patient."""
    from ml import families
    from ml.survival.data import SurvivalDataError
    from ml.survival.risk import permutation_p

    cohort = Cohort.objects.get(pk=ctx.params["cohort"])
    hex_version = ModelVersion.objects.get(pk=ctx.params["version"])
    markers = _markers(hex_version)
    config = families.config("cox_summary", "fit", ctx.params.get("config", {}))
    maps, left_out = reference_maps(cohort, hex_version, ctx.params["endpoint"])
    rows = [(Summary(source.patient, summarise(source, markers), source), e) for source, e in maps]
    values = [summary.values for summary, _ in rows]
    try:
        outcomes = outcomes_of(maps, ctx.params["endpoint"])
        ctx.progress(0.1, "fitting")
        model = families.runner("cox_summary", "fit")(values, markers, outcomes, config)
        ctx.progress(0.5, f"{PERMUTATIONS} permutations of the whole recipe")
        permuted = permutation_p(values, markers, outcomes, config, n=PERMUTATIONS)
        stage_c = stage_c_of(maps, config)
    except SurvivalDataError as error:
        raise JobRefused(error.code.upper(), error.sentence, error.hint) from error
    folder = store.new_temp()
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_text(model.to_json(with_reference=False))
    key = f"models/cox_summary/{ctx.job_id}"
    sha = store.save(folder, key)
    metrics = {
        **model.metrics,
        "endpoint": ctx.params["endpoint"],
        "cut": model.cut,
        "permutation_p": permuted["p"],
        "permutations": permuted["n"],
        "null_mean_c": permuted["null_mean"],
        "stage_c": stage_c,
        "left_out": left_out,
        "markers": markers,
        "time_zero": sorted({e.time_zero for _, e in rows}),
    }
    new = NewVersion(
        family="cox_summary",
        name=ctx.params["name"],
        label=ModelVersion.Label.SIMULATED if cohort.simulated else ModelVersion.Label.TRAINED_HERE,
        config=config.model_dump(mode="json"),
        key=key,
        sha256=sha,
        provenance={
            "code_version": ctx.code_version,
            "inputs": {f"virtual map {s.source.pk}": s.source.sha256 for s, _ in rows},
            "facts": {"cohorts": [cohort.name], "job": ctx.job_id},
        },
        licence="Apache-2.0",
        metrics=plain(metrics),
        members=_members(model, rows),
        panel=tuple(markers),
    )

    def publish() -> None:
        version = register(new, cohorts=[cohort], parents=[hex_version])
        for (summary, _), risk in zip(rows, model.reference):
            _save(ctx, version, summary, risk, model, fold=model.fold_of(summary.patient.code))

    return Done([OutputSpec("model", key, {"sha256": sha, "n": len(rows)})], publish)


def apply_risk(ctx: JobContext) -> Done:
    """Job predictions.risk. params: patient, slide, version. A patient of the reference gets the fold that held her out."""
    from ml import families

    patient = Patient.objects.get(pk=ctx.params["patient"])
    version = ModelVersion.objects.get(pk=ctx.params["version"])
    hex_version = version.parents.get(family="hex")
    model = load_model(version)
    source = index_map(patient, hex_version)
    if source is None:
        raise JobRefused("NO_MAP", f"{patient.code} has no virtual map of {hex_version}.", "Run the virtual map first.")
    summary = Summary(patient, summarise(source, list(version.panel)), source)
    (risk,) = families.runner("cox_summary", "predict")(model, [summary.values], [patient.code])

    def publish() -> None:
        _save(ctx, version, summary, risk, model, fold=model.fold_of(patient.code))

    return Done([OutputSpec("risk", "", {"patient": patient.pk})], publish)


def load_model(version: ModelVersion) -> Any:
    """The RiskModel of a version."""
    from ml.survival.risk_model import RiskModel

    return RiskModel.from_json((weights_path(version) / MODEL_FILE).read_text())


def _markers(hex_version: ModelVersion) -> list[str]:
    """The declared markers that the map predicts well enough to be shown; JobRefused below two."""
    told = card(hex_version)
    markers = [m for m in RISK_MARKERS if m in told and not told[m]["locked"]]
    if len(markers) < 2:
        raise JobRefused(
            "MARKERS_LOCKED",
            f"{hex_version} predicts {len(markers)} of the markers {', '.join(RISK_MARKERS)} well enough; a risk takes two.",
            "Train the protein model on more patients.",
        )
    return markers


def reference_maps(cohort: Cohort, hex_version: ModelVersion, endpoint: str) -> tuple[list[tuple[Prediction, Endpoint]], dict[str, int]]:
    """(map of the index slide, outcome) of each patient who has both, by code; and how many were left out, by reason."""
    rows, left_out = [], {"no outcome": 0, "no virtual map": 0, "map is in-sample": 0}
    outcomes = {e.patient_id: e for e in Endpoint.objects.filter(patient__cohort=cohort, name=endpoint)}
    for patient in Patient.objects.filter(cohort=cohort).order_by("code"):
        source = index_map(patient, hex_version)
        if patient.pk not in outcomes:
            left_out["no outcome"] += 1
        elif source is None:
            left_out["no virtual map"] += 1
        elif source.in_sample:
            # A map by weights that saw her proteins would make her look better predicted than a new patient.
            left_out["map is in-sample"] += 1
        else:
            source.patient = patient
            rows.append((source, outcomes[patient.pk]))
    return rows, left_out


def outcomes_of(rows: list[tuple[Prediction, Endpoint]], endpoint: str) -> Any:
    """ml.types.Outcomes of the rows, by patient code. Raises ml.survival.data.SurvivalDataError."""
    from ml.survival.data import build_outcomes

    entry = [e.entry_days for _, e in rows]
    codes = [source.patient.code for source, _ in rows]
    outcomes, _ = build_outcomes(
        codes, [e.time_days for _, e in rows], [int(e.event) for _, e in rows], endpoint, entry if any(entry) else None
    )
    return outcomes


def stage_c_of(rows: list[tuple[Prediction, Endpoint]], config: Any) -> float | None:
    """Out-of-fold C of stage alone on the same patients and folds; None where a stage is missing. config: CoxSummaryConfig."""
    import numpy as np

    from ml.survival.data import prepare
    from ml.survival.risk import out_of_fold_c

    stages = [STAGES.get(str(source.patient.clinical.get("stage"))) for source, _ in rows]
    if any(stage is None for stage in stages) or len(set(stages)) < 2:
        return None
    entry = [e.entry_days for _, e in rows]
    sample = prepare([e.time_days for _, e in rows], [e.event for _, e in rows], entry if any(entry) else None)
    return out_of_fold_c(np.array(stages, dtype=float)[:, None], sample, [source.patient.code for source, _ in rows], config)


def _members(model: Any, rows: list[tuple[Summary, Endpoint]]) -> dict[int, list[str]]:
    """fold -> hashes of the patients that the fold's fit saw (all but its own)."""
    fold_of = {s.patient.code: model.fold_of(s.patient.code) for s, _ in rows}
    hashes = {s.patient.code: hash_of(s.patient) for s, _ in rows}
    return {k: [hashes[code] for code, fold in fold_of.items() if fold != k] for k in range(len(model.by_fold))}


def _save(ctx: JobContext, version: ModelVersion, summary: Summary, risk: Any, model: Any, fold: int | None) -> None:
    facts = {"summary": dict(zip(version.panel, summary.values))}
    save_risk(ctx, version, summary.source, risk, group="higher" if model.group(risk) == "high" else "lower", fold=fold, more=facts)


def save_risk(
    ctx: JobContext,
    version: ModelVersion,
    source: Prediction,
    risk: Any,
    *,
    group: str,
    fold: int | None,
    more: dict[str, Any],
    in_sample: bool = False,
) -> None:
    """Makes a risk (ml.types.Risk) the one of its patient and version. source: the map of her index slide that it came from; in_sample: the
    version's own weights saw her outcome (weights of the map that saw her proteins count by themselves)."""
    Prediction.objects.update_or_create(
        patient=source.patient,
        slide=None,
        kind=Prediction.Kind.RISK,
        version=version,
        defaults={
            "job_id": ctx.job_id,
            "fold": fold,
            "in_sample": in_sample or source.in_sample,
            "inputs": {"virtual map": source.sha256, "weights": version.sha256},
            "code_version": ctx.code_version,
            "facts": plain(
                {
                    "endpoint": risk.endpoint,
                    "horizon_days": risk.horizon_days,
                    "probability": risk.probability,
                    "lower": risk.lower,
                    "upper": risk.upper,
                    "score": risk.score,
                    "reference": risk.reference,
                    "group": group,
                    **more,
                    "map": source.pk,
                    "map_version": str(source.version),
                    "slide": source.slide_id,
                    "out_of_range_share": source.facts.get("out_of_range_share"),
                }
            ),
        },
    )
