"""TME risk groups (VirTues, Methods): patients grouped by the kinds of cells that their tissues have, halved into high and low risk.

k-means of all cell tokens (120), a patient's share of cells in each, k-means of those (4), and the four merged to two. The paper merges by
looking at survival, so the log-rank p of the two is too good; here it stands as `p_printed` beside the p that shuffled outcomes give when
they go through the whole merge, and beside an out-of-fold version in which each patient's side is decided without her outcome. The
k-means see no outcomes and are shared by folds and shufflings. Where the paper has one row per tissue, here it is one per patient (the
union of her tissues' cells), as survival is hers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.discovery.checks import Floats, Labels, cell_tokens, patient_codes
from ml.discovery.config import RiskGroupConfig
from ml.discovery.errors import DiscoveryError, Progress, Stop, tell
from ml.discovery.group_survival import GroupSurvival, group_survival, with_outcomes
from ml.survival.data import SurvivalDataError
from ml.survival.folds import assign_folds
from ml.survival.logrank import logrank
from ml.types import Outcomes

Group = NDArray[np.intp]
SIDES = ("low", "high")


@dataclass(frozen=True)
class PatientGroups:
    """patients: p ids. shares: (p, k) of the cell clusters. group: (p,) number of the patient's group, 0 the largest. kind: (n,) number of
    each cell's cluster."""

    patients: tuple[str, ...]
    shares: Floats
    group: Group
    kind: Group


@dataclass(frozen=True)
class RiskGroups:
    """patients: those with an outcome. group: (p,) their groups. high: (p,) bool; high_groups: which groups that is.

    ratio: (g,) observed by expected events of each group. survival: curves and log-rank of the merged two; p_printed: that log-rank's p.
    p: the same of shuffled outcomes through the whole merge. out_of_fold: (p,) bool, each patient's side by a merge without her;
    z_out_of_fold: excess of events among those called high, in standard deviations; p_out_of_fold: one-sided, of shuffled outcomes.
    """

    patients: tuple[str, ...]
    group: Group
    high: NDArray[np.bool_]
    high_groups: tuple[int, ...]
    ratio: Floats
    survival: GroupSurvival
    p_printed: float
    p: float
    out_of_fold: NDArray[np.bool_]
    z_out_of_fold: float
    p_out_of_fold: float


@dataclass(frozen=True)
class RiskRatio:
    """P(structure | high risk) / P(structure | low risk) with its 95% interval (Katz, log scale; NaN where a count is 0)."""

    name: str
    high: tuple[int, int]
    low: tuple[int, int]
    ratio: float
    lower: float
    upper: float


def patient_groups(
    tokens: ArrayLike, patients: Labels, config: RiskGroupConfig, progress: Progress | None = None, stop: Stop | None = None
) -> PatientGroups:
    """Group the patients by their cells; no outcome plays a part. tokens: (n, d) float32; patients: n ids.

    Raises DiscoveryError (those of cell_tokens, wrong_length, too_few_cells, too_few_patients), Cancelled.
    """
    x = cell_tokens(tokens)
    ids, codes = patient_codes(patients, len(x))
    if len(x) < config.cell_clusters:
        sentence = f"{len(x)} cells cannot make {config.cell_clusters} clusters."
        raise DiscoveryError("too_few_cells", sentence, "Ask for fewer clusters or choose more tissues.", "tokens")
    tell(progress, stop, 0.0, "clusters of cells")
    kind = _k_means(x, config.cell_clusters, config)
    tell(progress, stop, 0.9, "groups of patients")
    counts = np.bincount(codes * config.cell_clusters + kind, minlength=len(ids) * config.cell_clusters)
    share = counts.reshape(len(ids), -1) / np.bincount(codes)[:, None]
    if len(np.unique(share, axis=0)) < config.groups:
        sentence = f"{len(ids)} patients do not make {config.groups} groups that differ."
        raise DiscoveryError("too_few_patients", sentence, "Add patients or ask for fewer groups.", "patients")
    found = _k_means(share, config.groups, config)
    by_size = np.argsort(-np.bincount(found, minlength=config.groups), kind="stable")
    tell(progress, stop, 1.0, "groups of patients")
    return PatientGroups(ids, share, np.argsort(by_size)[found], kind)


def risk_groups(
    groups: PatientGroups, outcomes: Outcomes, config: RiskGroupConfig, progress: Progress | None = None, stop: Stop | None = None
) -> RiskGroups:
    """Merge the groups to high and low risk, and say how far that can be believed. Patients without an outcome are left out and named.

    Raises DiscoveryError (patient_twice, no_outcome, one_side), SurvivalDataError (no events, ...), SplitError, Cancelled.
    """
    places, known, _ = with_outcomes(groups.patients, outcomes)
    group = groups.group[places]
    ratio = _ratios(group, known, config.groups)
    high_groups = _high(ratio, config)
    high = high_groups[group]
    if high.all() or not high.any():
        raise DiscoveryError("one_side", "All patients with an outcome fall on one side.", "Choose other groups.", "declared_high")
    fold = assign_folds(known.patients, known.event, config.folds, config.seed)
    apart = _out_of_fold(group, known, fold, config)
    observed = (abs(_excess(high, known)), _excess(apart, known))
    null = np.empty((config.permutations, 2))
    for i in range(config.permutations):
        tell(progress, stop, i / config.permutations, f"shuffled outcomes: {i} of {config.permutations}")
        # Shuffling the groups among the patients is shuffling the outcomes among the groups' members; the folds stay what they are.
        other = np.random.default_rng((config.seed, i)).permutation(group)
        side = _high(_ratios(other, known, config.groups), config)[other]
        null[i] = abs(_excess(side, known)), _excess(_out_of_fold(other, known, fold, config), known)
    p, p_apart = ((1 + (null >= observed).sum(axis=0)) / (1 + config.permutations)).tolist()
    survival = group_survival(groups.patients, np.where(high_groups[groups.group], "high", "low"), SIDES, outcomes)
    tell(progress, stop, 1.0, "risk groups")
    printed = float("nan") if survival.test is None else survival.test.p
    numbers = tuple(np.flatnonzero(high_groups).tolist())
    return RiskGroups(known.patients, group, high, numbers, ratio, survival, printed, p, apart, observed[1], p_apart)


def structure_risk_ratios(present: NDArray[np.bool_], names: Sequence[str], high: NDArray[np.bool_]) -> list[RiskRatio]:
    """Which structures the high-risk patients have more often. present: (p, s) bool; names: s; high: (p,) bool.

    Raises DiscoveryError: wrong_shape, one_side.
    """
    from scipy.stats.contingency import relative_risk

    if present.shape != (len(high), len(names)):
        sentence = f"Structures have the shape {present.shape}, not {len(high)} patients x {len(names)} names."
        raise DiscoveryError("wrong_shape", sentence, where="present")
    if high.all() or not high.any():
        raise DiscoveryError("one_side", "All patients are on one side, so nothing can be compared.", where="high")
    out = []
    for name, has in zip(names, present.T):
        a, n1, b, n0 = int(has[high].sum()), int(high.sum()), int(has[~high].sum()), int((~high).sum())
        risk = relative_risk(a, n1, b, n0)
        limits = risk.confidence_interval(0.95)
        known = a > 0 and b > 0
        lower, upper = (float(limits.low), float(limits.high)) if known else (float("nan"), float("nan"))
        out.append(RiskRatio(name, (a, n1), (b, n0), float(risk.relative_risk), lower, upper))
    return out


def _k_means(x: NDArray[np.floating], k: int, config: RiskGroupConfig) -> Group:
    from sklearn.cluster import KMeans

    return KMeans(k, n_init=config.starts, random_state=config.seed).fit_predict(x).astype(np.intp)


def _ratios(group: Group, known: Outcomes, count: int) -> Floats:
    """(count,) observed by expected events of each group; 1 where a group has no patient or nobody at risk when events happened."""
    ratio = np.ones(count)
    try:
        test = logrank(known.time, known.event, group, entry=known.entry)
    except SurvivalDataError as refused:
        if refused.code not in ("one_group", "no_variance"):
            raise
        return ratio
    expected = np.where(test.expected > 0, test.expected, 1.0)
    ratio[list(test.levels)] = np.where(test.expected > 0, test.observed / expected, 1.0)
    return ratio


def _high(ratio: Floats, config: RiskGroupConfig) -> NDArray[np.bool_]:
    """(g,) the half of the groups with most events for what was expected (at a draw the smaller group), or the declared ones."""
    high = np.zeros(config.groups, dtype=np.bool_)
    by_risk = np.argsort(ratio, kind="stable")[config.groups - config.groups // 2 :]
    high[list(config.declared_high) if config.merge == "declared" else by_risk] = True
    return high


def _excess(high: NDArray[np.bool_], known: Outcomes) -> float:
    """Events of the high side beyond the expected, in standard deviations (log-rank); 0 where the sides cannot be compared."""
    try:
        test = logrank(known.time, known.event, high, (False, True), entry=known.entry)
    except SurvivalDataError as refused:
        if refused.code not in ("one_group", "no_variance"):
            raise
        return 0.0
    return float((test.observed - test.expected)[1] / np.sqrt(test.covariance[1, 1]))


def _out_of_fold(group: Group, known: Outcomes, fold: Group, config: RiskGroupConfig) -> NDArray[np.bool_]:
    """(p,) side of each patient by a merge on the other folds."""
    side = np.empty(len(group), dtype=np.bool_)
    for k in range(config.folds):
        held = fold == k
        side[held] = _high(_ratios(group[~held], _taken(known, ~held), config.groups), config)[group[held]]
    return side


def _taken(known: Outcomes, rows: NDArray[np.bool_]) -> Outcomes:
    patients = tuple(p for p, kept in zip(known.patients, rows) if kept)
    return Outcomes(patients, known.time[rows], known.event[rows], known.endpoint, None if known.entry is None else known.entry[rows])
