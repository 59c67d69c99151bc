"""Writes of cohorts: check the right, validate, one transaction, log."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from tissueboard.accounts.audit import record
from tissueboard.accounts.models import User
from tissueboard.errors import Code, NotVisible, TissueboardError

from .access import Role, require
from .models import ClinicalChange, Cohort, Membership, Patient

MAX_NAME, MAX_DESCRIPTION, MAX_VALUE, MAX_WHY = 80, 500, 500, 200


@transaction.atomic
def create_cohort(user: Any, name: str, **fields: Any) -> Cohort:
    """A new cohort whose creator is its manager (user None: the house itself, members are added after).

    Errors: BAD_REQUEST for a name or description that does not fit, CONFLICT (409) for a name that is taken; `where` is the field.
    """
    name = name.strip()
    if not name or len(name) > MAX_NAME:
        sentence = f"A cohort needs a name of 1 to {MAX_NAME} characters."
        raise TissueboardError(Code.BAD_REQUEST, sentence, "Give a shorter name." if name else "Give it a name.", where="name")
    if len(fields.get("description", "")) > MAX_DESCRIPTION:
        sentence = f"A description has at most {MAX_DESCRIPTION} characters."
        raise TissueboardError(Code.BAD_REQUEST, sentence, "Give a shorter one.", where="description")
    # Not asked first and made then: of two who want the same name at the same time one gets the sentence, not a broken constraint.
    cohort, made = Cohort.objects.get_or_create(name=name, defaults=fields)
    if not made:
        raise TissueboardError(Code.CONFLICT, f"The name {name} is taken.", "Choose another name.", where="name", status=409)
    if user is not None:
        Membership.objects.create(cohort=cohort, user=user, role=Role.MANAGER)
    record(user, "create cohort", cohort, cohort_id=cohort.pk)
    return cohort


@transaction.atomic
def add_member(user: Any, cohort: Cohort, username: str, role: str) -> Membership:
    """Makes the person with exactly this username a member. Needs manager; who is a member already keeps her role.

    Errors: NotVisible, RoleMissing, BAD_REQUEST (nobody has this name; the answer for an account that is closed too), CONFLICT (409).
    """
    require(user, cohort, Role.MANAGER)
    username = username.strip()
    person = User.objects.filter(username=username, is_active=True).first()
    if person is None:
        sentence = f"Nobody here has the username {username[:150]}." if username else "There is no username."
        raise TissueboardError(Code.BAD_REQUEST, sentence, "Type it exactly as the person signs in.", where="username")
    membership, made = Membership.objects.get_or_create(cohort=cohort, user=person, defaults={"role": Role(role)})
    if not made:
        sentence = f"{person} is a member of {cohort} already, as {membership.role}."
        raise TissueboardError(Code.CONFLICT, sentence, "Change the role in the list.", where="username", status=409)
    record(user, f"add member as {role}", person, cohort_id=cohort.pk)
    return membership


@transaction.atomic
def set_role(user: Any, cohort: Cohort, member: User, role: str) -> Membership:
    """Gives a person a role. Needs manager; a cohort keeps at least one manager."""
    if user is not None:
        require(user, cohort, Role.MANAGER)
    if role != Role.MANAGER:
        _leaves_a_manager(cohort, member)
    membership, _ = Membership.objects.update_or_create(cohort=cohort, user=member, defaults={"role": Role(role)})
    record(user, f"set role {role}", membership, cohort_id=cohort.pk)
    return membership


@transaction.atomic
def remove_member(user: Any, cohort: Cohort, member: User) -> None:
    """Ends a person's membership. Needs manager; a cohort keeps at least one manager. Her entries stay, with her name.

    Errors: NotVisible (no such member either), RoleMissing, CONFLICT (409) for the only manager.
    """
    require(user, cohort, Role.MANAGER)
    _leaves_a_manager(cohort, member)
    if not Membership.objects.filter(cohort=cohort, user=member).delete()[0]:
        raise NotVisible("member")
    record(user, "remove member", member, cohort_id=cohort.pk)


def _leaves_a_manager(cohort: Cohort, member: User) -> None:
    """CONFLICT if the cohort has no other manager. Locks the managers: two of them cannot leave each other at the same time."""
    managers = Membership.objects.select_for_update().filter(cohort=cohort, role=Role.MANAGER)
    if list(managers.values_list("user_id", flat=True)) == [member.pk]:
        raise TissueboardError(
            Code.CONFLICT, f"{member} is the only manager of {cohort}.", "Make somebody else a manager first.", status=409
        )


@transaction.atomic
def correct_value(user: Any, patient: Patient, variable: str, new: Any, why: str) -> ClinicalChange:
    """Corrects one clinical value and keeps the old one with who and why. Needs contributor; the value must fit the dictionary.

    Errors: NotVisible, RoleMissing, BAD_REQUEST (`where` is "why" or "variable" if it is not the value), CONFLICT (409) if nothing changes.
    """
    from .dictionary import parse_value

    require(user, patient.cohort, Role.CONTRIBUTOR)
    why = why.strip()
    if not why:
        raise TissueboardError(Code.BAD_REQUEST, "A correction needs a reason.", "Say why the value changes.", where="why")
    if len(why) > MAX_WHY:
        raise TissueboardError(Code.BAD_REQUEST, f"A reason has at most {MAX_WHY} characters.", "Say it in a sentence.", where="why")
    definition = patient.cohort.variables.filter(name=variable).first()
    if definition is None:
        sentence = f"The cohort has no variable {variable[:80]}."
        raise TissueboardError(Code.BAD_REQUEST, sentence, "Choose one of the data dictionary.", where="variable")
    if len(str(new)) > MAX_VALUE:
        raise TissueboardError(Code.BAD_REQUEST, f"A value has at most {MAX_VALUE} characters.", "Give a shorter one.")
    value = parse_value(definition, new)
    locked = Patient.objects.select_for_update().get(pk=patient.pk)
    old = locked.clinical.get(variable)
    if old == value and isinstance(old, bool) == isinstance(value, bool):
        sentence = f"{definition.label or variable} is recorded like this already."
        raise TissueboardError(Code.CONFLICT, sentence, "Give the value as it should be.", status=409)
    change = ClinicalChange.objects.create(patient=locked, variable=variable, old=old, new=value, changed_by=user, why=why)
    locked.clinical[variable] = value
    locked.save(update_fields=["clinical"])
    record(user, "correct value", change, cohort_id=locked.cohort_id, patient_code=locked.code)
    return change


def open_case(user: Any, patient_id: int) -> Patient:
    """The patient behind a case page, with one row in the access log; NotVisible for a stranger."""
    from .selectors import get_patient

    patient = get_patient(user, patient_id)
    record(user, "read case", patient, cohort_id=patient.cohort_id, patient_code=patient.code)
    return patient
