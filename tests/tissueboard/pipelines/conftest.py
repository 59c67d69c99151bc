"""Six simulated patients that went through the whole reference chain, once for this folder."""

import pytest
from reference_six import enqueue_reference, run_everything


@pytest.fixture(scope="module")
def reference(django_db_setup, django_db_blocker, redis_server):
    """A cohort with a manager, six patients of two sites, all models trained and applied."""
    from django.core.management import call_command

    with django_db_blocker.unblock():
        cohort = enqueue_reference()
        run_everything()
    yield cohort
    with django_db_blocker.unblock():
        call_command("flush", interactive=False, verbosity=0)
