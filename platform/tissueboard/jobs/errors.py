"""What a job may say to people, and how it is interrupted."""

from __future__ import annotations

from enum import StrEnum

from tissueboard.errors import TissueboardError


class JobCode(StrEnum):
    DEPENDENCY_FAILED = "DEPENDENCY_FAILED"
    UNEXPECTED = "UNEXPECTED"
    WORKER_DIED = "WORKER_DIED"
    TIME_LIMIT = "TIME_LIMIT"
    EXPIRED = "EXPIRED"
    UNKNOWN_KIND = "UNKNOWN_KIND"
    NOT_CANCELLABLE = "NOT_CANCELLABLE"
    NOT_RETRYABLE = "NOT_RETRYABLE"


class JobRefused(TissueboardError):
    """The work said no. The only exception of a handler whose text reaches a user: sentence and hint end with a full stop."""

    status = 409


class Cancelled(BaseException):
    """Raised inside a handler by `ctx.progress` or `ctx.check` when somebody cancelled the job; not for handlers to catch."""


class Superseded(BaseException):
    """Raised inside a handler when the job went on without it (it was silent too long); nothing it does counts any more."""


UNEXPECTED_SENTENCE = "The work stopped with an unexpected error."
UNEXPECTED_HINT = "Try again; if it stops again, give the job's number to the people who run this server."
