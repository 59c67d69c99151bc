"""Asking for a discovery: everything that can be checked now, then one job."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, require
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import Code, TissueboardError
from tissueboard.jobs.errors import JobRefused
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.model_registry.selectors import versions_for

from .discovery_ground import FAMILY, cells_in, check_cells, check_outcomes, config_class
from .models import Discovery

KIND = "outcomes.discover"


@dataclass(frozen=True)
class Asked:
    """What a person asks. variable, value: of biomarkers, which value of a clinical variable is response. endpoint: of risk groups."""

    kind: str
    version: int
    variable: str = ""
    value: str = ""
    endpoint: str = ""

    def told(self) -> dict[str, str]:
        """The part that belongs to the kind."""
        if self.kind == Discovery.Kind.BIOMARKERS:
            return {"variable": self.variable, "value": self.value}
        return {"endpoint": self.endpoint}


def request_discovery(user: Any, cohort: Cohort, asked: Asked, config: Any) -> Job:
    """Asks for a discovery in a cohort; asking twice of the same cells and outcomes finds the first. Needs contributor.

    config: BiomarkerRunConfig or RiskGroupConfig, as the kind takes it. Errors: NotVisible, RoleMissing, BAD_REQUEST (another kind),
    VERSION_UNKNOWN, NO_CELLS, TOO_FEW_CELLS, TOO_MANY_CELLS, UNKNOWN_VARIABLE, VALUE_UNKNOWN, NOT_TWO_VALUES, NO_OUTCOME, SINGLE_CLASS,
    TOO_FEW_PATIENTS, ENDPOINT_UNKNOWN.
    """
    params, state = plan_discovery(user, cohort, asked, config)
    job = enqueue(user, KIND, params, cohorts=[cohort], key=state)
    record(user, "discover", job, cohort_id=cohort.pk)
    return job


def plan_discovery(user: Any, cohort: Cohort, asked: Asked, config: Any) -> tuple[dict[str, Any], str]:
    """(the job's params, what its cells and outcomes are as a checksum), without starting anything. Same errors."""
    require(user, cohort, Role.CONTRIBUTOR)
    if asked.kind not in Discovery.Kind.values or not isinstance(config, config_class(asked.kind)):
        raise TissueboardError(
            Code.BAD_REQUEST, f"There is no discovery {asked.kind[:40]}.", "Ask for biomarkers or risk groups.", where="kind"
        )
    version = versions_for(user).filter(pk=asked.version, family=FAMILY).first()
    if version is None:
        raise JobRefused("VERSION_UNKNOWN", "There is no such version of VirTues that you may use.", "Choose one.", where="version")
    cells = cells_in(cohort, version)
    least = config.graph.neighbours + 1 if asked.kind == Discovery.Kind.BIOMARKERS else config.cell_clusters
    check_cells(cohort, version, cells, least)
    outcomes = check_outcomes(asked.kind, asked.told(), cohort, cells, config)
    params = {"cohort": cohort.pk, "version": version.pk, "kind": asked.kind, **asked.told(), "config": config.model_dump(mode="json")}
    state = repr([[(one.pk, one.sha256) for one in cells], outcomes])
    return params, hashlib.sha256(state.encode()).hexdigest()[:32]
