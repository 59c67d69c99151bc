"""Kaplan-Meier, log-rank and hazard ratio of a cohort, by the rules of DESIGNS 5."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, role_in
from tissueboard.cohorts.models import ClinicalVariable, Cohort, VariableKind
from tissueboard.cohorts.selectors import endpoints_of
from tissueboard.errors import TissueboardError

from .selectors import RISK, groupings, reference_risks, risk_grouping

DAYS_PER_MONTH = 30.4375
AT_RISK_STEPS = 8
MAX_GROUPS = 6
LOWER_RISK = "lower risk"


@dataclass(frozen=True)
class Median:
    """Days; None where the curve (or its limit) does not reach one half."""

    estimate: float | None
    lower: float | None
    upper: float | None


@dataclass(frozen=True)
class AtRisk:
    """Numbers at risk just before each time (days)."""

    times: list[float]
    n: list[int]


@dataclass(frozen=True)
class CurveGroup:
    """One curve. Lists run over the distinct times in days; limits are None where R gives none. A suppressed group shows n only."""

    name: str
    n: int
    events: int | None
    time: list[float] = field(default_factory=list)
    survival: list[float] = field(default_factory=list)
    lower: list[float | None] = field(default_factory=list)
    upper: list[float | None] = field(default_factory=list)
    n_risk: list[int] = field(default_factory=list)
    n_event: list[int] = field(default_factory=list)
    n_censor: list[int] = field(default_factory=list)
    median: Median | None = None
    at_risk: AtRisk | None = None
    suppressed: bool = False


@dataclass(frozen=True)
class LogRankTest:
    chisq: float
    df: int
    p: float


@dataclass(frozen=True)
class HazardRatio:
    """Of group `name` against `reference`, Cox with Efron ties."""

    name: str
    reference: str
    hr: float
    lower: float
    upper: float
    p: float


@dataclass(frozen=True)
class Excluded:
    why: str
    n: int


@dataclass(frozen=True)
class SurvivalResult:
    """Everything a survival figure must say. Times in days; months = days / 30.4375. Two-sided tests, event True = it happened."""

    cohort: str
    endpoint: str
    time_zero: str
    unit: str
    confidence: str
    group_by: str | None
    group_rule: str
    n: int
    events: int
    groups: list[CurveGroup]
    logrank: LogRankTest | None
    hazard_ratio: HazardRatio | None
    ph_test_p: float | None
    notes: list[str]
    excluded: list[Excluded]


def survival(user: Any, cohort: Cohort, endpoint: str, group_by: str | None = None) -> SurvivalResult:
    """Survival of a cohort the user may see, split by a clinical variable, by "risk" (of the newest risk model) or "risk:ID" of one.

    Raises TissueboardError UNKNOWN_ENDPOINT, UNKNOWN_GROUPING, TOO_MANY_GROUPS.
    """
    rows = list(endpoints_of(user, cohort, endpoint))
    if not rows:
        raise TissueboardError(
            "UNKNOWN_ENDPOINT", f"The cohort {cohort.name} has no endpoint {endpoint}.", "Import outcomes for it.", status=404
        )
    record(user, "read survival", cohort, cohort_id=cohort.pk)
    labels, rule, excluded = _grouped(user, cohort, rows, group_by)
    kept = [row for row in rows if row.pk in labels]
    if not kept:
        raise TissueboardError(
            "NOBODY_LEFT", f"No patient of {cohort.name} has both {endpoint} and {group_by}.", "Choose another grouping."
        )
    return _analyse(user, cohort, endpoint, group_by, rule, kept, labels, excluded)


def side_by_side(user: Any, cohort: Cohort, endpoint: str, groups: dict[str, list[Any]]) -> SurvivalResult:
    """Curves of groups of endpoint rows that somebody else chose, in this order, without any test between them.

    The groups may share patients. Groups under the cohort's set size are not drawn for viewers.
    """
    everybody = {row.pk: row for rows in groups.values() for row in rows}
    longest = max((row.time_days for row in everybody.values()), default=0.0)
    hide_below = max(1, cohort.min_group_size if role_in(user, cohort) == Role.VIEWER else 1)
    curves, notes = [], []
    for name, rows in groups.items():
        hidden = len(rows) < hide_below
        curves.append(CurveGroup(name, len(rows), None, suppressed=True) if hidden else _curve(name, rows, longest))
        if hidden:
            notes.append(f"{name}: {'nobody' if not rows else f'fewer than {hide_below} patients, not drawn'}.")
    shown = [row for row in everybody.values() if any(row in groups[c.name] for c in curves if not c.suppressed)]
    return SurvivalResult(
        cohort=cohort.name,
        endpoint=endpoint,
        time_zero=", ".join(sorted({row.time_zero for row in shown})),
        unit="days",
        confidence="95% log-log",
        group_by=None,
        group_rule="",
        n=len(shown),
        events=sum(row.event for row in shown),
        groups=curves,
        logrank=None,
        hazard_ratio=None,
        ph_test_p=None,
        notes=notes,
        excluded=[],
    )


def _grouped(user: Any, cohort: Cohort, rows: list[Any], group_by: str | None) -> tuple[dict[int, str], str, list[Excluded]]:
    """Group of each endpoint row (by pk), the rule in words, and who is left out."""
    if group_by is None:
        return {row.pk: "All patients" for row in rows}, "", []
    if group_by.partition(":")[0] == RISK:
        version = risk_grouping(user, cohort, group_by)
        if version is None:
            raise TissueboardError("UNKNOWN_GROUPING", f"The cohort {cohort.name} has no such risk model.", "Fit one, or group otherwise.")
        groups = {p.patient_id: p.facts["group"] for p in reference_risks(user, cohort, version)}
        named = {row.pk: f"{groups[row.patient_id]} risk" for row in rows if row.patient_id in groups}
        rule = "median of the out-of-fold risks, declared beforehand"
        return named, rule, _left_out("no out-of-fold risk", len(rows) - len(named))
    variable = ClinicalVariable.objects.visible_to(user).filter(cohort=cohort, name=group_by).first()
    if variable is None or variable.kind not in (VariableKind.CATEGORY, VariableKind.BOOLEAN, VariableKind.NUMBER):
        known = ", ".join(g.name for g in groupings(user, cohort)) or "none"
        raise TissueboardError("UNKNOWN_GROUPING", f"The cohort {cohort.name} cannot be grouped by {group_by}.", f"Groupings are: {known}.")
    values = {row.pk: row.patient.clinical.get(group_by) for row in rows}
    present = {pk: value for pk, value in values.items() if value is not None}
    left = _left_out(f"{group_by} not recorded", len(rows) - len(present))
    if variable.kind == VariableKind.NUMBER:
        ordered = sorted(present.values())
        if not ordered:
            return {}, "", left
        middle = len(ordered) // 2
        cut = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        unit = f" {variable.unit}" if variable.unit else ""
        named = {pk: f"{group_by} {'>=' if value >= cut else '<'} {cut:g}{unit}" for pk, value in present.items()}
        return named, f"median of {group_by} ({cut:g}{unit}), declared beforehand", left
    named = {pk: f"{group_by}: {_text(value)}" for pk, value in present.items()}
    if len(set(named.values())) > MAX_GROUPS:
        raise TissueboardError(
            "TOO_MANY_GROUPS", f"{group_by} has {len(set(named.values()))} values; a figure takes {MAX_GROUPS}.", "Choose another grouping."
        )
    return named, "as recorded", left


def _text(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _left_out(why: str, n: int) -> list[Excluded]:
    return [Excluded(why, n)] if n else []


def _analyse(
    user: Any,
    cohort: Cohort,
    endpoint: str,
    group_by: str | None,
    rule: str,
    rows: list[Any],
    labels: dict[int, str],
    excluded: list[Excluded],
) -> SurvivalResult:
    members: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        members[labels[row.pk]].append(row)
    hide_below = cohort.min_group_size if role_in(user, cohort) == Role.VIEWER and group_by is not None else 0
    notes, longest = [], max(row.time_days for row in rows)
    groups = []
    for name in sorted(members):
        if len(members[name]) < hide_below:
            groups.append(CurveGroup(name, len(members[name]), None, suppressed=True))
            notes.append(f"{name} has fewer than {hide_below} patients and is not drawn for viewers.")
        else:
            groups.append(_curve(name, members[name], longest))
    shown = [row for row in rows if not next(g for g in groups if g.name == labels[row.pk]).suppressed]
    test, ratio, ph = _tests(shown, labels, notes)
    entry = any(row.entry_days > 0 for row in rows)
    if entry:
        notes.append("Delayed entry: patients count as at risk from their entry on.")
    zeros = sorted({row.time_zero for row in rows})
    if len(zeros) > 1:
        notes.append(f"Time zero differs between patients: {', '.join(zeros)}.")
    return SurvivalResult(
        cohort=cohort.name,
        endpoint=endpoint,
        time_zero=", ".join(zeros),
        unit="days",
        confidence="95% log-log",
        group_by=group_by,
        group_rule=rule,
        # Only what is drawn is counted: a total with the hidden groups in it would give them away by subtraction.
        n=len(shown),
        events=sum(row.event for row in shown),
        groups=groups,
        logrank=test,
        hazard_ratio=ratio,
        ph_test_p=ph,
        notes=notes,
        excluded=excluded,
    )


def _arrays(rows: list[Any]) -> tuple[list[float], list[bool], list[float] | None]:
    entry = [row.entry_days for row in rows]
    return [row.time_days for row in rows], [row.event for row in rows], entry if any(entry) else None


def _curve(name: str, rows: list[Any], longest: float) -> CurveGroup:
    from ml.survival.kaplan_meier import kaplan_meier

    time, event, entry = _arrays(rows)
    km = kaplan_meier(time, event, entry=entry)
    median = km.median
    step = _nice_step(longest)
    times = [i * step for i in range(int(longest // step) + 1)]
    at = km.at(times)
    return CurveGroup(
        name=name,
        n=len(rows),
        events=sum(event),
        time=[float(v) for v in km.time],
        survival=[float(v) for v in km.survival],
        lower=[_number(v) for v in km.lower],
        upper=[_number(v) for v in km.upper],
        n_risk=[int(v) for v in km.n_risk],
        n_event=[int(v) for v in km.n_event],
        n_censor=[int(v) for v in km.n_censor],
        median=Median(_number(median.estimate), _number(median.lower), _number(median.upper)),
        at_risk=AtRisk(times, [int(v) for v in at.n_risk]),
    )


def _nice_step(longest: float) -> float:
    """Days between numbers at risk: whole months (1, 2, 3, 6, 12, 24 ...), about eight of them."""
    months = longest / DAYS_PER_MONTH / AT_RISK_STEPS
    for candidate in (1, 2, 3, 6, 12, 24, 36, 60):
        if candidate >= months:
            return candidate * DAYS_PER_MONTH
    return 120 * DAYS_PER_MONTH


def _tests(rows: list[Any], labels: dict[int, str], notes: list[str]) -> tuple[LogRankTest | None, HazardRatio | None, float | None]:
    """Log-rank over the groups; for two groups also the hazard ratio and the test of proportional hazards."""
    from ml.survival.cox import cox
    from ml.survival.cox_checks import proportional_hazards
    from ml.survival.data import SurvivalDataError
    from ml.survival.logrank import logrank

    # "lower risk" comes last in the alphabet; as the reference it makes the ratio of higher against lower.
    names = sorted({labels[row.pk] for row in rows}, key=lambda name: (name != LOWER_RISK, name))
    if len(names) < 2:
        return None, None, None
    time, event, entry = _arrays(rows)
    groups = [labels[row.pk] for row in rows]
    try:
        test = logrank(time, event, groups, entry=entry)
        found = LogRankTest(float(test.statistic), int(test.df), float(test.p))
    except SurvivalDataError as error:
        notes.append(f"No log-rank test: {error}")
        return None, None, None
    if len(names) != 2:
        return found, None, None
    try:
        fit = cox(time, event, [[float(g == names[1])] for g in groups], [names[1]], entry=entry)
        ratio = HazardRatio(names[1], names[0], *(float(v[0]) for v in (fit.hr, fit.hr_lower, fit.hr_upper, fit.p)))
        if any(finding.code == "infinite_coefficient" for finding in fit.findings):
            notes.append("No hazard ratio: one group has no event while the other has.")
            return found, None, None
        ph = float(proportional_hazards(fit, "km").whole.p)
    except (SurvivalDataError, ArithmeticError) as error:
        notes.append(f"No hazard ratio: {error}")
        return found, None, None
    if ph < 0.05:
        notes.append("Hazards are not proportional (score test p < 0.05); read the hazard ratio as an average over time.")
    return found, ratio, _number(ph)


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
