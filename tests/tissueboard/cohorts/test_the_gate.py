"""One gate: what a person may see and do in a cohort, and what strangers are told."""

import pytest
from django.contrib.auth.models import AnonymousUser

from tissueboard.accounts.models import AccessLog
from tissueboard.cohorts import selectors
from tissueboard.cohorts.access import Role, require, role_in
from tissueboard.cohorts.models import Membership, Patient
from tissueboard.cohorts.services import open_case
from tissueboard.errors import NotVisible, RoleMissing
from tissueboard.model_registry.selectors import get_version, versions_for
from tissueboard.slides.models import Slide

pytestmark = pytest.mark.django_db
ROLES = ("viewer", "contributor", "manager")


@pytest.mark.parametrize("held", ROLES)
@pytest.mark.parametrize("asked", ROLES)
def test_a_role_includes_the_roles_below_it(people, held, asked):
    user, cohort = people.users[held], people.lung.cohort
    if ROLES.index(held) >= ROLES.index(asked):
        require(user, cohort, asked)
        assert cohort in selectors.cohorts_for(user, asked)
    else:
        with pytest.raises(RoleMissing, match=f"role {asked} in the cohort lung"):
            require(user, cohort, asked)
        assert not selectors.cohorts_for(user, asked).exists()


@pytest.mark.parametrize("person", ["outsider", "stranger", "staff"])
def test_who_is_no_member_does_not_learn_that_the_cohort_exists(people, person):
    user = people.users[person]
    assert role_in(user, people.lung.cohort) is None
    for ask in (
        lambda: require(user, people.lung.cohort, Role.VIEWER),
        lambda: selectors.get_cohort(user, people.lung.cohort.pk),
        lambda: selectors.cohort_named(user, "lung"),
        lambda: selectors.get_patient(user, people.lung.patient.pk),
    ):
        with pytest.raises(NotVisible) as refused:
            ask()
        assert refused.value.status == 404


def test_a_stranger_gets_the_very_words_of_a_thing_that_does_not_exist(people):
    told = []
    for patient_id in (people.lung.patient.pk, 999_999_999):
        with pytest.raises(NotVisible) as refused:
            selectors.get_patient(people.stranger, patient_id)
        told.append(refused.value.as_dict())
    assert told[0] == told[1]


@pytest.mark.parametrize("nobody", [None, AnonymousUser()], ids=["none", "anonymous"])
def test_nobody_sees_nothing(people, nobody):
    assert not Patient.objects.visible_to(nobody).exists()
    assert not versions_for(nobody).exists()


def test_who_may_not_sign_in_any_more_sees_nothing(people):
    people.manager.is_active = False
    people.manager.save()
    assert not Patient.objects.visible_to(people.manager).exists()
    assert role_in(people.manager, people.lung.cohort) is None


def test_each_sees_her_own_cohort_only(people):
    for person, prefix in (("viewer", "LU"), ("stranger", "BR")):
        user = people.users[person]
        assert {p.code[:2] for p in selectors.patients_for(user)} == {prefix}
        assert {s.sample.patient.code[:2] for s in Slide.objects.visible_to(user)} == {prefix}


def test_superuser_rights_open_no_patient(people):
    people.staff.is_superuser = True
    people.staff.save()
    assert not Patient.objects.visible_to(people.staff).exists()


def test_a_model_is_for_those_who_may_see_all_that_it_stands_on(people):
    lung, both = people.versions["lung"], people.versions["breast"]
    both.cohorts.add(people.lung.cohort)
    assert set(versions_for(people.viewer)) == {lung, people.versions["hex"], people.versions["niche"]}
    with pytest.raises(NotVisible):
        get_version(people.stranger, both.pk)
    Membership.objects.create(cohort=people.breast.cohort, user=people.viewer, role="viewer")
    assert get_version(people.viewer, both.pk) == both


def test_cohorts_come_with_my_own_role_and_true_counts(people):
    Membership.objects.create(cohort=people.breast.cohort, user=people.viewer, role="contributor")
    rows = {c.name: c for c in selectors.cohorts_for(people.viewer)}
    assert len(selectors.cohorts_for(people.viewer)) == 2
    assert {name: c.my_role for name, c in rows.items()} == {"lung": "viewer", "breast": "contributor"}
    lung = rows["lung"]
    assert (lung.n_patients, lung.n_slides, lung.n_ready, lung.n_attention) == (6, 3, 2, 1)


def test_opening_a_case_leaves_a_row_and_a_refused_one_gives_nothing(people):
    assert open_case(people.viewer, people.lung.patient.pk) == people.lung.patient
    assert AccessLog.objects.get(verb="read case").patient_code == people.lung.patient.code
    with pytest.raises(NotVisible):
        open_case(people.stranger, people.lung.patient.pk)


def test_a_cohort_is_found_by_name_and_by_id(people):
    cohort = people.lung.cohort
    assert selectors.cohort_named(people.viewer, "lung") == selectors.cohort_named(people.viewer, str(cohort.pk)) == cohort
