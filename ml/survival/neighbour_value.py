"""Whether the outcomes of a patient's neighbours say more than age and stage: leave-one-patient-out, with a bootstrap over patients.

For each patient the neighbours' score is 1 - S(horizon) of the Kaplan-Meier curve of her k nearest other patients. Two Cox models are
fitted on everybody but her, on age and stage alone and with the neighbours' score added, where the scores of the others are computed
without her too: her outcome is in nothing that predicts her. The gain is the difference of the two C of these held-out predictions; its
interval is a percentile bootstrap over patients (the patient is the unit). DESIGNS 9, Neighbours.

Two things that leaving one out does would pass for a gain where there is none (measured on pure noise: shown in 20% of cohorts without
them). Whoever is left out makes the mean of the others move the other way, so that a score of others' outcomes falls as her own risk
rises; the model would learn that and turn it round. So worse neighbours may only raise a risk: a negative coefficient counts as none. And
covariates that say nothing get a held-out C below one half for the same reason: nothing is credited for coming back to one half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.survival.concordance import concordance
from ml.survival.cox import cox
from ml.survival.data import SurvivalDataError, prepare

Floats = NDArray[np.float64]
LEAST_NEIGHBOURS, LEAST_EVENTS = 30, 10
HORIZON_DAYS = 24 * 30.4375
DRAWS = 500
# Of the information, so that a fit on few events does not run away; the same for both models.
RIDGE = 0.1


@dataclass(frozen=True)
class NeighbourValue:
    """c_base: of age and stage; c_with: with the neighbours' score; gain: c_with over c_base or one half, whichever is more, with its
    95% limits. shown: the lower limit is above zero.

    n, events: patients that took part. draws: bootstrap samples that gave a C.
    """

    n: int
    events: int
    k: int
    horizon_days: float
    c_base: float
    c_with: float
    gain: float
    gain_lower: float
    gain_upper: float
    draws: int

    @property
    def shown(self) -> bool:
        return self.gain_lower > 0


def curve_at(time: Floats, event: NDArray[np.bool_], entry: Floats, at: float) -> Floats:
    """(m,) Kaplan-Meier survival at a time, one curve per row of time, event and entry (m, k); delayed entry as in `kaplan_meier`."""
    risk = (entry[:, None, :] < time[:, :, None]) & (time[:, None, :] >= time[:, :, None])
    # Events at one time one after the other: (1 - 1/r)(1 - 1/(r - 1)) is 1 - 2/r.
    earlier = np.tril(np.ones((time.shape[1],) * 2, dtype=bool), -1)
    tied = (time[:, None, :] == time[:, :, None]) & event[:, None, :] & earlier
    at_risk = risk.sum(axis=2) - tied.sum(axis=2)
    used = event & (time <= at)
    survival: Floats = np.prod(np.where(used, 1 - 1 / np.maximum(at_risk, 1), 1.0), axis=1)
    return survival


def neighbour_value(
    time: ArrayLike, event: ArrayLike, entry: ArrayLike, base: ArrayLike, neighbours: Sequence[ArrayLike], k: int = LEAST_NEIGHBOURS, *,
    horizon_days: float = HORIZON_DAYS, draws: int = DRAWS, seed: int = 0,
) -> NeighbourValue:  # fmt: skip
    """The gain of the neighbours' curve over `base`.

    time, event, entry: (n,) days; base: (n, b) age, stage ..., complete. neighbours: per patient the rows of her k + 1 nearest others,
    nearest first (the last one steps in where one of the k is left out).
    Raises SurvivalDataError: too_few (fewer than k + 2 patients, or 10 events), no_neighbours, and those of `cox`.
    """
    t, e, s = np.asarray(time, np.float64), np.asarray(event, np.bool_), np.asarray(entry, np.float64)
    x = np.asarray(base, np.float64)
    n = len(t)
    if n < k + 2 or e.sum() < LEAST_EVENTS:
        sentence = f"{n} patients with {int(e.sum())} events; it takes {k + 2} patients and {LEAST_EVENTS} events."
        raise SurvivalDataError("too_few", sentence, "Wait for more outcomes.")
    near = np.array([np.asarray(rows, np.int64)[: k + 1] for rows in neighbours if len(rows) > k])
    if len(near) != n or (near == np.arange(n)[:, None]).any():
        sentence = f"Every patient needs {k + 1} neighbours that are not herself."
        raise SurvivalDataError("no_neighbours", sentence, "Embed the tissues of all patients.")
    full = _scores(t, e, s, near[:, :k], horizon_days)
    without = _scores_without(t, e, s, near, horizon_days)
    held_base, held_with = np.empty(n), np.empty(n)
    centred = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    names = [f"x{i}" for i in range(x.shape[1])]
    delayed = s if s.any() else None
    for i in range(n):
        rows = np.delete(np.arange(n), i)
        others = full.copy()
        touched = np.flatnonzero((near[:, :k] == i).any(axis=1))
        others[touched] = without[touched, np.argmax(near[touched, :k] == i, axis=1)]
        both = np.column_stack([centred, others])
        columns = {"event": e[rows], "entry": None if delayed is None else delayed[rows]}
        alone = cox(t[rows], x=centred[rows], names=names, ridge=RIDGE, **columns)
        joint = cox(t[rows], x=both[rows], names=[*names, "neighbours"], ridge=RIDGE, **columns)
        held_base[i] = centred[i] @ alone.beta
        held_with[i] = np.append(centred[i], full[i]) @ joint.beta if joint.beta[-1] > 0 else held_base[i]
    return _gain(t, e, delayed, held_base, held_with, k, horizon_days, draws, seed)


def _scores(t: Floats, e: NDArray[np.bool_], s: Floats, near: NDArray[np.int64], horizon: float) -> Floats:
    """(m,) 1 - S(horizon) of the patients in the rows of near (m, k)."""
    return 1 - curve_at(t[near], e[near], s[near], horizon)


def _scores_without(t: Floats, e: NDArray[np.bool_], s: Floats, near: NDArray[np.int64], horizon: float) -> Floats:
    """(n, k): the score of patient j without her i-th neighbour, whose place the k + 1st takes."""
    k = near.shape[1] - 1
    found = np.empty((len(near), k))
    for place in range(k):
        found[:, place] = _scores(t, e, s, np.delete(near, place, axis=1), horizon)
    return found


def _gain(
    t: Floats, e: NDArray[np.bool_], entry: Floats | None, alone: Floats, joint: Floats, k: int, horizon: float, draws: int, seed: int
) -> NeighbourValue:
    def c_of(rows: NDArray[np.int64], score: Floats) -> float:
        return concordance(t[rows], e[rows], score[rows], None if entry is None else entry[rows]).c

    everybody = np.arange(len(t))

    def gain_of(rows: NDArray[np.int64]) -> float:
        return c_of(rows, joint) - max(c_of(rows, alone), 0.5)

    c_base, c_with = c_of(everybody, alone), c_of(everybody, joint)
    rng = np.random.default_rng(seed)
    gains = []
    for _ in range(draws):
        rows = rng.integers(0, len(t), len(t))
        try:
            gains.append(gain_of(rows))
        except SurvivalDataError:
            continue  # a sample without a usable pair
    lower, upper = np.quantile(gains, [0.025, 0.975])
    sample = prepare(t, e, entry)
    return NeighbourValue(len(sample), int(e.sum()), k, horizon, c_base, c_with, gain_of(everybody), float(lower), float(upper), len(gains))
