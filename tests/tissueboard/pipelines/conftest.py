"""Six simulated patients that went through the whole reference chain, once for this folder."""

import pytest

from reference_six import HEX_CONFIG, PATIENTS, SIMULATOR


def run_everything() -> list[int]:
    """Does all queued work here, in order, until nothing is due."""
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


@pytest.fixture(scope="module")
def reference(django_db_setup, django_db_blocker, redis_server):
    """A cohort with a manager, six patients of two sites, all models trained and applied."""
    from django.core.management import call_command

    from tissueboard.accounts.models import User
    from tissueboard.cohorts.access import Role
    from tissueboard.cohorts.services import create_cohort, set_role
    from tissueboard.jobs.services import enqueue
    from tissueboard.pipelines.reference import train_reference
    from tissueboard.pipelines.simulated import describe_cohort

    with django_db_blocker.unblock():
        cohort = create_cohort(None, "simulated six", simulated=True)
        for name, role in (("manager", Role.MANAGER), ("viewer", Role.VIEWER)):
            set_role(None, cohort, User.objects.create_user(username=name), role)
        User.objects.create_user(username="outsider")
        describe_cohort(cohort)
        made = [
            enqueue(
                None,
                "pipelines.simulate_patient",
                {"cohort": cohort.pk, "index": i, "seed": 11, "site": ("Site A", "Site B")[i % 2], "config": SIMULATOR},
                cohorts=[cohort],
            )
            for i in range(PATIENTS)
        ]
        train_reference(None, [cohort], name="six", config=HEX_CONFIG, needs=made)
        run_everything()
    yield cohort
    with django_db_blocker.unblock():
        call_command("flush", interactive=False, verbosity=0)
