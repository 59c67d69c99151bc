"""Family "cox_summary": absolute risk from a ridge Cox model on per-patient summaries.

A risk shown for a patient never comes from a fit that saw her outcome: reference patients get the fit of the folds
without them, also when they are predicted later. The whole recipe can be run on shuffled outcomes (`permutation_p`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ml.survival.concordance import concordance
from ml.survival.config import CoxSummaryConfig
from ml.survival.data import Floats, SurvivalDataError, SurvivalSample, prepare
from ml.survival.folds import assign_folds, patient_hash
from ml.survival.ridge import RidgeFit, fit_ridge, solve, standardise, take
from ml.survival.risk_model import RiskModel
from ml.types import Outcomes, Risk


def fit(summaries: ArrayLike, names: Sequence[str], outcomes: Outcomes, config: CoxSummaryConfig) -> RiskModel:
    """Fit the family. summaries: (n, p) float, row i belongs to outcomes.patients[i]; names: p names.

    Gives the model with out-of-fold risks of all n patients, the out-of-fold C with its bootstrap interval and the median cut.
    Raises SurvivalDataError: too_few_events, patient_twice, missing_covariate, wrong_shape, unknown_marker,
    horizon_beyond_follow_up and those of the data checks.
    """
    x, used = _columns(summaries, tuple(names), config, len(outcomes.patients))
    sample = _checked(outcomes, config)
    fold = _folds(outcomes.patients, sample.event, config)
    settings = (config.penalizer, config.horizon_days, config.bootstrap)
    whole = fit_ridge(sample, x, *settings, config.seed, config.least_scale, config.non_negative)
    by_fold = []
    for k in range(int(fold.max()) + 1):
        seen = np.flatnonzero(fold != k)
        by_fold.append(fit_ridge(take(sample, seen), x[seen], *settings, config.seed + k + 1, config.least_scale, config.non_negative))
    risks = [_risk(by_fold[fold[i]], x[i : i + 1], p, outcomes.endpoint, config, True) for i, p in enumerate(outcomes.patients)]
    score = np.array([r.score for r in risks])
    return RiskModel(
        config=config,
        endpoint=outcomes.endpoint,
        names=used,
        given=tuple(names),
        whole=whole,
        by_fold=tuple(by_fold),
        membership={patient_hash(p, config.seed): int(k) for p, k in zip(outcomes.patients, fold)},
        reference=tuple(risks),
        cut=float(np.median(score)),
        metrics=_metrics(sample, score, config, int(fold.max()) + 1),
    )


def predict(model: RiskModel, summaries: ArrayLike, patients: Sequence[str]) -> list[Risk]:
    """Risk of each patient up to the model's horizon, with a 95% bootstrap interval. summaries: (n, p), columns as in fit.

    A patient of the reference cohort gets the fit of the folds without her; `reference` says which fit it was.
    """
    x, _ = _columns(summaries, model.given, model.config, len(patients))
    risks = []
    for i, patient in enumerate(patients):
        fold = model.fold_of(patient)
        chosen = model.whole if fold is None else model.by_fold[fold]
        risks.append(_risk(chosen, x[i : i + 1], patient, model.endpoint, model.config, fold is not None))
    return risks


def permutation_p(summaries: ArrayLike, names: Sequence[str], outcomes: Outcomes, config: CoxSummaryConfig, n: int = 200) -> dict[str, Any]:
    """p of the out-of-fold C under shuffled outcomes, the whole recipe run each time (folds, standardisation, fit).

    Gives {"c": observed, "p": (1 + shuffles with C at least as high) / (1 + n), "n": n, "null_mean": mean C of the shuffles}.
    """
    x, _ = _columns(summaries, tuple(names), config, len(outcomes.patients))
    sample = _checked(outcomes, config)
    rng = np.random.default_rng(config.seed)
    observed = out_of_fold_c(x, sample, outcomes.patients, config)
    null = np.array([out_of_fold_c(x, take(sample, rng.permutation(len(x))), outcomes.patients, config) for _ in range(n)])
    return {"c": observed, "p": float((1 + (null >= observed).sum()) / (1 + n)), "n": n, "null_mean": float(null.mean())}


def out_of_fold_c(x: Floats, sample: SurvivalSample, patients: Sequence[str], config: CoxSummaryConfig) -> float:
    """Harrell's C of the out-of-fold scores of one run of the recipe. x: (n, p)."""
    fold = _folds(patients, sample.event, config)
    score = np.empty(len(x))
    for k in range(int(fold.max()) + 1):
        seen, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        mean, scale = standardise(x[seen], config.least_scale)
        beta = solve(take(sample, seen), (x[seen] - mean) / scale, config.penalizer)
        beta = np.maximum(beta, 0.0) if config.non_negative else beta
        score[held] = (x[held] - mean) / scale @ beta
    return concordance(sample.time, sample.event, score, sample.entry, merge=False).c


def _columns(summaries: ArrayLike, names: tuple[str, ...], config: CoxSummaryConfig, n: int) -> tuple[Floats, tuple[str, ...]]:
    x = np.asarray(summaries, dtype=np.float64)
    if x.ndim != 2 or x.shape != (n, len(names)):
        raise SurvivalDataError("wrong_shape", f"The summaries are {x.shape}, not {n} patients x {len(names)} names.", where="summaries")
    used = config.markers or names
    unknown = [m for m in used if m not in names]
    if unknown or not used:
        what = f"There is no summary named {unknown[0]}." if unknown else "There is no summary to fit on."
        raise SurvivalDataError("unknown_marker", what, f"There are {', '.join(names) or 'none'}.", "markers")
    if config.non_negative and len(used) != 1:
        said = f"A summary that can only raise the risk stands alone, and there are {len(used)}."
        raise SurvivalDataError("wrong_shape", said, "Give one score.", "markers")
    x = x[:, [names.index(m) for m in used]]
    bad = ~np.isfinite(x)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise SurvivalDataError(
            "missing_covariate",
            f"{int(bad.any(axis=1).sum())} patients have no value of some summary, e.g. {used[column]} in row {row + 1}.",
            "Leave them out and say so; a summary is never imputed.",
            "summaries",
        )
    return x, tuple(used)


def _checked(outcomes: Outcomes, config: CoxSummaryConfig) -> SurvivalSample:
    if len(set(outcomes.patients)) != len(outcomes.patients):
        raise SurvivalDataError("patient_twice", "A patient appears twice in the outcomes.", "One row per patient.", "patient")
    sample = prepare(outcomes.time, outcomes.event, outcomes.entry)
    if not sample.kept.all():
        raise SurvivalDataError(
            "entry_not_before_time", sample.findings[0].sentence, "Build the outcomes with build_outcomes first.", "entry"
        )
    events = int(sample.event.sum())
    if events < config.min_events:
        raise SurvivalDataError(
            "too_few_events", f"There are {events} events; a model needs {config.min_events}.", "Wait for longer follow-up."
        )
    if sample.time.max() < config.horizon_days:
        raise SurvivalDataError(
            "horizon_beyond_follow_up",
            f"Nobody was followed up to {config.horizon_days:g} days, so there is no absolute risk at that horizon.",
            "Choose a shorter horizon.",
            "horizon_days",
        )
    return sample


def _folds(patients: Sequence[str], event: np.ndarray, config: CoxSummaryConfig) -> np.ndarray:
    """Fewer folds where there are fewer events, so that each fold holds one out."""
    return assign_folds(patients, event, max(2, min(config.folds, int(event.sum()))), config.seed)


def _risk(chosen: RidgeFit, row: Floats, patient: str, endpoint: str, config: CoxSummaryConfig, held_out: bool) -> Risk:
    lower, upper = chosen.intervals(row)
    reference = f"{chosen.n} patients, {chosen.events} events" + (", this patient held out" if held_out else "")
    return Risk(
        patient=patient,
        endpoint=endpoint,
        horizon_days=config.horizon_days,
        probability=float(chosen.risks(row)[0]),
        lower=float(lower[0]),
        upper=float(upper[0]),
        score=float(chosen.scores(row)[0]),
        reference=reference,
    )


def _metrics(sample: SurvivalSample, score: Floats, config: CoxSummaryConfig, folds: int) -> dict[str, Any]:
    """Out-of-fold C with the percentiles of a patient bootstrap of the (time, event, score) rows."""
    c = concordance(sample.time, sample.event, score, sample.entry, merge=False)
    rng = np.random.default_rng(config.seed)
    drawn: list[float] = []
    while len(drawn) < config.bootstrap:
        rows = rng.integers(0, len(score), len(score))
        part = take(sample, rows)
        if part.event.any() and np.ptp(part.time) > 0:
            drawn.append(concordance(part.time, part.event, score[rows], part.entry, merge=False).c)
    lower, upper = np.quantile(drawn, [0.025, 0.975])
    return {
        "n": len(sample),
        "events": int(sample.event.sum()),
        "at_risk_at_horizon": int((sample.time >= config.horizon_days).sum()),
        "folds": folds,
        "c": c.c,
        "c_lower": float(lower),
        "c_upper": float(upper),
        "c_kind": "Harrell, out-of-fold, patient bootstrap of the scores",
        "horizon_days": config.horizon_days,
    }
