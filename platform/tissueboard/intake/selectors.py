"""Reads of imports. They name files, and a file's name can identify a patient, so they take the role contributor."""

from __future__ import annotations

from typing import Any

from tissueboard.cohorts.access import Role, ScopedQuerySet, require
from tissueboard.cohorts.models import Cohort
from tissueboard.errors import NotVisible

from .models import Import


def imports_for(user: Any, cohort: Cohort | None = None) -> ScopedQuerySet:
    """Imports into the cohorts where the user is contributor, newest first. With a cohort: RoleMissing for a mere viewer of it."""
    if cohort is not None:
        require(user, cohort, Role.CONTRIBUTOR)
    imports = Import.objects.visible_to(user, Role.CONTRIBUTOR).select_related("cohort", "created_by")
    return imports if cohort is None else imports.filter(cohort=cohort)


def get_import(user: Any, import_id: int) -> Import:
    """One import. NotVisible for a stranger, RoleMissing for a viewer."""
    found = Import.objects.visible_to(user).select_related("cohort", "created_by").filter(pk=import_id).first()
    if found is None:
        raise NotVisible("import")
    require(user, found.cohort, Role.CONTRIBUTOR)
    return found
