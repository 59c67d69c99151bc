"""Who is a member of a cohort, and what its managers change about it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from tissueboard.cohorts.access import Role
from tissueboard.cohorts.models import Cohort
from tissueboard.cohorts.selectors import get_cohort, get_member, members_of
from tissueboard.cohorts.services import add_member, remove_member, set_role
from tissueboard.errors import Code, TissueboardError

from .access import signed_in
from .cohorts import frame


@signed_in
@require_http_methods(["GET", "POST"])
def cohort_members(request: HttpRequest, cohort_id: int) -> HttpResponse:
    """Who is a member, with which role. POST: a manager adds somebody by her exact username."""
    found = get_cohort(request.user, cohort_id)
    if request.method == "GET":
        return _page(request, found)
    try:
        added = add_member(request.user, found, request.POST.get("username", ""), _role(request))
    except TissueboardError as error:
        return _page(request, found, error)
    messages.success(request, f"{added.user} is now a member, as {added.role}.")
    return redirect("cohort_members", cohort_id=found.pk)


@signed_in
@require_POST
def member_role(request: HttpRequest, cohort_id: int, membership_id: int) -> HttpResponse:
    """A manager gives a member another role."""
    found = get_cohort(request.user, cohort_id)
    member = get_member(request.user, found, membership_id)
    try:
        changed = set_role(request.user, found, member.user, _role(request))
    except TissueboardError as error:
        return _page(request, found, error)
    messages.success(request, f"{changed.user} is now {changed.role}.")
    return redirect("cohort_members", cohort_id=found.pk)


@signed_in
@require_POST
def member_remove(request: HttpRequest, cohort_id: int, membership_id: int) -> HttpResponse:
    """A manager ends a membership; who removes herself is back at her own cohorts."""
    found = get_cohort(request.user, cohort_id)
    member = get_member(request.user, found, membership_id)
    try:
        remove_member(request.user, found, member.user)
    except TissueboardError as error:
        return _page(request, found, error)
    messages.success(request, f"{member.user} is no longer a member of {found.name}.")
    return redirect("cohorts") if member.user == request.user else redirect("cohort_members", cohort_id=found.pk)


def _role(request: HttpRequest) -> str:
    """The role that the form names."""
    role = request.POST.get("role", "")
    if role not in Role.values:
        raise TissueboardError(Code.BAD_REQUEST, "There is no such role.", f"Roles are {', '.join(Role.values)}.")
    return role


def _page(request: HttpRequest, cohort: Cohort, refused: TissueboardError | None = None) -> HttpResponse:
    """The list with its forms; a refusal that the manager can mend is shown in its place, any other is a page of its own."""
    if refused is not None and refused.status in (403, 404):
        raise refused
    members = list(members_of(request.user, cohort))
    context: dict[str, Any] = {
        **frame(request, cohort, "members"),
        "members": members,
        "roles": Role.values,
        "one_manager": sum(m.role == Role.MANAGER for m in members) == 1,
        "refused": refused,
        "entered": {"username": request.POST.get("username", "")[:150], "role": request.POST.get("role", Role.VIEWER)},
    }
    return render(request, "pages/cohort_members.html", context, status=refused.status if refused else 200)
