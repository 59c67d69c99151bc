"""Curves that a job draws while it works (losses of a training): thinned as they come, one row per series, kept after the job."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .models import JobCurve

MOST_POINTS = 400
NAME_LENGTH = 80


@dataclass
class Series:
    """Points of one series. x, y: at most MOST_POINTS; each point is the mean of `each` consecutive ones, the last of what came since.

    Twice as many points halve themselves: a series of any length costs the same to keep, and its course stays what it was.
    """

    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    each: int = 1
    # How many points the last mean holds so far.
    filled: int = 1

    def add(self, x: float, y: float) -> None:
        """x grows. A smaller one than before means that the work goes on from there (another attempt): what lay beyond is forgotten."""
        while self.x and self.x[-1] >= x:
            del self.x[-1], self.y[-1]
            self.filled = self.each
        if not self.x:
            self.each = 1
        if self.x and self.filled < self.each:
            share = 1 / (self.filled + 1)
            self.x[-1] += (x - self.x[-1]) * share
            self.y[-1] += (y - self.y[-1]) * share
            self.filled += 1
            return
        if len(self.x) == MOST_POINTS:
            self._halve()
        self.x.append(x)
        self.y.append(y)
        self.filled = 1

    def _halve(self) -> None:
        self.x, self.y = _pairs(self.x), _pairs(self.y)
        self.each *= 2


def _pairs(values: list[float]) -> list[float]:
    return [(a + b) / 2 for a, b in zip(values[::2], values[1::2])]


class Curves:
    """The curves of one job, in memory; `write` brings what changed into the database with one statement."""

    def __init__(self, job_id: int) -> None:
        self._job_id = job_id
        self._series: dict[str, Series] | None = None
        self._changed: set[str] = set()

    def add(self, name: str, x: float, y: float) -> None:
        """One more point. One that is no number (a loss that diverged) is left out."""
        if not (math.isfinite(x) and math.isfinite(y)):
            return
        if self._series is None:
            # An earlier attempt may have drawn already; what it finished is not done again, so its curves stay.
            rows = JobCurve.objects.filter(job=self._job_id)
            self._series = {row.series: Series(row.x, row.y, row.each, row.each) for row in rows}
        name = name[:NAME_LENGTH]
        self._series.setdefault(name, Series()).add(float(x), float(y))
        self._changed.add(name)

    @property
    def changed(self) -> bool:
        return bool(self._changed)

    def write(self) -> None:
        if self._series is None or not self._changed:
            return
        rows = [JobCurve(job_id=self._job_id, series=n, x=s.x, y=s.y, each=s.each) for n, s in self._series.items() if n in self._changed]
        JobCurve.objects.bulk_create(rows, update_conflicts=True, unique_fields=["job", "series"], update_fields=["x", "y", "each"])
        self._changed.clear()
