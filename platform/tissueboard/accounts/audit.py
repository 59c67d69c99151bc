"""Writes the access log. Selectors and services call `record`; views hold no rules of their own."""

from __future__ import annotations

from typing import Any

from .middleware import current
from .models import AccessLog


def record(
    user: Any, verb: str, obj: Any, *, cohort_id: int | None, patient_code: str = "", result: str = AccessLog.Result.ALLOWED
) -> None:
    """One append-only row: who (user, or None for the house itself), verb ("read case", "import slide"), what, whose."""
    context = current.get()
    AccessLog.objects.create(
        user_id=getattr(user, "pk", None),
        username=user.get_username() if user is not None else "(tissueboard)",
        verb=verb,
        object_type=obj._meta.model_name,
        object_id=str(obj.pk),
        cohort_id=cohort_id,
        patient_code=patient_code,
        address=context.address,
        path=context.path,
        result=result,
    )
