"""Who may give roles, and how a clinical value is corrected."""

import pytest

from tissueboard.accounts.models import AccessLog, User
from tissueboard.cohorts.access import Role, role_in
from tissueboard.cohorts.models import ClinicalChange, Cohort
from tissueboard.cohorts.selectors import changes_of, get_member, members_of
from tissueboard.cohorts.services import add_member, correct_value, create_cohort, remove_member, set_role
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


def test_a_member_is_added_by_exact_name_and_only_once(people):
    cohort = people.lung.cohort
    added = add_member(people.manager, cohort, "outsider", Role.CONTRIBUTOR)
    assert (added.user, role_in(people.outsider, cohort)) == (people.outsider, "contributor")
    with pytest.raises(TissueboardError, match="a member of lung already, as contributor") as refused:
        add_member(people.manager, cohort, "outsider", Role.MANAGER)
    assert refused.value.status == 409 and role_in(people.outsider, cohort) == "contributor"
    User.objects.create_user("gone", is_active=False)
    for name in ("Outsider", "out", "gone", ""):
        with pytest.raises(TissueboardError) as refused:
            add_member(people.manager, cohort, name, Role.VIEWER)
        assert (refused.value.status, refused.value.where) == (400, "username")
    row = AccessLog.objects.get(cohort_id=cohort.pk, verb="add member as contributor")
    assert (row.username, row.object_type, row.object_id) == ("manager", "user", str(people.outsider.pk))


def test_a_person_without_the_right_learns_nothing_about_usernames(people):
    for person, refusal in (("contributor", RoleMissing), ("viewer", RoleMissing), ("stranger", NotVisible), ("outsider", NotVisible)):
        for name in ("outsider", "nobody"):
            with pytest.raises(refusal):
                add_member(people.users[person], people.lung.cohort, name, Role.VIEWER)


def test_a_removed_member_sees_nothing_more_and_her_corrections_stay(people):
    cohort, patient = people.lung.cohort, people.lung.patient
    correct_value(people.contributor, patient, "age", 61, "typing error")
    remove_member(people.manager, cohort, people.contributor)
    assert role_in(people.contributor, cohort) is None and not changes_of(people.contributor, patient).exists()
    assert [c.changed_by for c in changes_of(people.viewer, patient)] == [people.contributor]
    row = AccessLog.objects.get(cohort_id=cohort.pk, verb="remove member")
    assert (row.username, row.object_id) == ("manager", str(people.contributor.pk))
    with pytest.raises(NotVisible):
        remove_member(people.manager, cohort, people.contributor)


def test_the_last_manager_is_not_removed(people):
    cohort = people.lung.cohort
    with pytest.raises(TissueboardError, match="only manager") as refused:
        remove_member(people.manager, cohort, people.manager)
    assert refused.value.status == 409
    set_role(people.manager, cohort, people.viewer, Role.MANAGER)
    remove_member(people.manager, cohort, people.manager)
    assert role_in(people.manager, cohort) is None and role_in(people.viewer, cohort) == "manager"


def test_only_a_manager_of_this_cohort_removes(people):
    for person, refusal in (("contributor", RoleMissing), ("viewer", RoleMissing), ("stranger", NotVisible), ("staff", NotVisible)):
        with pytest.raises(refusal):
            remove_member(people.users[person], people.lung.cohort, people.viewer)
    assert role_in(people.viewer, people.lung.cohort) == "viewer"


def test_a_membership_is_found_in_its_own_cohort_only(people):
    theirs = members_of(people.stranger, people.breast.cohort).get()
    assert get_member(people.stranger, people.breast.cohort, theirs.pk) == theirs
    for user, cohort in ((people.manager, people.lung.cohort), (people.manager, people.breast.cohort)):
        with pytest.raises(NotVisible):
            get_member(user, cohort, theirs.pk)


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


def test_a_value_that_is_recorded_already_leaves_no_correction(people):
    patient = people.lung.patient
    patient.clinical["smoker"] = 1  # of an old import: a number is no yes
    patient.save()
    for variable, value in (("age", "50"), ("stage", "II")):
        with pytest.raises(TissueboardError, match="recorded like this already") as refused:
            correct_value(people.contributor, patient, variable, value, "because")
        assert refused.value.status == 409
    assert correct_value(people.contributor, patient, "smoker", "yes", "because").new is True
    assert ClinicalChange.objects.count() == 1


def test_a_reason_or_value_longer_than_its_place_is_a_sentence(people):
    for value, why, where in (("6" * 501, "x", ""), ("60", "x" * 201, "why")):
        with pytest.raises(TissueboardError, match="has at most") as refused:
            correct_value(people.contributor, people.lung.patient, "age", value, why)
        assert (refused.value.status, refused.value.where) == (400, where)


def test_a_viewer_corrects_nothing(people):
    with pytest.raises(RoleMissing, match="contributor"):
        correct_value(people.viewer, people.lung.patient, "age", 60, "because")
    with pytest.raises(NotVisible):
        correct_value(people.stranger, people.lung.patient, "age", 60, "because")
