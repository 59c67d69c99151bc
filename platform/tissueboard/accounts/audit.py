"""Writes the access log. Selectors and services call `record`; views hold no rules of their own."""

from __future__ import annotations

from typing import Any

from tissueboard.errors import NotVisible, RoleMissing, TissueboardError

from .context import current
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


def record_refusal(user: Any, error: TissueboardError) -> None:
    """One row when a signed-in person asked for what she may not see or do; other refusals are mistakes, not access.

    The cohort is known only where she is a member of it: for a stranger even its existence is private.
    """
    if not isinstance(error, NotVisible | RoleMissing) or user is None or not user.is_authenticated:
        return
    context = current.get()
    AccessLog.objects.create(
        user_id=user.pk,
        username=user.get_username(),
        verb=f"refused {error.code}"[:40],
        object_type="address",
        object_id=context.path[:64],
        cohort_id=getattr(error, "cohort_id", None),
        address=context.address,
        path=context.path,
        result=AccessLog.Result.REFUSED,
    )
