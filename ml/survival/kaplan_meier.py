"""Kaplan-Meier curves with R's limits, medians and restricted means.

S(t) = prod (1 - d/n); the standard error is Greenwood's for log S: sqrt(sum d/(n(n-d))). Kalbfleisch and Prentice 2002;
checked against R survival 3.5-3 (survfit, quantile.survfit, survmean).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from ml.survival.data import NEAR_TIE, Floats, SurvivalDataError, SurvivalFinding, SurvivalSample, prepare
from ml.survival.timeline import timeline

CONF_TYPES = ("log-log", "log", "plain")


@dataclass(frozen=True)
class Quantile:
    """Time at which S falls to a height, with limits; NaN where the curve (or its limit) does not get there."""

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True)
class RestrictedMean:
    """Area under S up to tau (the unit of time), with the standard error of that estimate."""

    tau: float
    estimate: float
    se: float
    tau_beyond_last_time: bool


@dataclass(frozen=True)
class CurveAt:
    """The curve at given times, each array (m,); n_risk is R's: at the first curve time not before t."""

    time: Floats
    n_risk: Floats
    survival: Floats
    se: Floats
    lower: Floats
    upper: Floats
    beyond_last_time: np.ndarray


@dataclass(frozen=True)
class KaplanMeier:
    """One curve; arrays (m,) float64 over all distinct times, censoring-only times too.

    std_err_log: of log S. lower, upper: NaN where S is 1 or 0 (log-log) as R. cumulative_hazard: Nelson-Aalen.
    """

    n: int
    events: float
    time: Floats
    n_risk: Floats
    n_event: Floats
    n_censor: Floats
    survival: Floats
    std_err_log: Floats
    lower: Floats
    upper: Floats
    cumulative_hazard: Floats
    std_err_cumulative_hazard: Floats
    conf_level: float = 0.95
    conf_type: str = "log-log"
    findings: tuple[SurvivalFinding, ...] = field(default=())

    def limits(self, conf_type: str) -> tuple[Floats, Floats]:
        """(lower, upper) of another confidence type: "log-log", "log" or "plain"."""
        return confidence_limits(self.survival, self.std_err_log, self.conf_level, conf_type)

    def quantile(self, height: float, conf_type: str | None = None) -> Quantile:
        """Time at which S reaches `height`, limits from the band (R quantile.survfit).

        Where S stays at exactly `height`, the middle of that stretch; a stretch that never ends goes to the last time.
        """
        lower, upper = self.limits(conf_type or self.conf_type)
        return Quantile(*(crossing(self.time, s, height, open_end=True) for s in (self.survival, lower, upper)))

    def median_by(self, conf_type: str) -> Quantile:
        """Median with the limits of another confidence type. R's median takes the start of a stretch at 1/2 that never ends."""
        lower, upper = self.limits(conf_type)
        return Quantile(*(crossing(self.time, s, 0.5) for s in (self.survival, lower, upper)))

    @property
    def median(self) -> Quantile:
        """Median survival with limits."""
        return self.median_by(self.conf_type)

    @property
    def quartiles(self) -> tuple[Quantile, Quantile]:
        """Times at S = 0.75 and S = 0.25."""
        return self.quantile(0.75), self.quantile(0.25)

    def at(self, times: ArrayLike) -> CurveAt:
        """The curve at `times`; after the last time its last value is carried on and flagged (R: extend=TRUE)."""
        t = np.atleast_1d(np.asarray(times, dtype=np.float64))
        step = np.searchsorted(self.time, t, side="right")
        s, se = np.append(1.0, self.survival)[step], np.append(0.0, self.std_err_log)[step]
        n_risk = np.append(self.n_risk, 0.0)[np.searchsorted(self.time, t, side="left")]
        with np.errstate(invalid="ignore"):  # 0 * inf where S is 0: the standard error is unknown there, as in R
            se_surv = s * se
        return CurveAt(t, n_risk, s, se_surv, np.append(1.0, self.lower)[step], np.append(1.0, self.upper)[step], t > self.time[-1])

    def rmst(self, tau: float) -> RestrictedMean:
        """Restricted mean survival time; the last value of S is carried on to tau. se: sqrt(sum A(t)^2 d/(n(n-d)))."""
        if not tau > 0:
            raise SurvivalDataError("tau_not_positive", "The restricted mean needs a horizon tau above 0.", where="tau")
        inside = self.time < tau
        edges = np.concatenate(([0.0], self.time[inside], [tau]))
        areas = np.diff(edges) * np.append(1.0, self.survival[inside])
        after = np.cumsum(areas[::-1])[::-1][1:]
        d, n = self.n_event[inside], self.n_risk[inside]
        usable = (d > 0) & (d < n)
        variance = float((after[usable] ** 2 * d[usable] / (n[usable] * (n[usable] - d[usable]))).sum())
        return RestrictedMean(tau, float(areas.sum()), float(np.sqrt(variance)), bool(tau > self.time[-1]))


def kaplan_meier(
    time: ArrayLike,
    event: ArrayLike,
    entry: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    conf_level: float = 0.95,
    conf_type: str = "log-log",
    *,
    merge: bool = True,
) -> KaplanMeier:
    """Curve of one group. time, event, entry, weights: (n,); event 0/1. Data errors raise SurvivalDataError.

    >>> kaplan_meier([1, 2, 3, 4], [1, 0, 1, 1]).survival.round(3).tolist()
    [0.75, 0.75, 0.375, 0.0]
    """
    return curve_of(prepare(time, event, entry, weights, merge=merge), conf_level, conf_type)


def curve_of(sample: SurvivalSample, conf_level: float = 0.95, conf_type: str = "log-log") -> KaplanMeier:
    """Curve of a checked sample."""
    line = timeline(sample)
    n, d = line.n_risk, line.n_event
    with np.errstate(divide="ignore"):  # d = n: S is 0 from here on and its log has no variance (inf, as in R)
        greenwood = np.divide(d, n * (n - d), out=np.zeros_like(d), where=d > 0)
    survival = np.cumprod(1.0 - d / n)
    std_err = np.sqrt(np.cumsum(greenwood))
    lower, upper = confidence_limits(survival, std_err, conf_level, conf_type)
    return KaplanMeier(
        n=len(sample),
        events=float(d.sum()),
        time=line.time,
        n_risk=n,
        n_event=d,
        n_censor=line.n_censor,
        survival=survival,
        std_err_log=std_err,
        lower=lower,
        upper=upper,
        cumulative_hazard=np.cumsum(d / n),
        std_err_cumulative_hazard=np.sqrt(np.cumsum(d / n**2)),
        conf_level=conf_level,
        conf_type=conf_type,
        findings=sample.findings,
    )


def kaplan_meier_by_group(
    time: ArrayLike,
    event: ArrayLike,
    groups: Sequence[Hashable] | np.ndarray,
    levels: Sequence[Hashable] | None = None,
    entry: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    conf_level: float = 0.95,
    conf_type: str = "log-log",
) -> dict[Hashable, KaplanMeier]:
    """One curve per level (sorted levels unless given). Near ties are merged over all groups together, as R does."""
    sample = prepare(time, event, entry, weights)
    labels = np.asarray(groups)[sample.kept]
    present = set(labels.tolist())
    order = [g for g in (sorted(present) if levels is None else levels) if g in present]
    curves = {}
    for level in order:
        rows = labels == level
        part = SurvivalSample(
            sample.time[rows],
            sample.event[rows],
            None if sample.entry is None else sample.entry[rows],
            None if sample.weights is None else sample.weights[rows],
            rows,
            sample.findings,
        )
        curves[level] = curve_of(part, conf_level, conf_type)
    return curves


def confidence_limits(survival: Floats, std_err_log: Floats, conf_level: float, conf_type: str) -> tuple[Floats, Floats]:
    """Pointwise limits of S from the standard error of log S. NaN where they do not exist (S = 0; log-log also S = 1).

    log-log: S^exp(-/+ z se / log S); log: exp(log S -/+ z se) up to 1; plain: S -/+ z S se within [0, 1].
    """
    if conf_type not in CONF_TYPES:
        raise SurvivalDataError(
            "unknown_conf_type", f"There is no confidence type {conf_type!r}.", f"Choose one of {', '.join(CONF_TYPES)}."
        )
    z = float(ndtri(0.5 + conf_level / 2))
    lower, upper = np.full_like(survival, np.nan), np.full_like(survival, np.nan)
    known = (survival > 0) & ((survival < 1) | (conf_type != "log-log"))
    s, se = survival[known], std_err_log[known]
    if conf_type == "log-log":
        wide = np.minimum(z * se / -np.log(s), 700.0)  # beyond that the limits are 0 and 1 anyway, and exp() would overflow
        lower[known], upper[known] = s ** np.exp(wide), s ** np.exp(-wide)
    elif conf_type == "log":
        lower[known], upper[known] = s * np.exp(-z * se), np.minimum(1.0, s * np.exp(z * se))
    else:
        lower[known], upper[known] = np.maximum(0.0, s - z * s * se), np.minimum(1.0, s + z * s * se)
    return lower, upper


def crossing(time: Floats, curve: Floats, height: float, open_end: bool = False) -> float:
    """First time at which a falling step curve is at or below `height`; the middle of a flat stretch at exactly `height`.

    open_end: the rule of R's quantile.survfit instead of its median: a stretch at `height` up to the last time counts as
    one too, and a limit that rises again (delayed entry) is read from its highest value below `height`.
    "Exactly" is within 1.5e-8, as in R: (5/6)(4/5)(3/4) falls a bit beside one half in doubles.
    """
    known = ~np.isnan(curve)
    t, c = time[known], curve[known]
    if open_end:
        falling = np.argsort(-c, kind="stable")
        t, c = t[falling], c[falling]
    below = np.flatnonzero(c < height + NEAR_TIE)
    if not len(below):
        return float("nan")
    first = below[0]
    if abs(c[first] - height) < NEAR_TIE:
        lower_yet = np.flatnonzero(c < height - NEAR_TIE)
        if len(lower_yet) or open_end:
            return float((t[first] + t[lower_yet[0] if len(lower_yet) else -1]) / 2)
    return float(t[first])


@dataclass(frozen=True)
class MeanDifference:
    """Difference of two restricted means up to tau with normal limits; z and p are NaN where neither group had an event."""

    tau: float
    estimate: float
    se: float
    z: float
    p: float
    lower: float
    upper: float


def rmst_difference(of: KaplanMeier, minus: KaplanMeier, tau: float) -> MeanDifference:
    """Restricted mean of one group minus that of another (independent groups)."""
    a, b = of.rmst(tau), minus.rmst(tau)
    estimate, se = a.estimate - b.estimate, float(np.hypot(a.se, b.se))
    reach = float(ndtri(0.5 + of.conf_level / 2)) * se
    z = estimate / se if se > 0 else float("nan")
    return MeanDifference(tau, estimate, se, z, float(2 * ndtr(-abs(z))), estimate - reach, estimate + reach)
