"""Named people and a cohort for the tests of jobs."""

from types import SimpleNamespace

import pytest


@pytest.fixture
def people(db):
    """manager, contributor, viewer of the cohort `lung`; outsider and staff without membership; `both` also contributes to `breast`."""
    from tissueboard.accounts.models import User
    from tissueboard.cohorts.models import Cohort, Membership

    lung, breast = (Cohort.objects.create(name=name) for name in ("lung", "breast"))
    found = {"lung": lung, "breast": breast}
    for name in ("manager", "contributor", "viewer", "outsider", "staff", "both"):
        found[name] = User.objects.create_user(name, password=None, is_staff=name == "staff")
    for name, cohort, role in (
        ("manager", lung, "manager"),
        ("contributor", lung, "contributor"),
        ("viewer", lung, "viewer"),
        ("both", lung, "contributor"),
        ("both", breast, "contributor"),
    ):
        Membership.objects.create(user=found[name], cohort=cohort, role=role)
    return SimpleNamespace(**found)
