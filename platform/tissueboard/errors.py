"""What can go wrong, as part of the product: a code, a sentence, where, what to do."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Codes of refusals that no single app owns; apps add their own in their errors.py."""

    NOT_FOUND = "NOT_FOUND"
    ROLE_MISSING = "ROLE_MISSING"
    BAD_REQUEST = "BAD_REQUEST"
    CONFLICT = "CONFLICT"


class TissueboardError(Exception):
    """A refusal that may be shown to the person who asked. sentence and hint end with a full stop; status is HTTP's."""

    status = 400

    def __init__(self, code: str, sentence: str, hint: str = "", *, where: str = "", status: int | None = None):
        super().__init__(sentence)
        self.code, self.sentence, self.hint, self.where = str(code), sentence, hint, where
        if status is not None:
            self.status = status

    def as_dict(self) -> dict[str, str]:
        return {"code": self.code, "sentence": self.sentence, "where": self.where, "hint": self.hint}


class NotVisible(TissueboardError):
    """There is no such thing, or this user may not know of it (the answer is the same on purpose)."""

    status = 404

    def __init__(self, what: str = "page"):
        super().__init__(
            Code.NOT_FOUND,
            f"There is no such {what}, or it belongs to a cohort that you are not a member of.",
            "Check the address, or ask the cohort's manager for access.",
        )


class RoleMissing(TissueboardError):
    """The user is a member, but the role is too low; the sentence names the role that it takes."""

    status = 403

    def __init__(self, role: str, cohort: str, cohort_id: int | None = None):
        self.cohort_id = cohort_id
        super().__init__(
            Code.ROLE_MISSING, f"This takes the role {role} in the cohort {cohort}.", f"Ask a manager of {cohort} for the role {role}."
        )
