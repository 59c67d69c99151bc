"""What a Kaplan-Meier figure says, before anybody draws it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .palette import GROUPS

if TYPE_CHECKING:
    from tissueboard.outcomes.services import CurveGroup, SurvivalResult

DAYS_PER_MONTH = 30.4375
UNITS = {"months": DAYS_PER_MONTH, "days": 1.0}


@dataclass(frozen=True)
class Curve:
    """One group. Times in the figure's unit; the lists are the corners of the steps, beginning at (0, 1).

    band: times where limits are known, with lower and upper. censored: (time, survival) of each censoring tick.
    at_risk: one number per tick of the figure. median: in words with its interval.
    """

    name: str
    n: int
    events: int | None
    colour: str
    dash: str
    time: tuple[float, ...]
    survival: tuple[float, ...]
    band: tuple[tuple[float, float, float], ...]
    censored: tuple[tuple[float, float], ...]
    at_risk: tuple[int, ...]
    median: str
    marked: bool = False
    suppressed: bool = False


@dataclass(frozen=True)
class SurvivalFigure:
    """Everything DESIGNS 5 asks of a survival figure. ticks and horizon in `unit`; statements end with a full stop."""

    cohort: str
    endpoint: str
    time_zero: str
    unit: str
    confidence: str
    group_rule: str
    n: int
    events: int
    ticks: tuple[float, ...]
    x_max: float
    curves: tuple[Curve, ...]
    statements: tuple[str, ...]
    horizon: float | None = None

    @property
    def drawn(self) -> tuple[Curve, ...]:
        return tuple(c for c in self.curves if not c.suppressed)

    @property
    def x_label(self) -> str:
        return f"{self.unit.capitalize()} since {self.time_zero}"

    @property
    def y_label(self) -> str:
        return f"{self.endpoint}: share without event"

    @property
    def caption(self) -> str:
        return (
            f"{self.endpoint} in {self.cohort}: {self.n} patients, {self.events} events; time zero is {self.time_zero}; "
            f"bands are {self.confidence} intervals; ticks are censored patients."
        )


def survival_figure(
    result: SurvivalResult, unit: str = "months", *, marked: str | None = None, horizon_days: float | None = None
) -> SurvivalFigure:
    """Describes a result in `unit` ("months" of 30.4375 days, or "days"). marked: the group that a patient belongs to."""
    scale = UNITS[unit]
    shown = [g for g in result.groups if g.at_risk is not None]
    ticks = tuple(t / scale for t in shown[0].at_risk.times) if shown and shown[0].at_risk else ()
    longest = max((max(g.time, default=0.0) for g in shown), default=0.0) / scale
    curves = tuple(_curve(g, i, scale, unit, g.name == marked) for i, g in enumerate(result.groups))
    return SurvivalFigure(
        cohort=result.cohort,
        endpoint=result.endpoint,
        time_zero=result.time_zero,
        unit=unit,
        confidence=result.confidence,
        group_rule=result.group_rule,
        n=result.n,
        events=result.events,
        ticks=ticks,
        x_max=max([longest, *ticks, 1e-9]),
        curves=curves,
        statements=tuple(_statements(result)),
        horizon=None if horizon_days is None else horizon_days / scale,
    )


def _curve(group: CurveGroup, place: int, scale: float, unit: str, marked: bool) -> Curve:
    colour, dash = GROUPS[place % len(GROUPS)]
    time = [t / scale for t in group.time]
    # Before the first event S is 1, and R gives no log-log limits there: the band starts where they do.
    band = [(t, lo, hi) for t, lo, hi in zip(time, group.lower, group.upper) if lo is not None and hi is not None]
    ticks = [(t, s) for t, s, c in zip(time, group.survival, group.n_censor) if c]
    return Curve(
        name=group.name,
        n=group.n,
        events=group.events,
        colour=colour,
        dash=dash,
        time=(0.0, *time),
        survival=(1.0, *group.survival),
        band=tuple(band),
        censored=tuple(ticks),
        at_risk=tuple(group.at_risk.n) if group.at_risk else (),
        median=_median(group, scale, unit),
        marked=marked,
        suppressed=group.suppressed,
    )


def _median(group: CurveGroup, scale: float, unit: str) -> str:
    if group.suppressed or group.median is None:
        return "not shown"
    if group.median.estimate is None:
        return "not reached"

    def text(value: float | None) -> str:
        return "not reached" if value is None else f"{value / scale:.1f}"

    return f"{text(group.median.estimate)} {unit} (95% {text(group.median.lower)} to {text(group.median.upper)})"


def _statements(result: SurvivalResult) -> list[str]:
    said = []
    if result.logrank:
        said.append(f"Log-rank, two-sided: chi-square {result.logrank.chisq:.2f} on {result.logrank.df} df, p {p_text(result.logrank.p)}.")
    if result.hazard_ratio:
        ratio = result.hazard_ratio
        said.append(
            f"Hazard ratio, {ratio.name} against {ratio.reference}: {ratio.hr:.2f} (95% {ratio.lower:.2f} to {ratio.upper:.2f}), "
            f"Cox with Efron ties."
        )
    if result.ph_test_p is not None:
        said.append(f"Test of proportional hazards: p {p_text(result.ph_test_p)}.")
    if result.group_rule:
        said.append(f"Groups: {result.group_rule}.")
    said += result.notes
    said += [f"{left.n} {'patient is' if left.n == 1 else 'patients are'} left out: {left.why}." for left in result.excluded]
    return said


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"
