"""The one gate: rights are held at the cohort, and every read starts from `visible_to(user)` (DESIGNS 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models

from tissueboard.errors import NotVisible, RoleMissing

if TYPE_CHECKING:
    from tissueboard.accounts.models import User

    from .models import Cohort


class Role(models.TextChoices):
    """Roles in a cohort, lowest first: a viewer reads, a contributor adds, a manager decides."""

    VIEWER = "viewer"
    CONTRIBUTOR = "contributor"
    MANAGER = "manager"

    @classmethod
    def at_least(cls, role: str) -> list[str]:
        """The role and all above it."""
        order = [cls.VIEWER, cls.CONTRIBUTOR, cls.MANAGER]
        return [str(r) for r in order[order.index(cls(role)) :]]


class ScopedQuerySet(models.QuerySet[Any]):
    """Rows whose right is their cohort's. `cohort_path` of the model is the look-up from the row to its cohort."""

    def visible_to(self, user: Any, role: str = Role.VIEWER) -> ScopedQuerySet:
        """Rows in cohorts where the user holds the role or a higher one. Nobody passes without a membership, staff neither."""
        if user is None or not user.is_authenticated or not user.is_active:
            return self.none()
        from .models import Membership

        cohorts = Membership.objects.filter(user=user, role__in=Role.at_least(role)).values("cohort_id")
        return self.filter(**{f"{self.model.cohort_path}__in": cohorts})


class SpanningQuerySet(models.QuerySet[Any]):
    """Rows that stand on several cohorts (models, jobs): visible to those who may see all of them.

    The model has a many-to-many field `cohorts`; a row without cohorts is visible to every signed-in user where
    `public_when_empty` is set on the model (a released model), else to nobody by this way.
    """

    def visible_to(self, user: Any, role: str = Role.VIEWER) -> SpanningQuerySet:
        if user is None or not user.is_authenticated or not user.is_active:
            return self.none()
        from .models import Membership

        mine = Membership.objects.filter(user=user, role__in=Role.at_least(role)).values("cohort_id")
        through = self.model.cohorts.through
        column = self.model._meta.model_name
        # A row is hidden as soon as one of its cohorts is not mine.
        hidden = through.objects.exclude(cohort_id__in=mine).values(f"{column}_id")
        rows = self.exclude(pk__in=hidden)
        if not getattr(self.model, "public_when_empty", False):
            rows = rows.filter(pk__in=through.objects.values(f"{column}_id"))
        return rows


def role_in(user: User, cohort: Cohort) -> str | None:
    """The user's role in the cohort, or None."""
    if user is None or not user.is_authenticated or not user.is_active:
        return None
    from .models import Membership

    return Membership.objects.filter(user=user, cohort=cohort).values_list("role", flat=True).first()


def require(user: User, cohort: Cohort, role: str) -> None:
    """Raises NotVisible (404) for a stranger and RoleMissing (403, names the role) for a member whose role is too low."""
    held = role_in(user, cohort)
    if held is None:
        raise NotVisible("cohort")
    if held not in Role.at_least(role):
        raise RoleMissing(role, cohort.name, cohort.pk)
