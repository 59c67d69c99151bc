"""Reads of cohorts and cases, always scoped to a user."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, OuterRef, Q, Subquery

from tissueboard.errors import NotVisible

from .access import Role, ScopedQuerySet, role_in
from .models import ClinicalChange, Cohort, Endpoint, Membership, Patient


def cohorts_for(user: Any, role: str = Role.VIEWER) -> ScopedQuerySet:
    """Cohorts where the user holds the role or a higher one, with counts of patients and ready slides and her role."""
    mine = Membership.objects.filter(cohort=OuterRef("pk"), user_id=getattr(user, "pk", None))
    return Cohort.objects.visible_to(user, role).annotate(
        n_patients=Count("patients", distinct=True),
        n_slides=Count("patients__samples__slides", distinct=True),
        n_ready=Count("patients__samples__slides", distinct=True, filter=Q(patients__samples__slides__state="ready")),
        n_attention=Count("patients__samples__slides", distinct=True, filter=Q(patients__samples__slides__state="needs attention")),
        # A sub-query, not a join: a join over the members would give a row per member, each with that member's role.
        my_role=Subquery(mine.values("role")[:1]),
    )


def get_cohort(user: Any, cohort_id: int) -> Cohort:
    """One cohort; NotVisible for a stranger."""
    cohort = Cohort.objects.visible_to(user).filter(pk=cohort_id).first()
    if cohort is None:
        raise NotVisible("cohort")
    return cohort


def cohort_named(user: Any, name: str) -> Cohort:
    """One cohort by name or, where the text is a number, by id; NotVisible for a stranger."""
    found = Cohort.objects.visible_to(user).filter(Q(name=name) | (Q(pk=int(name)) if name.isdecimal() else Q(pk=-1))).first()
    if found is None:
        raise NotVisible("cohort")
    return found


def patients_for(user: Any, *, cohort: Cohort | None = None, search: str = "") -> ScopedQuerySet:
    """Patients that the user may see, by code; search is part of a code."""
    patients = Patient.objects.visible_to(user).select_related("cohort")
    if cohort is not None:
        patients = patients.filter(cohort=cohort)
    if search:
        patients = patients.filter(code__icontains=search.strip())
    return patients


def get_patient(user: Any, patient_id: int) -> Patient:
    """One patient with her cohort; NotVisible for a stranger. Reading is logged by the caller's service (`read_case`)."""
    patient = Patient.objects.visible_to(user).select_related("cohort").filter(pk=patient_id).first()
    if patient is None:
        raise NotVisible("case")
    return patient


def endpoints_of(user: Any, cohort: Cohort, name: str) -> ScopedQuerySet:
    """Outcomes of one endpoint in a cohort, with the patients."""
    return Endpoint.objects.visible_to(user).filter(patient__cohort=cohort, name=name).select_related("patient")


def role_of(user: Any, cohort: Cohort) -> str | None:
    return role_in(user, cohort)


def members_of(user: Any, cohort: Cohort) -> ScopedQuerySet:
    """The members of a cohort that the user is a member of."""
    return Membership.objects.visible_to(user).filter(cohort=cohort).select_related("user").order_by("user__username")


def get_member(user: Any, cohort: Cohort, membership_id: int) -> Membership:
    """One membership of a cohort that the user is a member of; NotVisible if there is none."""
    member = members_of(user, cohort).filter(pk=membership_id).first()
    if member is None:
        raise NotVisible("member")
    return member


def changes_of(user: Any, patient: Patient) -> ScopedQuerySet:
    """Corrections of a patient's clinical values, newest first, with who made them."""
    return ClinicalChange.objects.visible_to(user).filter(patient=patient).select_related("changed_by").order_by("-changed_at", "-pk")
