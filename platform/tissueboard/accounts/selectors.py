"""Reads of the access log, for the managers of a cohort."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from tissueboard.cohorts.access import Role, require

from .models import AccessLog


def access_log(user: Any, cohort: Any) -> QuerySet[AccessLog]:
    """Who looked at the patients of this cohort, newest first. Needs the role manager."""
    require(user, cohort, Role.MANAGER)
    return AccessLog.objects.filter(cohort_id=cohort.pk)
