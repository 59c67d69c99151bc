"""What a survival answer says, whom it leaves out, and what it hides from viewers."""

import numpy as np
import pytest

from tissueboard.accounts.models import AccessLog, User
from tissueboard.cohorts.models import ClinicalVariable, Cohort, Endpoint, Membership, Patient
from tissueboard.errors import NotVisible, TissueboardError
from tissueboard.outcomes.selectors import endpoints_in, groupings
from tissueboard.outcomes.services import DAYS_PER_MONTH, survival

pytestmark = pytest.mark.django_db


@pytest.fixture
def cohort():
    """40 patients; stage II dies faster than I; three patients have stage IV; age is recorded for half of them."""
    cohort = Cohort.objects.create(name="lung", min_group_size=5)
    for name, kind in (("stage", "category"), ("age", "number"), ("note", "text")):
        ClinicalVariable.objects.create(cohort=cohort, name=name, kind=kind, unit="years" if name == "age" else "")
    rng = np.random.default_rng(3)
    for i in range(40):
        stage = "IV" if i >= 37 else "I" if i % 2 else "II"
        clinical = {"stage": stage} | ({"age": 40 + i} if i < 20 else {})
        patient = Patient.objects.create(cohort=cohort, code=f"P{i:02}", clinical=clinical)
        time = rng.exponential(300 if stage == "II" else 1500)
        Endpoint.objects.create(patient=patient, name="OS", time_days=min(time, 1800), event=time < 1800, source="test")
    return cohort


@pytest.fixture
def member(cohort):
    def make(role):
        user = User.objects.create_user(username=role)
        Membership.objects.create(cohort=cohort, user=user, role=role)
        return user

    return make


def test_a_whole_cohort_is_one_curve_with_its_counts(cohort, member):
    result = survival(member("viewer"), cohort, "OS")
    assert (result.n, len(result.groups), result.unit, result.confidence) == (40, 1, "days", "95% log-log")
    (curve,) = result.groups
    assert curve.n == 40 and curve.events == result.events == Endpoint.objects.filter(event=True).count()
    assert curve.n_risk[0] == 40 and sum(curve.n_event) + sum(curve.n_censor) == 40
    assert curve.at_risk.n[0] == 40 and curve.at_risk.times[1] % DAYS_PER_MONTH == 0
    assert result.logrank is None and result.hazard_ratio is None


def test_two_groups_are_compared_and_missing_values_are_counted(cohort, member):
    user = member("manager")
    result = survival(user, cohort, "OS", "age")
    assert [g.name for g in result.groups] == ["age < 49.5 years", "age >= 49.5 years"]
    assert "declared beforehand" in result.group_rule
    assert [(e.why, e.n) for e in result.excluded] == [("age not recorded", 20)]
    assert result.n == 20 and 0 < result.logrank.p <= 1 and result.hazard_ratio.lower < result.hazard_ratio.hr < result.hazard_ratio.upper


def test_three_groups_have_a_test_of_two_degrees_and_no_hazard_ratio(cohort, member):
    result = survival(member("manager"), cohort, "OS", "stage")
    assert len(result.groups) == 3 and result.logrank.df == 2 and result.hazard_ratio is None
    assert result.logrank.p < 0.05


def test_a_small_group_is_hidden_from_viewers_only(cohort, member):
    hidden = survival(member("viewer"), cohort, "OS", "stage")
    small = next(g for g in hidden.groups if g.name == "stage: IV")
    assert small.suppressed and small.time == [] and small.events is None
    assert any("fewer than 5" in note for note in hidden.notes)
    assert hidden.logrank.df == 1 and hidden.n == 37 and hidden.events == sum(g.events for g in hidden.groups if g.events is not None)
    shown = survival(member("contributor"), cohort, "OS", "stage")
    assert not any(g.suppressed for g in shown.groups)


def test_unknown_names_are_refused_with_what_there_is(cohort, member):
    user = member("viewer")
    with pytest.raises(TissueboardError) as endpoint:
        survival(user, cohort, "DFS")
    assert endpoint.value.code == "UNKNOWN_ENDPOINT"
    with pytest.raises(TissueboardError) as grouping:
        survival(user, cohort, "OS", "note")
    assert grouping.value.code == "UNKNOWN_GROUPING" and "stage" in grouping.value.hint


def test_a_stranger_sees_no_endpoint_and_a_read_is_logged(cohort, member):
    stranger = User.objects.create_user(username="outsider")
    assert endpoints_in(stranger, cohort) == [] and groupings(stranger, cohort) == []
    with pytest.raises(TissueboardError):
        survival(stranger, cohort, "OS")
    survival(member("viewer"), cohort, "OS")
    assert AccessLog.objects.filter(verb="read survival", cohort_id=cohort.pk, username="viewer").count() == 1
    assert not AccessLog.objects.filter(username="outsider").exists()


def test_a_group_without_events_gives_no_hazard_ratio_but_says_so(cohort, member):
    ClinicalVariable.objects.create(cohort=cohort, name="treated", kind="boolean")
    for i, patient in enumerate(Patient.objects.filter(cohort=cohort)):
        patient.clinical["treated"] = i % 2 == 0
        patient.save()
        if i % 2 == 0:
            Endpoint.objects.filter(patient=patient).update(event=False)
    result = survival(member("manager"), cohort, "OS", "treated")
    assert result.hazard_ratio is None and any("no event" in note for note in result.notes)
    assert result.logrank is not None


def test_delayed_entry_is_used_and_said(cohort, member):
    Endpoint.objects.filter(time_days__gt=60).update(entry_days=50)
    result = survival(member("viewer"), cohort, "OS")
    assert any("Delayed entry" in note for note in result.notes)
    late = Endpoint.objects.filter(entry_days=50).count()
    assert result.groups[0].n_risk[0] <= 40 - late + 1


def test_cohorts_do_not_mix(cohort, member):
    other = Cohort.objects.create(name="other")
    patient = Patient.objects.create(cohort=other, code="X")
    Endpoint.objects.create(patient=patient, name="OS", time_days=5, event=True, source="test")
    user = member("manager")
    with pytest.raises(TissueboardError):
        survival(user, other, "OS")
    assert survival(user, cohort, "OS").n == 40
    from tissueboard.cohorts.selectors import get_cohort

    with pytest.raises(NotVisible):
        get_cohort(user, other.pk)
