"""The demo: simulated patients in two cohorts and two sites, four people, and all models trained on them."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from tissueboard.accounts.models import User
from tissueboard.cohorts.access import Role
from tissueboard.cohorts.models import Cohort
from tissueboard.cohorts.services import create_cohort, set_role
from tissueboard.jobs.models import Job
from tissueboard.jobs.services import enqueue
from tissueboard.model_registry.encoders import ensure_builtin_encoders

from .reference import train_reference
from .simulated import describe_cohort

COHORTS = ("Demo lung North", "Demo lung South")
SITES = ("Site A", "Site B")
SEED = 20_251
PATIENTS = 40
MODEL = "demo"
MEMBERS = {"viewer": Role.VIEWER, "contributor": Role.CONTRIBUTOR, "manager": Role.MANAGER}


@dataclass(frozen=True)
class DemoUsers:
    """password is None where the people were there already: it is told once, when it is made."""

    names: tuple[str, ...]
    password: str | None


def demo_users() -> DemoUsers:
    """viewer, contributor, manager and outsider, with DEMO_PASSWORD or a random password."""
    names = (*MEMBERS, "outsider")
    missing = [name for name in names if not User.objects.filter(username=name).exists()]
    if not missing:
        return DemoUsers(names, None)
    password = os.environ.get("DEMO_PASSWORD") or secrets.token_urlsafe(9)
    for name in missing:
        User.objects.create_user(username=name, password=password)
    return DemoUsers(names, password)


def demo_cohorts() -> list[Cohort]:
    """The two cohorts with their members and data dictionaries, made if they are not there."""
    cohorts = []
    for name in COHORTS:
        cohort = Cohort.objects.filter(name=name).first()
        if cohort is None:
            cohort = create_cohort(
                None, name, simulated=True, description="Simulated patients: tissue, slides and outcomes made by a program."
            )
        for username, role in MEMBERS.items():
            set_role(None, cohort, User.objects.get(username=username), role)
        describe_cohort(cohort)
        cohorts.append(cohort)
    return cohorts


def enqueue_demo(
    cohorts: list[Cohort], patients: int = PATIENTS, *, simulator: dict | None = None, hex_config: dict | None = None
) -> list[Job]:
    """All jobs of the demo; asking twice finds those that are there. Each cohort holds patients of both sites."""
    ensure_builtin_encoders()
    made = []
    for index in range(patients):
        cohort, site = cohorts[index % len(cohorts)], SITES[(index // len(cohorts)) % len(SITES)]
        params = {"cohort": cohort.pk, "index": index, "seed": SEED, "site": site, "config": simulator or {}}
        made.append(enqueue(None, "pipelines.simulate_patient", params, cohorts=[cohort]))
    made.append(train_reference(None, cohorts, name=MODEL, config=hex_config, needs=made))
    return made
