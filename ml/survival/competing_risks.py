"""Cumulative incidence with competing causes: the Aalen-Johansen estimate with R survival's standard error.

F_k(t) = sum S(u-) d_k/n. One minus Kaplan-Meier of a single cause is not an incidence when another cause takes patients
away. The standard error is the infinitesimal jackknife (as R's survfit on several states); cmprsk's differs by up to 1%.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from ml.survival.data import Floats, SurvivalDataError, prepare
from ml.survival.timeline import timeline


@dataclass(frozen=True)
class Incidence:
    """time (m,) distinct times; causes in order; incidence, se: (causes, m); event_free, event_free_se: (m,)."""

    time: Floats
    causes: tuple[int, ...]
    incidence: Floats
    se: Floats
    event_free: Floats
    event_free_se: Floats
    conf_level: float = 0.95

    def at(self, times: ArrayLike) -> tuple[Floats, Floats, Floats, Floats]:
        """(estimate, se, lower, upper) at `times` (the step before), each (1 + causes, len(times)): event-free first.

        Limits est * exp(-/+ z se/est), at most 1 (conf.type "log"); NaN where the estimate is 0.
        """
        step = np.searchsorted(self.time, np.atleast_1d(np.asarray(times, dtype=np.float64)), side="right")
        estimate = np.vstack((np.append(1.0, self.event_free), np.insert(self.incidence, 0, 0.0, axis=1)))[:, step]
        se = np.insert(np.vstack((self.event_free_se, self.se)), 0, 0.0, axis=1)[:, step]
        reach = float(ndtri(0.5 + self.conf_level / 2)) * np.divide(se, estimate, out=np.full_like(se, np.nan), where=estimate > 0)
        return estimate, se, estimate * np.exp(-reach), np.minimum(1.0, estimate * np.exp(reach))


def cumulative_incidence(time: ArrayLike, cause: ArrayLike, causes: tuple[int, ...] = (1, 2), conf_level: float = 0.95) -> Incidence:
    """time: (n,); cause: (n,) 0 = censored, else the cause of the event. Cost n x distinct times (the jackknife).

    Raises SurvivalDataError: unknown_cause and those of `prepare`.
    """
    kind = np.asarray(cause, dtype=np.float64)
    if not np.isin(kind, (0, *causes)).all():
        sentence = f"The cause column holds values other than 0 and {', '.join(map(str, causes))}."
        raise SurvivalDataError("unknown_cause", sentence, "0 means censored.", "cause")
    sample = prepare(time, kind != 0)
    line = timeline(sample)
    n, m = len(sample), len(line.time)
    free, incidence = 1.0, np.zeros(len(causes))
    d_free, d_incidence = np.zeros(n), np.zeros((len(causes), n))
    out, se = np.empty((len(causes) + 1, m)), np.empty((len(causes) + 1, m))
    for j in range(m):
        at_risk = sample.time >= line.time[j]
        here = sample.time == line.time[j]
        fell = np.stack([here & (kind == c) for c in causes])
        rate = fell.sum(axis=1) / line.n_risk[j]
        d_rate = (fell - at_risk * rate[:, None]) / line.n_risk[j]
        d_incidence = d_incidence + np.outer(rate, d_free) + free * d_rate
        incidence = incidence + free * rate
        d_free = d_free * (1 - rate.sum()) - free * d_rate.sum(axis=0)
        free *= 1 - rate.sum()
        out[:, j] = np.append(free, incidence)
        se[:, j] = np.sqrt(np.append((d_free**2).sum(), (d_incidence**2).sum(axis=1)))
    return Incidence(line.time, causes, out[1:], se[1:], out[0], se[0], conf_level)
