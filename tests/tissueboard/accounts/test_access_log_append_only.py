"""Nobody rewrites who looked at what: the database itself refuses it."""

import pytest
from django.db import IntegrityError, connection, transaction

from tissueboard.accounts.audit import record
from tissueboard.accounts.models import AccessLog
from tissueboard.accounts.selectors import access_log
from tissueboard.errors import NotVisible, RoleMissing

pytestmark = pytest.mark.django_db


@pytest.fixture
def row(people):
    record(people.viewer, "read case", people.lung.patient, cohort_id=people.lung.cohort.pk, patient_code=people.lung.patient.code)
    return AccessLog.objects.order_by("pk").last()


@pytest.mark.parametrize(
    "change",
    [
        lambda row: AccessLog.objects.filter(pk=row.pk).update(username="somebody else"),
        lambda row: row.delete(),
        lambda row: AccessLog.objects.all().delete(),
        lambda row: AccessLog.objects.all()._raw_delete("default"),
    ],
    ids=["update", "delete", "delete all", "raw delete"],
)
def test_a_row_cannot_be_changed_or_removed(row, change):
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        change(row)
    assert AccessLog.objects.get(pk=row.pk).username == "viewer"


def test_truncating_is_refused_outside_of_the_test_runner(row):
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL tissueboard.refuse_truncate = 'on'")
        cursor.execute("TRUNCATE accounts_accesslog")
    assert AccessLog.objects.filter(pk=row.pk).exists()


def test_a_row_says_who_what_whose_and_from_where(people):
    people.api("viewer").get(f"/api/v1/patients/{people.lung.patient.pk}/")
    row = AccessLog.objects.order_by("pk").last()
    assert (row.username, row.user_id, row.verb) == ("viewer", people.viewer.pk, "read case")
    assert (row.object_type, row.object_id) == ("patient", str(people.lung.patient.pk))
    assert (row.patient_code, row.cohort_id) == (people.lung.patient.code, people.lung.cohort.pk)
    assert (row.address, row.path) == ("127.0.0.1", f"/api/v1/patients/{people.lung.patient.pk}/")


def test_the_manager_sees_who_looked_at_her_patients_and_at_no_others(row, people):
    record(people.stranger, "read case", people.breast.patient, cohort_id=people.breast.cohort.pk)
    rows = access_log(people.manager, people.lung.cohort)
    assert [r.pk for r in rows] == [row.pk]
    with pytest.raises(RoleMissing, match="manager"):
        access_log(people.contributor, people.lung.cohort)
    for person in ("outsider", "stranger", "staff"):
        with pytest.raises(NotVisible):
            access_log(people.users[person], people.lung.cohort)
