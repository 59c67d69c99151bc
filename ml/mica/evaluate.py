"""How well a risk orders patients: Harrell's C over pairs of one fold, with a patient bootstrap, and paired differences on the same folds.

Folds are models of their own whose scores are not on one scale, and leaving a patient out moves her fold's level away from her own outcome.
So a pair counts where both patients were held out by the same fold. The C over all pairs is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.mica.errors import MicaError
from ml.survival.concordance import concordance
from ml.survival.data import SurvivalDataError
from ml.types import Outcomes

Array = NDArray[np.float64]
CHUNK = 100


@dataclass(frozen=True)
class CFigures:
    """C of one risk. c: pairs within folds; se: its infinitesimal jackknife; lower, upper: 95% patient bootstrap of c.

    c_pooled: all pairs, across folds too. c_by_fold: NaN where a fold has no pair (their mean is the released trainer's figure).
    """

    name: str
    c: float
    se: float
    lower: float
    upper: float
    c_pooled: float
    c_by_fold: tuple[float, ...]
    n: int
    events: int


@dataclass(frozen=True)
class CDifference:
    """C of `name` minus C of `against`, both redrawn together: lower, upper are 95% of the paired patient bootstrap."""

    name: str
    against: str
    difference: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Comparison:
    """Rows in the order given; differences of every row to the reference."""

    rows: tuple[CFigures, ...]
    differences: tuple[CDifference, ...]


def compare(
    outcomes: Outcomes,
    fold_of: Mapping[str, int],
    risks: Mapping[str, NDArray[Any] | Mapping[str, float]],
    against: str | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Comparison:
    """The table of several risks on the same patients and folds, e.g. MICA, H&E alone, CODEX alone, the true hazard.

    risks: name -> (n,) in the order of outcomes.patients, or patient -> risk; higher = worse. against: the row that the others are compared
    with (default: the first). Raises MicaError("risk_absent") where a patient has no finite risk, ("no_pairs") where nothing can be
    ordered.
    """
    fold = np.array([fold_of[p] for p in outcomes.patients], dtype=np.intp)
    scores = {name: _in_order(name, given, outcomes.patients) for name, given in risks.items()}
    reference = against if against is not None else next(iter(scores))
    drawn = bootstrap_c(outcomes, fold, list(scores.values()), draws, seed)
    rows = tuple(_figures(name, outcomes, fold, score, drawn[i]) for i, (name, score) in enumerate(scores.items()))
    base = list(scores).index(reference)
    differences = []
    for i, row in enumerate(rows):
        if i != base:
            lower, upper = np.nanquantile(drawn[i] - drawn[base], [0.025, 0.975])
            differences.append(CDifference(row.name, reference, row.c - rows[base].c, float(lower), float(upper)))
    return Comparison(rows, tuple(differences))


def c_figures(name: str, outcomes: Outcomes, fold: NDArray[np.intp], risk: NDArray[Any], draws: int = 1000, seed: int = 0) -> CFigures:
    """Figures of one risk. fold, risk: (n,) in the order of outcomes.patients. Errors as compare."""
    score = _in_order(name, risk, outcomes.patients)
    return _figures(name, outcomes, fold, score, bootstrap_c(outcomes, fold, [score], draws, seed)[0])


def within_folds(outcomes: Outcomes, fold: NDArray[np.intp], risk: NDArray[Any]) -> float:
    """C over pairs of one fold."""
    return concordance(outcomes.time, outcomes.event, risk, outcomes.entry, strata=fold, merge=False).c


def bootstrap_c(outcomes: Outcomes, fold: NDArray[np.intp], scores: Sequence[Array], draws: int, seed: int) -> Array:
    """(scores, draws): C within folds with patients redrawn, the same draws for every score; NaN where a draw has no pair.

    A patient drawn m times weighs m. With K_ij = 1, 1/2 or 0 for comparable pairs, C = w K w / w P w: two matrix products for all draws
    instead of a concordance per draw.
    """
    n = len(outcomes.patients)
    time, event = np.asarray(outcomes.time, np.float64), np.asarray(outcomes.event, np.bool_)
    later = (time[:, None] < time[None, :]) | ((time[:, None] == time[None, :]) & ~event[None, :])
    pairs = event[:, None] & later & (fold[:, None] == fold[None, :])
    if outcomes.entry is not None:
        pairs &= np.asarray(outcomes.entry)[None, :] < time[:, None]
    np.fill_diagonal(pairs, False)
    counted = pairs.astype(np.float64)
    ordered = [np.where(pairs, 0.5 + 0.5 * np.sign(s[:, None] - s[None, :]), 0.0) for s in scores]
    rng, out = np.random.default_rng(seed), np.full((len(scores), draws), np.nan)
    for start in range(0, draws, CHUNK):
        size = min(CHUNK, draws - start)
        weight = rng.multinomial(n, np.full(n, 1 / n), size=size).astype(np.float64)
        total = ((weight @ counted) * weight).sum(axis=1)
        for i, matrix in enumerate(ordered):
            good = ((weight @ matrix) * weight).sum(axis=1)
            out[i, start : start + size] = np.divide(good, total, out=np.full(size, np.nan), where=total > 0)
    return out


def _figures(name: str, outcomes: Outcomes, fold: NDArray[np.intp], risk: Array, drawn: Array) -> CFigures:
    time, event, entry = outcomes.time, outcomes.event, outcomes.entry
    try:
        within = concordance(time, event, risk, entry, strata=fold, merge=False)
    except SurvivalDataError as error:
        raise MicaError("no_pairs", error.sentence, error.hint, name) from error
    by_fold = []
    for k in range(int(fold.max()) + 1):
        rows = np.flatnonzero(fold == k)
        try:
            by_fold.append(concordance(time[rows], event[rows], risk[rows], None if entry is None else entry[rows], merge=False).c)
        except SurvivalDataError:
            by_fold.append(float("nan"))
    lower, upper = np.nanquantile(drawn, [0.025, 0.975])
    pooled = concordance(time, event, risk, entry, merge=False).c
    return CFigures(name, within.c, within.se, float(lower), float(upper), pooled, tuple(by_fold), len(risk), int(np.asarray(event).sum()))


def _in_order(name: str, given: NDArray[Any] | Mapping[str, float], patients: Sequence[str]) -> Array:
    values = [given.get(p, np.nan) for p in patients] if isinstance(given, Mapping) else given
    score = np.asarray(values, np.float64)
    if score.shape != (len(patients),) or not np.isfinite(score).all():
        missing = int((~np.isfinite(score)).sum()) if score.shape == (len(patients),) else len(patients)
        raise MicaError("risk_absent", f"{missing} patients have no risk by {name}.", "Compare risks of the same patients.", name)
    return score
