"""Bags, outcomes and folds of a fit, checked against each other: everything that can be refused is refused here, before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ml.mica.config import MicaFitConfig
from ml.mica.data import MicaBag, MicaInputs, check_bags
from ml.mica.errors import MicaError
from ml.mica.labels import Bins, make_bins
from ml.mica.predict import check_horizon
from ml.survival.data import SurvivalDataError, prepare
from ml.survival.folds import assign_folds
from ml.types import Outcomes


@dataclass(frozen=True)
class Cohort:
    """n patients with their bags.

    fold: (n,) the fold that holds the patient out. row: (bags,) row of each bag's patient in the outcomes. bins: per fold, the intervals of
    its fitting patients (or of all, `bins_from`). digest: SHA-256 of the bags.
    """

    bags: tuple[MicaBag, ...]
    inputs: MicaInputs
    outcomes: Outcomes
    fold: NDArray[np.intp]
    row: NDArray[np.intp]
    bins: tuple[Bins, ...]
    digest: str

    @property
    def fold_of(self) -> dict[str, int]:
        """Patient -> fold."""
        return dict(zip(self.outcomes.patients, self.fold.tolist()))

    def bags_of(self, row: int) -> list[MicaBag]:
        """The bags of the patient in this row of the outcomes."""
        return [self.bags[i] for i in np.flatnonzero(self.row == row)]

    def targets(self, k: int) -> NDArray[np.int64]:
        """(n, 3) int64 in the intervals of fold k: interval of the time, 1 where censored, interval of the entry (0 where there is
        none).
        """
        o, bins = self.outcomes, self.bins[k]
        entry = np.zeros(len(self.fold), np.int64) if o.entry is None else bins.of(o.entry)
        return np.stack([bins.of(o.time), (~np.asarray(o.event, np.bool_)).astype(np.int64), entry], axis=1)


def make_cohort(bags: Sequence[MicaBag], outcomes: Outcomes, config: MicaFitConfig, folds: Mapping[str, int] | None = None) -> Cohort:
    """Checks it all. Raises MicaError: bad_outcomes, patient_twice, outcome_absent, bag_absent, fold_absent, fold_empty, fold_all_censored,
    all_censored, too_few_event_times, intervals_tied, horizon_beyond_follow_up and those of check_bags; SplitError of patient_folds."""
    row_of = {p: i for i, p in enumerate(outcomes.patients)}
    if len(row_of) != len(outcomes.patients):
        raise MicaError("patient_twice", "A patient appears twice in the outcomes.", "Give one row per patient.", "outcomes")
    try:
        sample = prepare(outcomes.time, outcomes.event, outcomes.entry, merge=False)
    except SurvivalDataError as error:
        raise MicaError("bad_outcomes", error.sentence, error.hint, error.where or "outcomes") from error
    if not sample.kept.all():
        raise MicaError("bad_outcomes", sample.findings[0].sentence, "Build the outcomes with build_outcomes first.", "outcomes")
    _check_matched(bags, row_of)
    make_bins(outcomes.time, outcomes.event, config.bins, "the cohort")
    fold = _fold_array(outcomes, config, folds)
    bins = _bins(outcomes, fold, config)
    inputs, digest = check_bags(bags, config.modality)
    row = np.array([row_of[bag.patient] for bag in bags], dtype=np.intp)
    return Cohort(tuple(bags), inputs, outcomes, fold, row, bins, digest)


def _check_matched(bags: Sequence[MicaBag], row_of: Mapping[str, int]) -> None:
    patients = {bag.patient for bag in bags}
    without = sorted(patients - row_of.keys())
    if without:
        sentence = f"{len(without)} patients have bags and no outcome, e.g. {without[0]}."
        raise MicaError("outcome_absent", sentence, "Leave their slides out and say so.", "outcomes")
    empty = sorted(row_of.keys() - patients)
    if empty:
        sentence = f"{len(empty)} patients have an outcome and no bag, e.g. {empty[0]}."
        raise MicaError("bag_absent", sentence, "Leave them out and say so, or extract their features.", "bags")


def _fold_array(outcomes: Outcomes, config: MicaFitConfig, folds: Mapping[str, int] | None) -> NDArray[np.intp]:
    if folds is None:
        return assign_folds(outcomes.patients, outcomes.event, config.folds, config.seed)
    absent = [p for p in outcomes.patients if p not in folds]
    if absent:
        sentence = f"{len(absent)} patients are in no fold, e.g. {absent[0]}."
        raise MicaError("fold_absent", sentence, "Give a fold for every patient, or leave her out.", "folds")
    return np.array([folds[p] for p in outcomes.patients], dtype=np.intp)


def _bins(outcomes: Outcomes, fold: NDArray[np.intp], config: MicaFitConfig) -> tuple[Bins, ...]:
    """The intervals of every fold; here it shows whether each fold can be fitted and measured."""
    made, event = [], np.asarray(outcomes.event, np.bool_)
    count = int(fold.max()) + 1
    if count < 2:
        raise MicaError("fold_empty", "All patients are in one fold, so there is nobody to fit on.", "Give two folds or more.", "folds")
    for k in range(count):
        held, where = fold == k, f"fold {k + 1}"
        if not held.any():
            raise MicaError("fold_empty", f"There is no patient in {where} of {count}.", "Number the folds from 0 without gaps.", where)
        if not event[held].any():
            sentence = f"All {int(held.sum())} patients that {where} holds out are censored, so it cannot be measured."
            raise MicaError("fold_all_censored", sentence, "Use fewer folds, or share the events out among them.", where)
    for k in range(count):
        held, where = fold == k, f"fold {k + 1}"
        rows = ~held if config.bins_from == "training" else np.ones_like(held)
        bins = make_bins(outcomes.time[rows], event[rows], config.bins, f"the patients that {where} is fitted on")
        check_horizon(bins, config.horizon_days)
        made.append(bins)
    return tuple(made)


def shuffled(cohort: Cohort, config: MicaFitConfig, rng: np.random.Generator) -> Cohort:
    """The cohort with outcomes exchanged between patients of the same fold, so that every fold keeps its events."""
    order = np.arange(len(cohort.fold))
    for k in range(len(cohort.bins)):
        rows = np.flatnonzero(cohort.fold == k)
        order[rows] = rng.permutation(rows)
    o = cohort.outcomes
    outcomes = replace(o, time=o.time[order], event=o.event[order], entry=None if o.entry is None else o.entry[order])
    return replace(cohort, outcomes=outcomes, bins=_bins(outcomes, cohort.fold, config))
