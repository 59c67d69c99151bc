"""Which version each step of a pipeline takes: the current one of its family, or the one that a person chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tissueboard.cohorts.models import Cohort
from tissueboard.errors import TissueboardError
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.selectors import version_for, versions_for

from .declared import PIPELINES, Step
from .errors import UnknownPipeline, WhyNot

Options = Mapping[str, int]


@dataclass(frozen=True)
class PlannedStep:
    """One step of a pipeline. version None: the step is left out; code and why_not say why."""

    step: Step
    version: ModelVersion | None
    why_not: str = ""
    code: str = ""


def steps_of(name: str) -> tuple[Step, ...]:
    """The steps of a pipeline in order; UnknownPipeline (404)."""
    if name not in PIPELINES:
        raise UnknownPipeline(name, sorted(PIPELINES))
    return PIPELINES[name]


def choose_versions(user: Any, name: str, cohort: Cohort, options: Options | None = None) -> list[PlannedStep]:
    """The version of every step for the slides of a cohort, or why there is none. user None is the house itself.

    options: {family: id of a version} for what a person chose. TissueboardError OPTION_UNKNOWN or VERSION_UNKNOWN where it names
    a family that the pipeline has not, or a version that is not of this family or that the user may not see.
    """
    steps = steps_of(name)
    chosen = _chosen(user, steps, options or {})
    planned: list[PlannedStep] = []
    for step in steps:
        version = chosen.get(step.family)
        if version is None and not step.chosen:
            version = version_for(user, step.family, cohort)
            if step.of_cohort and version is not None and not version.cohorts.filter(pk=cohort.pk).exists():
                version = None
        planned.append(_planned(step, version, planned, cohort))
    return planned


def _chosen(user: Any, steps: tuple[Step, ...], options: Options) -> dict[str, ModelVersion]:
    found: dict[str, ModelVersion] = {}
    families = [step.family for step in steps]
    for family, version_id in options.items():
        if family not in families:
            raise TissueboardError(
                "OPTION_UNKNOWN", f"This pipeline takes no {family}.", f"Its families are {', '.join(families)}.", where=f"options.{family}"
            )
        versions = ModelVersion.objects.all() if user is None else versions_for(user)
        version = versions.filter(pk=version_id, family=family).first() if isinstance(version_id, int) else None
        if version is None:
            raise TissueboardError(
                "VERSION_UNKNOWN",
                f"There is no version {version_id} of the family {family} that you may use.",
                "Take the id of a version from the page Models.",
                where=f"options.{family}",
            )
        found[family] = version
    return found


def _planned(step: Step, version: ModelVersion | None, before: list[PlannedStep], cohort: Cohort) -> PlannedStep:
    needed = [p for p in before if p.step.kind in step.needs]
    missing = next((p for p in needed if p.version is None), None)
    if missing is not None:
        return PlannedStep(step, None, f"{missing.step.title} cannot run.", WhyNot.NEEDS_MISSING)
    if version is None and step.chosen:
        return PlannedStep(step, None, f"Choose the {step.family} to take.", WhyNot.VERSION_NOT_CHOSEN)
    if version is None:
        where = f" fitted on the cohort {cohort.name}" if step.of_cohort else ""
        told = f"There is no model of the family {step.family}{where} that you may use; train one first."
        return PlannedStep(step, None, told, WhyNot.NO_VERSION)
    if step.of_cohort and not version.cohorts.filter(pk=cohort.pk).exists():
        return PlannedStep(step, None, f"{version} was not fitted on the cohort {cohort.name}.", WhyNot.NO_VERSION)
    parents = {p.version.pk: p.version for p in needed if p.version is not None}
    if parents and version.pk not in parents and not version.parents.filter(pk__in=parents).exists():
        other = ", ".join(str(p) for p in parents.values())
        told = f"The version {version} does not stand on {other}; fit it again on the maps of {other}."
        return PlannedStep(step, None, told, WhyNot.OTHER_PARENT)
    return PlannedStep(step, version)
