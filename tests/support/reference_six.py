"""The small reference that tests train: six patients of two sites on small slides, so that it takes seconds, not minutes."""

from __future__ import annotations

from typing import Any

SIMULATOR = {"size_px": 1024, "hazard": {"dropout_per_year": 0, "administrative_days": 20_000, "baseline_median_days": 900}}
HEX_CONFIG = {"epochs": 30}
PATIENTS = 6
SEED = 11
COHORT = "simulated six"
NAME = "six"
ROLES = {"viewer": "viewer", "contributor": "contributor", "manager": "manager", "outsider": None}


def enqueue_reference(password: str | None = None) -> Any:
    """The cohort with its people, and all jobs that simulate, train and apply. Gives the cohort."""
    from tissueboard.accounts.models import User
    from tissueboard.cohorts.services import create_cohort, set_role
    from tissueboard.jobs.services import enqueue
    from tissueboard.pipelines.reference import train_reference
    from tissueboard.pipelines.simulated import describe_cohort

    cohort = create_cohort(None, COHORT, simulated=True)
    for name, role in ROLES.items():
        user = User.objects.create_user(username=name, password=password)
        if role is not None:
            set_role(None, cohort, user, role)
    describe_cohort(cohort)
    made = [
        enqueue(
            None,
            "pipelines.simulate_patient",
            {"cohort": cohort.pk, "index": i, "seed": SEED, "site": ("Site A", "Site B")[i % 2], "config": SIMULATOR},
            cohorts=[cohort],
        )
        for i in range(PATIENTS)
    ]
    train_reference(None, [cohort], name=NAME, config=HEX_CONFIG, needs=made)
    return cohort


def run_everything() -> list[int]:
    """Does all queued work in this process, in order, until nothing is due; ids of the jobs that it ran."""
    from tissueboard.jobs import execution, sweeper
    from tissueboard.jobs.models import Job, State

    ran = []
    while True:
        sweeper._settle_created()
        job = Job.objects.filter(state=State.QUEUED).order_by("queued_at", "pk").first()
        if job is None:
            return ran
        execution.execute(job.pk, job.attempt, worker="test")
        ran.append(job.pk)
