"""Time-to-event data: checked once, near ties merged as R does, everything float64.

A subject is at risk in (entry, time]; without an entry, from the start (events at time 0 count).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.types import Outcomes

NEAR_TIE = float(np.sqrt(np.finfo(np.float64).eps))  # 1.49e-8, the tolerance of R's aeqSurv

Floats = NDArray[np.float64]


class SurvivalDataError(ValueError):
    """Time-to-event data that no statistic can be made of; `code` is stable, `sentence` and `hint` are for people."""

    def __init__(self, code: str, sentence: str, hint: str = "", where: str = "") -> None:
        super().__init__(sentence if not hint else f"{sentence} {hint}")
        self.code, self.sentence, self.hint, self.where = code, sentence, hint, where


@dataclass(frozen=True)
class SurvivalFinding:
    """Something that was done to the data or that limits a result, said beside the result."""

    code: str
    severity: str
    sentence: str
    hint: str = ""
    where: str = ""


@dataclass(frozen=True)
class SurvivalSample:
    """Checked rows. time, entry, weights: (n,) float64; event: (n,) bool; kept: (rows given,) bool, rows still here."""

    time: Floats
    event: NDArray[np.bool_]
    entry: Floats | None
    weights: Floats | None
    kept: NDArray[np.bool_]
    findings: tuple[SurvivalFinding, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.time)


def merge_near_ties(*columns: ArrayLike) -> tuple[Floats, ...]:
    """Times closer than 1.5e-8 (absolute, or relative to the mean distinct time) become the earliest of them.

    All columns (entry and time) are merged together, as R's `aeqSurv`: months x 30.4375 by two roads must be one time.
    """
    arrays = [np.asarray(c, dtype=np.float64) for c in columns]
    distinct = np.sort(np.concatenate(arrays)) if len(arrays) > 1 else np.sort(arrays[0])
    if len(distinct) < 2:
        return tuple(arrays)
    gaps = np.diff(distinct)
    different = gaps > 0
    distinct = np.concatenate((distinct[:1], distinct[1:][different]))
    gaps = gaps[different]
    tied = gaps <= NEAR_TIE * max(1.0, float(np.abs(distinct).mean()))
    if not tied.any():
        return tuple(arrays)
    cuts = distinct[np.concatenate(([True], ~tied))]
    return tuple(cuts[np.searchsorted(cuts, a, side="right") - 1] for a in arrays)


def _float_column(values: ArrayLike, name: str, n: int | None = None) -> Floats:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as problem:
        raise SurvivalDataError("not_a_number", f"The column {name} holds something that is not a number.", str(problem), name) from problem
    if array.ndim != 1 or (n is not None and len(array) != n):
        raise SurvivalDataError(
            "wrong_shape", f"The column {name} must be one value per subject{'' if n is None else f' ({n})'}.", where=name
        )
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise SurvivalDataError(
            "missing_value", f"{count} rows have no finite {name}.", "Leave such rows out first and say how many were left out.", name
        )
    return array


def prepare(
    time: ArrayLike, event: ArrayLike, entry: ArrayLike | None = None, weights: ArrayLike | None = None, *, merge: bool = True
) -> SurvivalSample:
    """Check the columns and merge near ties. Rows with entry >= time are dropped and counted in a finding.

    Raises SurvivalDataError: no_rows, wrong_shape, not_a_number, missing_value, negative_time, event_not_binary,
    weight_not_positive, no_time_at_risk.
    """
    t = _float_column(time, "time")
    if len(t) == 0:
        raise SurvivalDataError("no_rows", "There are no subjects.", "Check the filter that made this set.")
    e = _float_column(event, "event", len(t))
    if not ((e == 0) | (e == 1)).all():
        raise SurvivalDataError(
            "event_not_binary",
            "The event column holds values other than 0 and 1.",
            "1 means that the event was observed; say how this table codes it.",
            "event",
        )
    if entry is None and t.min() < 0:
        raise SurvivalDataError(
            "negative_time", f"{int((t < 0).sum())} times are negative.", "Time counts from time zero, in days.", "time"
        )
    start = None if entry is None else _float_column(entry, "entry", len(t))
    w = None if weights is None else _float_column(weights, "weights", len(t))
    if w is not None and w.min() <= 0:
        raise SurvivalDataError(
            "weight_not_positive", "A weight is zero or negative.", "Leave out the rows that shall not count.", "weights"
        )
    if merge:
        (t,) = merge_near_ties(t) if start is None else (t,)
        if start is not None:
            start, t = merge_near_ties(start, t)
    kept = np.ones(len(t), dtype=np.bool_)
    findings: tuple[SurvivalFinding, ...] = ()
    if start is not None:
        kept = start < t
        findings = _entry_finding(kept)
    return SurvivalSample(
        t[kept], e[kept].astype(np.bool_), None if start is None else start[kept], None if w is None else w[kept], kept, findings
    )


def _entry_finding(kept: NDArray[np.bool_]) -> tuple[SurvivalFinding, ...]:
    dropped = int((~kept).sum())
    if dropped == len(kept):
        raise SurvivalDataError(
            "no_time_at_risk", "No subject enters before its own time.", "Are entry and time in the same unit?", "entry"
        )
    if not dropped:
        return ()
    return (
        SurvivalFinding(
            "entry_not_before_time", "warning", f"{dropped} rows enter at or after their own time and were left out.", where="entry"
        ),
    )


def require_events(sample: SurvivalSample, what: str) -> None:
    """Refuse data without an event: R's survdiff answers chisq 0 with -1 degrees of freedom, which nobody can read."""
    if not sample.event.any():
        raise SurvivalDataError(
            "no_events", f"No event was observed, so there is no {what}.", "Wait for longer follow-up or choose another endpoint."
        )


def build_outcomes(
    patients: Sequence[str], time: Sequence[Any], event: Sequence[Any], endpoint: str, entry: Sequence[Any] | None = None
) -> tuple[Outcomes, tuple[SurvivalFinding, ...]]:
    """Outcomes from columns of a table; time and entry in days, event 0/1 or bool, None or NaN where missing.

    Rows without time or event (or entry, where the column is given) are left out and counted; so are rows that enter
    at or after their time. A patient may appear once.
    """
    if not len(patients) == len(time) == len(event) or (entry is not None and len(entry) != len(patients)):
        raise SurvivalDataError("wrong_shape", "The columns of the outcome table differ in length.")
    if len(set(patients)) != len(patients):
        twice = sorted(p for p, times in Counter(patients).items() if times > 1)
        raise SurvivalDataError("patient_twice", f"{len(twice)} patients appear twice, e.g. {twice[0]}.", "One row per patient.", "patient")
    columns = {"time": time, "event": event} | ({} if entry is None else {"entry": entry})
    there = np.array([all(_is_there(c[i]) for c in columns.values()) for i in range(len(patients))], dtype=np.bool_)
    findings: tuple[SurvivalFinding, ...] = ()
    if not there.all():
        findings = (
            SurvivalFinding(
                "missing_outcome", "warning", f"{int((~there).sum())} patients have no {', '.join(columns)} and were left out."
            ),
        )
    rows = np.flatnonzero(there).tolist()
    sample = prepare([time[i] for i in rows], [event[i] for i in rows], None if entry is None else [entry[i] for i in rows], merge=False)
    ids = tuple(str(patients[i]) for i, kept in zip(rows, sample.kept) if kept)
    return Outcomes(ids, sample.time, sample.event, endpoint, sample.entry), findings + sample.findings


def _is_there(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and math.isnan(value))
