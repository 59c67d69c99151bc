"""What a cohort has for a discovery: cells under a version of VirTues, variables of two values, endpoints; and what is too little."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Count

from tissueboard.cohorts.models import ClinicalVariable, Cohort, Endpoint, Patient, VariableKind
from tissueboard.errors import TissueboardError
from tissueboard.jobs.errors import JobRefused
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.selectors import versions_for
from tissueboard.predictions.models import Prediction

from .models import Discovery

if TYPE_CHECKING:
    from ml.types import Outcomes

FAMILY = "virtues"
# So many tokens of 512 numbers are 2 GB, and the graph of neighbours takes some hours.
MOST_CELLS = 1_000_000
LEAST_EVENTS = 5
YES, NO = "yes", "no"


class discovery_refusals:
    """`with discovery_refusals():` around work of ml.discovery. What it says no to is a JobRefused with its own sentence."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from ml.discovery.errors import DiscoveryError
        from ml.survival.data import SurvivalDataError
        from ml.training.splits import SplitError

        if isinstance(error, DiscoveryError | SurvivalDataError | SplitError):
            raise JobRefused(error.code.upper(), error.sentence, error.hint, where=getattr(error, "where", "")) from error


@dataclass(frozen=True)
class Variable:
    """A clinical variable that can say who responded. values: its two, with how many patients have each."""

    name: str
    label: str
    values: tuple[tuple[str, int], ...]


def config_class(kind: str) -> type[Any]:
    """The settings of a kind of discovery."""
    from ml.discovery.config import BiomarkerRunConfig, RiskGroupConfig

    return BiomarkerRunConfig if kind == Discovery.Kind.BIOMARKERS else RiskGroupConfig


def cells_in(cohort: Cohort, version: ModelVersion) -> list[Prediction]:
    """The cells of the cohort's images under a version, patient by patient."""
    found = Prediction.objects.filter(patient__cohort=cohort, version=version, kind=Prediction.Kind.CELLS, image__isnull=False)
    return list(found.select_related("patient", "image").order_by("patient__code", "pk"))


def versions_with_cells(user: Any, cohort: Cohort) -> list[tuple[ModelVersion, int, int]]:
    """(version, patients, images) with cells in the cohort, the one in use first, then the newest."""
    found = Prediction.objects.visible_to(user).filter(patient__cohort=cohort, kind=Prediction.Kind.CELLS, image__isnull=False)
    rows = found.order_by().values("version").annotate(patients=Count("patient", distinct=True), images=Count("image", distinct=True))
    counts = {row["version"]: (row["patients"], row["images"]) for row in rows}
    versions = versions_for(user).filter(pk__in=counts, family=FAMILY).order_by("-is_current", "-created_at", "-pk")
    return [(version, *counts[version.pk]) for version in versions]


def response_variables(user: Any, cohort: Cohort) -> list[Variable]:
    """Variables of the data dictionary that have two values among the cohort's patients."""
    kinds = (VariableKind.BOOLEAN, VariableKind.CATEGORY)
    clinical = list(Patient.objects.visible_to(user).filter(cohort=cohort).values_list("clinical", flat=True))
    found = []
    for variable in ClinicalVariable.objects.visible_to(user).filter(cohort=cohort, kind__in=kinds):
        counts: dict[str, int] = {}
        for one in clinical:
            if (text := text_of(one.get(variable.name))) != "":
                counts[text] = counts.get(text, 0) + 1
        if len(counts) == 2:
            found.append(Variable(variable.name, variable.label or variable.name, tuple(sorted(counts.items()))))
    return found


def text_of(value: Any) -> str:
    """A clinical value as text; "" where it is not recorded."""
    if isinstance(value, bool):
        return YES if value else NO
    return "" if value is None else str(value)


def responses(cohort: Cohort, variable: str, value: str) -> dict[str, bool]:
    """Who responded, by patient code. JobRefused UNKNOWN_VARIABLE, NO_OUTCOME, VALUE_UNKNOWN, NOT_TWO_VALUES."""
    from ml.discovery.tables import binary_response

    kinds = (VariableKind.BOOLEAN, VariableKind.CATEGORY)
    if not ClinicalVariable.objects.filter(cohort=cohort, name=variable, kind__in=kinds).exists():
        said = (
            f"The data dictionary of {cohort.name} has no category or yes-no variable {variable[:40]}."
            if variable
            else "No response is named."
        )
        raise JobRefused("UNKNOWN_VARIABLE", said, "Name a variable of two values and the value that means response.", where="response")
    rows = Patient.objects.filter(cohort=cohort).values_list("code", "clinical")
    with discovery_refusals():
        return binary_response({code: text_of(clinical.get(variable)) for code, clinical in rows}, value, variable)


def outcomes_of(cohort: Cohort, endpoint: str) -> Outcomes:
    """Outcomes of an endpoint by patient code, days. JobRefused ENDPOINT_UNKNOWN."""
    import numpy as np

    from ml.types import Outcomes

    found = Endpoint.objects.filter(patient__cohort=cohort, name=endpoint).select_related("patient").order_by("patient__code")
    rows = [row for row in found if row.entry_days < row.time_days]
    if not rows:
        said = f"The cohort {cohort.name} has no endpoint {endpoint[:16]}." if endpoint else "No endpoint is named."
        raise JobRefused("ENDPOINT_UNKNOWN", said, "Add a clinical table with outcomes, or choose another endpoint.", where="endpoint")
    entry = np.array([row.entry_days for row in rows])
    return Outcomes(
        tuple(row.patient.code for row in rows),
        np.array([row.time_days for row in rows], dtype=np.float64),
        np.array([row.event for row in rows], dtype=np.bool_),
        endpoint,
        entry if entry.any() else None,
    )


def check_cells(cohort: Cohort, version: ModelVersion, cells: list[Prediction], least: int) -> None:
    """JobRefused NO_CELLS, TOO_FEW_CELLS, TOO_MANY_CELLS. least: cells that the settings take."""
    if not cells:
        said = f"No image of {cohort.name} has cells under {version}."
        raise JobRefused("NO_CELLS", said, "Add cell masks to the images and run VirTues on them first.", where="version")
    n = sum(one.facts.get("n_cells", 0) for one in cells)
    if n < least:
        raise JobRefused(
            "TOO_FEW_CELLS", f"There are {n} cells, and the settings take {least}.", "Choose smaller settings.", where="version"
        )
    if n > MOST_CELLS:
        said = f"There are {n} cells, and one discovery takes {MOST_CELLS} at most."
        raise JobRefused("TOO_MANY_CELLS", said, "Take the cells as files and run python -m ml.discovery on a part.", where="version")


def check_outcomes(kind: str, ask: Mapping[str, str], cohort: Cohort, cells: list[Prediction], config: Any) -> list[Any]:
    """What the outcomes are, so that a job asked for twice is one; refuses too few patients, responders or events. JobRefused."""
    import numpy as np

    codes = sorted({one.patient.code for one in cells})
    if kind == Discovery.Kind.BIOMARKERS:
        from ml.discovery.runs import responders

        response = responses(cohort, ask["variable"], ask["value"])
        with discovery_refusals():
            known, _ = responders(response, codes, config.biomarkers)
        return [(code, response[code]) for code in known]
    outcomes = outcomes_of(cohort, ask["endpoint"])
    mine = np.isin(outcomes.patients, codes)
    n, events = int(mine.sum()), int(outcomes.event[mine].sum())
    least = 2 * max(config.groups, config.folds)
    if n < least or events < LEAST_EVENTS:
        said = f"{n} patients have cells and {ask['endpoint']}, with {events} events; it takes {least} patients and {LEAST_EVENTS} events."
        raise JobRefused("TOO_FEW_PATIENTS", said, "Add patients, or ask for fewer groups and folds.", where="endpoint")
    return [row for row, has in zip(zip(outcomes.patients, outcomes.time.tolist(), outcomes.event.tolist()), mine) if has]


def refusal_of(user: Any, cohort: Cohort) -> TissueboardError | None:
    """Why nothing can be discovered in a cohort whatever is asked; None where something may."""
    if not versions_with_cells(user, cohort):
        said = f"No image of {cohort.name} has cells under a version of VirTues."
        return JobRefused("NO_CELLS", said, "Add cell masks to the images and run VirTues on them first.")
    return None
