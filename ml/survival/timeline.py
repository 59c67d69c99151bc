"""Counts over the distinct times of a sample: what Kaplan-Meier and the log-rank tests are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.survival.data import Floats, SurvivalSample


@dataclass(frozen=True)
class Timeline:
    """time: (m,) distinct times, censoring-only times too. The others (m,): weights at risk, with event, censored."""

    time: Floats
    n_risk: Floats
    n_event: Floats
    n_censor: Floats


def distinct(sorted_values: NDArray[np.generic]) -> NDArray[np.intp]:
    """Index of the first of each run in a sorted array."""
    return np.flatnonzero(np.concatenate(([True], sorted_values[1:] != sorted_values[:-1])))


def timeline(sample: SurvivalSample) -> Timeline:
    """Counts of a sample; at risk at t are those with entry < t <= time."""
    order = np.argsort(sample.time)
    time = sample.time[order]
    starts = distinct(time)
    event = sample.event[order]
    if sample.weights is None:
        ends = np.append(starts[1:], len(time))
        leaving = (ends - starts).astype(np.float64)
        died = np.add.reduceat(event, starts, dtype=np.float64)
        n_risk = (len(time) - starts).astype(np.float64)
    else:
        w = sample.weights[order]
        leaving = np.add.reduceat(w, starts)
        died = np.add.reduceat(w * event, starts)
        n_risk = np.cumsum(leaving[::-1])[::-1]
    distinct_time = time[starts]
    if sample.entry is not None:
        n_risk = n_risk - not_yet_entered(sample, distinct_time)
    return Timeline(distinct_time, n_risk, died, leaving - died)


def not_yet_entered(sample: SurvivalSample, at: Floats) -> Floats:
    """(m,) weight of the subjects with entry >= each time: they are not at risk there (interval open on the left)."""
    assert sample.entry is not None
    order = np.argsort(sample.entry)
    first_late = np.searchsorted(sample.entry[order], at, side="left")
    if sample.weights is None:
        return (len(order) - first_late).astype(np.float64)
    tail = np.append(np.cumsum(sample.weights[order][::-1])[::-1], 0.0)
    return tail[first_late]
