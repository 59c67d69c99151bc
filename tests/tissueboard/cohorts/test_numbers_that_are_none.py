"""NaN never becomes a record: Postgres takes it for larger than everything, so a lower limit alone would let it in."""

import pytest
from django.db import DataError, IntegrityError, transaction

from tissueboard.cohorts.models import MOST_DAYS, Cohort, Endpoint, Patient

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("days", [float("nan"), float("inf"), -1.0, float(MOST_DAYS)])
def test_a_time_that_is_no_time_is_refused(days):
    patient = Patient.objects.create(cohort=Cohort.objects.create(name="c"), code="p")
    with pytest.raises((IntegrityError, DataError)), transaction.atomic():
        Endpoint.objects.create(patient=patient, name="OS", time_days=days, event=True, source="test")
    assert not Endpoint.objects.exists()
