"""Survival of ordered groups of patients: curves, log-rank of two of them, concordance. Everything by ml.survival."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.discovery.errors import DiscoveryError
from ml.survival.concordance import Concordance, concordance
from ml.survival.data import SurvivalDataError
from ml.survival.kaplan_meier import KaplanMeier, kaplan_meier_by_group
from ml.survival.logrank import LogRank, logrank
from ml.types import Outcomes


@dataclass(frozen=True)
class GroupSurvival:
    """curves: of each group that has patients, lowest risk first. test: log-rank of the lowest against the highest group, None where one
    of them is empty, nobody in them had an event, or they never shared a risk set. c: concordance of the groups in their order.
    left_out: patients without an outcome."""

    curves: dict[Hashable, KaplanMeier]
    test: LogRank | None
    c: Concordance
    left_out: tuple[str, ...]


def with_outcomes(patients: Sequence[str], outcomes: Outcomes) -> tuple[NDArray[np.intp], Outcomes, tuple[str, ...]]:
    """(places in `patients` of those with an outcome, their outcomes in that order, patients without one).

    Raises DiscoveryError: patient_twice, no_outcome (where nobody has one).
    """
    row = {p: i for i, p in enumerate(outcomes.patients)}
    if len(row) != len(outcomes.patients):
        raise DiscoveryError("patient_twice", "A patient appears twice in the outcomes.", "One row per patient.", "outcomes")
    places = np.array([i for i, p in enumerate(patients) if p in row], dtype=np.intp)
    if not len(places):
        raise DiscoveryError("no_outcome", "No patient has an outcome.", "Do the outcomes use the same patient codes?", "outcomes")
    rows = [row[patients[i]] for i in places]
    entry = None if outcomes.entry is None else outcomes.entry[rows]
    kept = Outcomes(tuple(patients[i] for i in places), outcomes.time[rows], outcomes.event[rows], outcomes.endpoint, entry)
    return places, kept, tuple(p for p in patients if p not in row)


def group_survival(patients: Sequence[str], group: NDArray[np.str_], order: Sequence[str], outcomes: Outcomes) -> GroupSurvival:
    """group: (n,) names; order: the names from the lowest risk to the highest. Times in days.

    Raises DiscoveryError (patient_twice, no_outcome), SurvivalDataError (those of kaplan_meier_by_group and concordance).
    """
    places, known, missing = with_outcomes(patients, outcomes)
    of = group[places]
    curves = kaplan_meier_by_group(known.time, known.event, of, order, known.entry)
    score = np.array([order.index(name) for name in of.tolist()], dtype=np.float64)
    c = concordance(known.time, known.event, score, known.entry)
    return GroupSurvival(curves, _ends(known, of, (order[0], order[-1])), c, missing)


def _ends(known: Outcomes, of: NDArray[np.str_], ends: tuple[str, str]) -> LogRank | None:
    rows = np.isin(of, ends)
    try:
        return logrank(known.time[rows], known.event[rows], of[rows], ends, entry=None if known.entry is None else known.entry[rows])
    except SurvivalDataError as refused:
        if refused.code not in ("no_rows", "one_group", "no_events", "no_variance"):
            raise
        return None
