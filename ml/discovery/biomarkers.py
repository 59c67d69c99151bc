"""Biomarkers of response: the whole recipe of VirTues (Methods, Biomarker discovery), and how far its estimate can be believed.

The recipe: ranks by tertiles, a screen of every cluster, the best two of each direction, one logistic regression on their ranks. The
paper chooses and estimates on the same patients, so its estimate (`printed`) is too good: on noise it lies well above 1/2. Beside it stand
`nested` (thresholds, screen, choice and fit inside each outer training fold, the others only predicted) and the p of the nested AUROC when
the outcomes are shuffled through the whole recipe. The clusters themselves are shared by all folds and shufflings: they were found
without outcomes, so they carry none from a held-out patient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.discovery.checks import Floats, two_classes
from ml.discovery.config import BiomarkerConfig
from ml.discovery.errors import DiscoveryError, Progress, Stop, tell
from ml.discovery.fingerprints import NON_RESPONSE, RESPONSE, Ranks, checked_shares, directions, ranks, risk_ratios, tertiles
from ml.discovery.screen import screen, stratified_folds

OPTIMISTIC = "The clusters were chosen and measured on the same patients, so this estimate is too good."
SHARED = "The clusters were found once, on the cells of all patients and without any outcome."
BLOCK = 10


@dataclass(frozen=True)
class Selection:
    """The chosen clusters, response first, best first. columns (k,) into the shares; direction +1 or -1, risk_ratio, auroc (k,);
    thresholds (2, k) of their ranks."""

    columns: NDArray[np.intp]
    direction: NDArray[np.int8]
    risk_ratio: Floats
    auroc: Floats
    thresholds: Floats

    def ranks(self, proportions: Floats) -> Ranks:
        """(p, k) ranks of the chosen clusters by the thresholds that were learned with the choice."""
        return ranks(proportions[:, self.columns], self.thresholds)


@dataclass(frozen=True)
class Nested:
    """auroc: mean over the outer folds (each in by_fold). out_of_fold: (n,) mean probability of response, from fits without the patient.
    chosen: (m,) share of the outer folds that chose each cluster."""

    auroc: float
    by_fold: Floats
    out_of_fold: Floats
    chosen: Floats


@dataclass(frozen=True)
class Null:
    """What shuffled outcomes gave so far, in order: the state to go on from. key: the input and settings that it belongs to."""

    key: str
    nested: tuple[float, ...] = ()
    printed: tuple[float, ...] = ()

    def p(self, observed: float) -> float:
        """(1 + shufflings at least as good) / (1 + shufflings) of the nested AUROC."""
        return (1 + sum(v >= observed for v in self.nested)) / (1 + len(self.nested))


@dataclass(frozen=True)
class Biomarkers:
    """selection and printed: on all patients, as in the paper. nested, p: what the recipe is worth. null: the shufflings behind p."""

    selection: Selection
    printed: float
    nested: Nested
    null: Null
    p: float
    notes: tuple[str, ...] = (OPTIMISTIC, SHARED)


def discover(
    proportions: ArrayLike,
    response: NDArray[np.bool_],
    patients: Sequence[str],
    config: BiomarkerConfig,
    null: Null | None = None,
    keep: Callable[[Null], None] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Biomarkers:
    """The recipe with its three figures. proportions: (n, m) shares of a patient's cells; response: (n,) bool; patients: n ids, once each.

    keep: is given the state of the shufflings after each block of 10; null: such a state, gone on from.
    Raises DiscoveryError (wrong_shape, empty, not_finite, not_a_share, patient_twice, single_class, too_few_patients, no_cluster_left,
    state_of_other_input), Cancelled.
    """
    p, y = _checked(proportions, response, patients, config)
    tell(progress, stop, 0.0, "biomarkers")
    selection, estimate = printed(p, y, patients, config)
    found = nested(p, y, patients, config)
    null = permute(p, y, patients, config, null, keep, progress, stop)
    return Biomarkers(selection, estimate, found, null, null.p(found.auroc))


def permute(
    proportions: Floats,
    response: NDArray[np.bool_],
    patients: Sequence[str],
    config: BiomarkerConfig,
    null: Null | None = None,
    keep: Callable[[Null], None] | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> Null:
    """Shuffle the outcomes among the patients and run everything, `permutations` times; each shuffling has a seed of its own."""
    key = _key(proportions, response, patients, config)
    null = Null(key) if null is None else null
    if null.key != key:
        sentence = "The shufflings given were made with other patients, shares, outcomes or settings."
        raise DiscoveryError("state_of_other_input", sentence, "Start without them.", "null")
    while (done := len(null.nested)) < config.permutations:
        tell(progress, stop, done / config.permutations, f"shuffled outcomes: {done} of {config.permutations}")
        block = [np.random.default_rng((config.seed, i)).permutation(response) for i in range(done, min(done + BLOCK, config.permutations))]
        # A shuffling in which no cluster points anywhere tells nothing apart: 1/2.
        both = [(nested(proportions, y, patients, config).auroc, _printed_or_half(proportions, y, patients, config)) for y in block]
        null = Null(key, null.nested + tuple(a for a, _ in both), null.printed + tuple(b for _, b in both))
        if keep is not None:
            keep(null)
    tell(progress, stop, 1.0, "shuffled outcomes")
    return null


def printed(proportions: Floats, response: NDArray[np.bool_], patients: Sequence[str], config: BiomarkerConfig) -> tuple[Selection, float]:
    """The paper's way: choose on all patients, then cross-validate the joint model on the same patients (mean AUROC of the folds)."""
    selection = select(proportions, response, patients, config)
    if not len(selection.columns):
        sentence = "In no cluster do patients with a high share respond more, or less, often than the others."
        raise DiscoveryError("no_cluster_left", sentence, "More patients or other resolutions are needed.", "proportions")
    rank = selection.ranks(proportions)
    held = stratified_folds(patients, response, config.folds, config.joint_repeats, config.seed)
    areas = [_auroc(response[out], _joint(rank, response, out, config)) for out in held]
    return selection, float(np.mean(areas))


def nested(proportions: Floats, response: NDArray[np.bool_], patients: Sequence[str], config: BiomarkerConfig) -> Nested:
    """The recipe inside each outer training fold, measured on the patients it never saw. No cluster chosen: all score alike, AUROC 1/2."""
    outer = stratified_folds(patients, response, config.outer_folds, config.outer_repeats, config.seed)
    ids = np.asarray(patients)
    areas, chosen, total = np.empty(len(outer)), np.zeros(proportions.shape[1]), np.zeros(len(response))
    for i, out in enumerate(outer):
        seen = ~out
        selection = select(proportions[seen], response[seen], ids[seen].tolist(), config)
        chosen[selection.columns] += 1
        score = np.full(int(out.sum()), response[seen].mean())
        if len(selection.columns):
            score = _joint(selection.ranks(proportions), response, out, config)
        areas[i] = _auroc(response[out], score)
        total[out] += score
    return Nested(float(areas.mean()), areas, total / config.outer_repeats, chosen / len(outer))


def select(proportions: Floats, response: NDArray[np.bool_], patients: Sequence[str], config: BiomarkerConfig) -> Selection:
    """Thresholds, screen and the best clusters of each direction, from these patients alone (fewer where a direction has fewer)."""
    thresholds = tertiles(proportions)
    rank = ranks(proportions, thresholds)
    held = stratified_folds(patients, response, config.folds, config.screen_repeats, config.seed)
    auroc, ratio = screen(rank, response, held), risk_ratios(rank, response)
    way = directions(ratio)
    best = np.argsort(-auroc, kind="stable")  # NaN last; equal ones in the order of the clusters
    best = best[~np.isnan(auroc[best])]
    columns = np.concatenate([best[way[best] == d][: config.per_direction] for d in (RESPONSE, NON_RESPONSE)])
    return Selection(columns, way[columns], ratio[columns], auroc[columns], thresholds[:, columns])


def _joint(rank: Ranks, response: NDArray[np.bool_], out: NDArray[np.bool_], config: BiomarkerConfig) -> Floats:
    """Probability of response of the held-out patients by one logistic regression on the others' ranks (as numbers)."""
    from sklearn import config_context
    from sklearn.linear_model import LogisticRegression

    x = rank.astype(np.float64)
    with config_context(assume_finite=True, skip_parameter_validation=True):
        # Newton's steps: on so few columns as exact as it gets, where L-BFGS stops at 1e-4.
        fit = LogisticRegression(C=config.c, solver="newton-cholesky").fit(x[~out], response[~out])
        return fit.predict_proba(x[out])[:, 1]


def _auroc(response: NDArray[np.bool_], score: Floats) -> float:
    """Mann-Whitney's U over the pairs, ties one half; both classes are there by the stratified split."""
    from scipy.stats import rankdata

    yes = int(response.sum())
    above = rankdata(np.round(score, 12))[response].sum() - yes * (yes + 1) / 2
    return float(above / (yes * (len(response) - yes)))


def _printed_or_half(proportions: Floats, response: NDArray[np.bool_], patients: Sequence[str], config: BiomarkerConfig) -> float:
    try:
        return printed(proportions, response, patients, config)[1]
    except DiscoveryError as refused:
        if refused.code != "no_cluster_left":
            raise
        return 0.5


def _checked(
    proportions: ArrayLike, response: NDArray[np.bool_], patients: Sequence[str], config: BiomarkerConfig
) -> tuple[Floats, NDArray[np.bool_]]:
    y = np.asarray(response)
    if y.dtype != np.bool_ or y.shape != (len(patients),):
        sentence = f"The outcomes are {y.dtype} {y.shape}, not one true or false for each of {len(patients)} patients."
        raise DiscoveryError("wrong_shape", sentence, where="response")
    if len(set(patients)) != len(patients):
        raise DiscoveryError("patient_twice", "A patient appears twice among the fingerprints.", "One row per patient.", "patients")
    # Each class is shared out over the outer folds first; what is left of it must fill the inner folds.
    two_classes(y, least_of_a_class(config), f"{config.folds}-fold selection inside {config.outer_folds} outer folds")
    return checked_shares(proportions, len(patients)), y


def least_of_a_class(config: BiomarkerConfig) -> int:
    """Fewest patients of a class that the folds can be made of: each outer fold holds one, each inner fold one of those left."""
    n = max(config.folds, config.outer_folds)
    while n - math.ceil(n / config.outer_folds) < config.folds:
        n += 1
    return n


def _key(proportions: Floats, response: NDArray[np.bool_], patients: Sequence[str], config: BiomarkerConfig) -> str:
    """Which input and settings a state belongs to; the number of shufflings may grow."""
    settings = config.model_dump_json(exclude={"permutations"})
    parts = (proportions.tobytes(), response.tobytes(), "\x1f".join(patients).encode(), settings.encode())
    return sha256(b"\x1e".join(parts)).hexdigest()
