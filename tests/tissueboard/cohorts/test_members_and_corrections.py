"""Who may give roles, and how a clinical value is corrected."""

import pytest

from tissueboard.accounts.models import AccessLog, User
from tissueboard.cohorts.access import Role, role_in
from tissueboard.cohorts.models import ClinicalChange, Cohort
from tissueboard.cohorts.services import correct_value, create_cohort, set_role
from tissueboard.errors import NotVisible, RoleMissing, TissueboardError

pytestmark = pytest.mark.django_db


def test_the_last_manager_stays_until_there_is_another(people):
    with pytest.raises(TissueboardError, match="only manager") as refused:
        set_role(people.manager, people.lung.cohort, people.manager, Role.VIEWER)
    assert refused.value.status == 409 and role_in(people.manager, people.lung.cohort) == "manager"
    set_role(people.manager, people.lung.cohort, people.contributor, Role.MANAGER)
    set_role(people.manager, people.lung.cohort, people.manager, Role.VIEWER)
    assert role_in(people.manager, people.lung.cohort) == "viewer"
    with pytest.raises(RoleMissing):
        set_role(people.manager, people.lung.cohort, people.outsider, Role.VIEWER)


def test_only_a_manager_of_this_cohort_gives_roles(people):
    for person, refusal in (("contributor", RoleMissing), ("viewer", RoleMissing), ("stranger", NotVisible), ("staff", NotVisible)):
        with pytest.raises(refusal):
            set_role(people.users[person], people.lung.cohort, people.outsider, Role.VIEWER)
    assert role_in(people.outsider, people.lung.cohort) is None


def test_a_role_that_does_not_exist_is_refused(people):
    with pytest.raises(ValueError):
        set_role(people.manager, people.lung.cohort, people.outsider, "owner")


def test_who_creates_a_cohort_manages_it_and_names_are_taken_once(db):
    user = User.objects.create_user("new")
    cohort = create_cohort(user, "  colon ")
    assert cohort.name == "colon" and role_in(user, cohort) == "manager"
    assert AccessLog.objects.get(verb="create cohort").cohort_id == cohort.pk
    for name, status in (("colon", 409), ("", 400), ("x" * 81, 400)):
        with pytest.raises(TissueboardError) as refused:
            create_cohort(user, name)
        assert refused.value.status == status
    assert Cohort.objects.count() == 1


def test_a_correction_keeps_what_was_there_with_who_and_why(people):
    patient = people.lung.patient
    correct_value(people.contributor, patient, "age", "61", "typing error")
    correct_value(people.manager, patient, "age", None, "not known after all")
    patient.refresh_from_db()
    assert patient.clinical == {"age": None, "stage": "II"}
    rows = list(ClinicalChange.objects.order_by("pk").values_list("variable", "old", "new", "changed_by__username", "why"))
    assert rows == [("age", 50, 61, "contributor", "typing error"), ("age", 61, None, "manager", "not known after all")]
    assert AccessLog.objects.filter(verb="correct value", patient_code=patient.code).count() == 2


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [("age", "old", "x"), ("age", "inf", "x"), ("stage", "IX", "x"), ("smoker", "maybe", "x"), ("height", 1, "x"), ("age", 60, "  ")],
)
def test_a_correction_that_does_not_fit_changes_nothing(people, variable, value, why):
    with pytest.raises(TissueboardError) as refused:
        correct_value(people.contributor, people.lung.patient, variable, value, why)
    assert refused.value.sentence.endswith(".") and refused.value.hint.endswith(".")
    people.lung.patient.refresh_from_db()
    assert people.lung.patient.clinical == {"age": 50, "stage": "II"} and not ClinicalChange.objects.exists()


def test_a_viewer_corrects_nothing(people):
    with pytest.raises(RoleMissing, match="contributor"):
        correct_value(people.viewer, people.lung.patient, "age", 60, "because")
    with pytest.raises(NotVisible):
        correct_value(people.stranger, people.lung.patient, "age", 60, "because")
