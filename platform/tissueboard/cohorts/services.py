"""Writes of cohorts: check the right, validate, one transaction, log."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from tissueboard.accounts.audit import record
from tissueboard.accounts.models import User
from tissueboard.errors import Code, TissueboardError

from .access import Role, require
from .models import ClinicalChange, Cohort, Membership, Patient


@transaction.atomic
def create_cohort(user: Any, name: str, **fields: Any) -> Cohort:
    """A new cohort whose creator is its manager (user None: the house itself, members are added after)."""
    name = name.strip()
    if not name or len(name) > 80:
        raise TissueboardError(Code.BAD_REQUEST, "A cohort needs a name of 1 to 80 characters.", "Give a shorter name.")
    if Cohort.objects.filter(name=name).exists():
        raise TissueboardError(Code.CONFLICT, f"The name {name} is taken.", "Choose another name.", status=409)
    cohort = Cohort.objects.create(name=name, **fields)
    if user is not None:
        Membership.objects.create(cohort=cohort, user=user, role=Role.MANAGER)
    record(user, "create cohort", cohort, cohort_id=cohort.pk)
    return cohort


@transaction.atomic
def set_role(user: Any, cohort: Cohort, member: User, role: str) -> Membership:
    """Gives a person a role. Needs manager; a cohort keeps at least one manager."""
    if user is not None:
        require(user, cohort, Role.MANAGER)
    managers = Membership.objects.select_for_update().filter(cohort=cohort, role=Role.MANAGER)
    if role != Role.MANAGER and list(managers.values_list("user_id", flat=True)) == [member.pk]:
        raise TissueboardError(
            Code.CONFLICT, f"{member} is the only manager of {cohort}.", "Make somebody else a manager first.", status=409
        )
    membership, _ = Membership.objects.update_or_create(cohort=cohort, user=member, defaults={"role": Role(role)})
    record(user, f"set role {role}", membership, cohort_id=cohort.pk)
    return membership


@transaction.atomic
def correct_value(user: Any, patient: Patient, variable: str, new: Any, why: str) -> ClinicalChange:
    """Corrects one clinical value and keeps the old one with who and why. Needs contributor; the value must fit the dictionary."""
    from .dictionary import parse_value

    require(user, patient.cohort, Role.CONTRIBUTOR)
    if not why.strip():
        raise TissueboardError(Code.BAD_REQUEST, "A correction needs a reason.", "Say why the value changes.")
    definition = patient.cohort.variables.filter(name=variable).first()
    if definition is None:
        raise TissueboardError(Code.BAD_REQUEST, f"The cohort has no variable {variable}.", "Choose one of the data dictionary.")
    value = parse_value(definition, new)
    locked = Patient.objects.select_for_update().get(pk=patient.pk)
    change = ClinicalChange.objects.create(
        patient=locked, variable=variable, old=locked.clinical.get(variable), new=value, changed_by=user, why=why.strip()
    )
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
