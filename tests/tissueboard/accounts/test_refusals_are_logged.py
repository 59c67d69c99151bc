"""Who asked for what she may not see leaves a row too; mistakes in a request do not."""

import pytest
from people import people  # noqa: F401

from tissueboard.accounts.models import AccessLog

pytestmark = pytest.mark.django_db


def refused() -> list[tuple[str, str, int | None]]:
    return list(AccessLog.objects.filter(result="refused").values_list("username", "verb", "cohort_id"))


@pytest.mark.parametrize("client", ["client", "api"])
def test_a_stranger_who_asks_for_a_case_is_logged_without_the_cohort(people, client):  # noqa: F811
    path = f"/cases/{people.lung.patient.pk}/" if client == "client" else f"/api/v1/patients/{people.lung.patient.pk}/"
    assert getattr(people, client)("outsider").get(path).status_code == 404
    assert refused() == [("outsider", "refused NOT_FOUND", None)]


def test_a_viewer_who_may_not_is_logged_with_the_cohort(people):  # noqa: F811
    slide = people.lung.slide
    answer = people.api("viewer").post(f"/api/v1/slides/{slide.pk}/pipeline/", {"name": "case"}, format="json")
    assert answer.status_code == 403
    assert refused() == [("viewer", "refused ROLE_MISSING", people.lung.cohort.pk)]


def test_mistakes_and_anonymous_requests_leave_no_row(people):  # noqa: F811
    people.api("viewer").get("/api/v1/kaplan-meier/", {"cohort": people.lung.cohort.pk, "endpoint": "DFS"})
    people.api("viewer").get("/api/v1/no-such-address/")
    people.client("anonymous").get(f"/cases/{people.lung.patient.pk}/")
    assert refused() == []
