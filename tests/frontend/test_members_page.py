"""A manager decides who is a member; nobody else does, and nobody learns who has an account here."""

from django.urls import reverse

from tissueboard.accounts.models import AccessLog, User
from tissueboard.cohorts.access import role_in
from tissueboard.cohorts.models import Membership


def address(people):
    return reverse("cohort_members", args=[people.lung.cohort.pk])


def row_of(people, person, verb):
    member = Membership.objects.get(cohort=people.lung.cohort, user=people.users[person])
    return reverse(f"cohort_member_{verb}", args=[people.lung.cohort.pk, member.pk])


def test_only_a_manager_sees_the_forms(people):
    assert "Add a member" in people.client("manager").get(address(people)).content.decode()
    for person in ("contributor", "viewer"):
        page = people.client(person).get(address(people)).content.decode()
        assert "manager" in page and "Add a member" not in page and "/role/" not in page and "/remove/" not in page


def test_a_manager_adds_changes_and_removes(people, words):
    client, cohort = people.client("manager"), people.lung.cohort
    added = client.post(address(people), {"username": " outsider ", "role": "viewer"}, follow=True)
    assert "outsider is now a member, as viewer." in words(added) and role_in(people.outsider, cohort) == "viewer"
    changed = client.post(row_of(people, "outsider", "role"), {"role": "contributor"}, follow=True)
    assert "outsider is now contributor." in words(changed) and role_in(people.outsider, cohort) == "contributor"
    removed = client.post(row_of(people, "outsider", "remove"), follow=True)
    assert "outsider is no longer a member of lung." in words(removed) and role_in(people.outsider, cohort) is None
    log = list(AccessLog.objects.filter(cohort_id=cohort.pk, username="manager").order_by("pk").values_list("verb", flat=True))
    assert log == ["add member as viewer", "set role contributor", "remove member"]


def test_a_username_that_nobody_has_is_a_sentence_and_no_list_of_users(people, words):
    User.objects.create_user("gone", is_active=False)
    answers = {}
    for name in ("nobody", "outsid", "OUTSIDER", "gone", "", "x" * 5000):
        answer = people.client("manager").post(address(people), {"username": name, "role": "viewer"})
        assert answer.status_code == 400 and 'id="username-error"' in answer.content.decode()
        answers[name] = words(answer)
        assert "stranger" not in answers[name] and " outsider " not in answers[name]
    assert "Nobody here has the username nobody. Type it exactly" in answers["nobody"]
    assert answers["gone"].replace("gone", "nobody") == answers["nobody"], "a closed account looks like none"
    assert people.lung.cohort.memberships.count() == 3


def test_who_is_a_member_already_keeps_her_role(people, words):
    answer = people.client("manager").post(address(people), {"username": "contributor", "role": "viewer"})
    assert answer.status_code == 409 and "contributor is a member of lung already, as contributor." in words(answer)
    assert role_in(people.contributor, people.lung.cohort) == "contributor"


def test_the_only_manager_stays(people, words):
    client = people.client("manager")
    page = client.get(address(people)).content.decode()
    assert row_of(people, "manager", "remove") not in page and "the only one, so it stays" in page
    for verb in ("role", "remove"):
        answer = client.post(row_of(people, "manager", verb), {"role": "viewer"})
        assert answer.status_code == 409 and "manager is the only manager of lung." in words(answer)
    assert role_in(people.manager, people.lung.cohort) == "manager"


def test_a_manager_who_leaves_is_back_at_her_own_cohorts(people):
    client = people.client("manager")
    client.post(row_of(people, "contributor", "role"), {"role": "manager"})
    answer = client.post(row_of(people, "manager", "remove"))
    assert answer.url == reverse("cohorts") and client.get(address(people)).status_code == 404


def test_a_role_that_does_not_exist_is_a_sentence(people, words):
    for url in (address(people), row_of(people, "viewer", "role")):
        answer = people.client("manager").post(url, {"username": "outsider", "role": "owner"})
        assert answer.status_code == 400 and "There is no such role. Roles are viewer, contributor, manager." in words(answer)
    assert role_in(people.viewer, people.lung.cohort) == "viewer" and role_in(people.outsider, people.lung.cohort) is None


def test_others_change_nothing(people):
    for person, status in (("contributor", 403), ("viewer", 403), ("outsider", 404), ("stranger", 404)):
        client = people.client(person)
        assert client.post(address(people), {"username": "outsider", "role": "viewer"}).status_code == status
        assert client.post(row_of(people, "viewer", "role"), {"role": "manager"}).status_code == status
        assert client.post(row_of(people, "viewer", "remove")).status_code == status
    assert people.lung.cohort.memberships.count() == 3 and role_in(people.viewer, people.lung.cohort) == "viewer"


def test_a_member_of_another_cohort_is_not_reached_through_mine(people):
    other = Membership.objects.get(cohort=people.breast.cohort)
    answer = people.client("manager").post(reverse("cohort_member_remove", args=[people.lung.cohort.pk, other.pk]))
    assert answer.status_code == 404 and Membership.objects.filter(pk=other.pk).exists()
