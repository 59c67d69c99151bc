"""Survival time in intervals: quartiles of the uncensored patients' times (spec section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.mica.errors import MicaError
from ml.survival.data import SurvivalDataError, prepare

MARGIN = 1e-6  # in the unit of time: the outer edges lie that far outside all times


@dataclass(frozen=True)
class Bins:
    """Intervals [edge_k, edge_k+1) of survival time. edges: (K + 1,) float64, rising, in the unit of the times that they were made of."""

    edges: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.edges) - 1

    def of(self, time: NDArray[Any]) -> NDArray[np.int64]:
        """(n,) interval of each time, 0..K-1. Times outside belong to the first or last interval: held-out patients may live longer."""
        found = np.searchsorted(self.edges, np.asarray(time, np.float64), side="right") - 1
        return np.clip(found, 0, len(self) - 1).astype(np.int64)


def make_bins(time: NDArray[Any], event: NDArray[Any], bins: int = 4, where: str = "outcomes") -> Bins:
    """Edges at the quantiles of the times with an event; time, event: one row per patient. The outer edges lie around all times.

    Raises MicaError: bad_outcomes, all_censored, too_few_event_times, intervals_tied. where: said with the error, e.g. "fold 3".
    """
    try:
        sample = prepare(time, event, merge=False)
    except SurvivalDataError as error:
        raise MicaError("bad_outcomes", error.sentence, error.hint, where) from error
    died = sample.time[sample.event]
    if not len(died):
        raise MicaError(
            "all_censored", f"All {len(sample)} patients of {where} are censored, so there is nothing to fit.", "Wait for events.", where
        )
    distinct = len(np.unique(died))
    if distinct < bins:
        sentence = f"The events of {where} have {distinct} distinct times; {bins} intervals need at least {bins}."
        raise MicaError("too_few_event_times", sentence, "Ask for fewer intervals, or wait for more events.", where)
    edges = np.quantile(died, np.linspace(0, 1, bins + 1))
    if len(np.unique(edges)) < bins + 1:
        sentence = f"So many events of {where} have the same time that {bins} intervals of equal numbers of events cannot be told apart."
        raise MicaError("intervals_tied", sentence, "Ask for fewer intervals, or give times in days.", where)
    edges[0], edges[-1] = sample.time.min() - MARGIN, sample.time.max() + MARGIN
    return Bins(edges)


def sampler_class(interval: NDArray[np.int64], event: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) class of the balanced sampler: 2 x interval + (1 where censored)."""
    return 2 * interval + ~np.asarray(event, np.bool_)
