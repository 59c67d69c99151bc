"""Reads for pages of outcomes: endpoints of a cohort, how its patients can be grouped, what was discovered in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tissueboard.cohorts.models import ClinicalVariable, Cohort, Endpoint, VariableKind
from tissueboard.errors import NotVisible
from tissueboard.model_registry.models import ModelVersion
from tissueboard.predictions.models import Prediction
from tissueboard.predictions.selectors import risk_versions

from .models import Discovery

RISK = "risk"
GROUPABLE = (VariableKind.CATEGORY, VariableKind.BOOLEAN, VariableKind.NUMBER)


@dataclass(frozen=True)
class Grouping:
    """A way to split a cohort. rule: how groups are made, in words, declared beforehand."""

    name: str
    label: str
    rule: str


def endpoints_in(user: Any, cohort: Cohort) -> list[str]:
    """Names of the endpoints that the cohort has, OS first."""
    names = Endpoint.objects.visible_to(user).filter(patient__cohort=cohort).order_by().values_list("name", flat=True).distinct()
    return sorted(names, key=lambda name: (name != "OS", name))


def groupings(user: Any, cohort: Cohort) -> list[Grouping]:
    """Clinical variables that can split the cohort, and the risk groups where a risk model stands on it."""
    found = []
    for variable in ClinicalVariable.objects.visible_to(user).filter(cohort=cohort, kind__in=GROUPABLE):
        number = variable.kind == VariableKind.NUMBER
        unit = f" ({variable.unit})" if variable.unit else ""
        rule = "cut at the median, declared beforehand" if number else "as recorded"
        found.append(Grouping(variable.name, (variable.label or variable.name) + unit, rule))
    for place, version in enumerate(risk_versions(user, cohort)):
        if reference_risks(user, cohort, version).exists():
            name = RISK if place == 0 else f"{RISK}:{version.pk}"
            found.append(Grouping(name, f"Risk by {version} (out-of-fold)", "median of the out-of-fold risks, declared beforehand"))
    return found


def risk_grouping(user: Any, cohort: Cohort, group_by: str) -> ModelVersion | None:
    """The risk model behind a grouping "risk" (the newest one) or "risk:ID"; None where the cohort has no such model."""
    _, _, wanted = group_by.partition(":")
    return next((v for v in risk_versions(user, cohort) if not wanted or str(v.pk) == wanted), None)


def reference_risks(user: Any, cohort: Cohort, version: ModelVersion) -> Any:
    """Out-of-fold risks of the patients that a risk model of the cohort was fitted on."""
    return Prediction.objects.visible_to(user).filter(
        patient__cohort=cohort, kind=Prediction.Kind.RISK, version=version, in_sample=False, fold__isnull=False
    )


def discoveries_of(user: Any, cohort: Cohort) -> Any:
    """What was discovered in a cohort, newest first."""
    return Discovery.objects.visible_to(user).filter(cohort=cohort).select_related("cohort", "version", "job")


def get_discovery(user: Any, discovery_id: int) -> Discovery:
    """One discovery; NotVisible for a stranger."""
    found = Discovery.objects.visible_to(user).filter(pk=discovery_id).select_related("cohort", "version", "job").first()
    if found is None:
        raise NotVisible("discovery")
    return found


def discovery_of_job(user: Any, job: Any) -> Discovery | None:
    """What a job found, or None."""
    return Discovery.objects.visible_to(user).filter(job=job).first()
