"""The state machine. `advance` is the only place that writes `Job.state`: an UPDATE that compares before it sets."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.utils import timezone

from .models import Job, JobTransition, State

NEXT: dict[str, frozenset[str]] = {
    State.CREATED: frozenset((State.QUEUED, State.FAILED, State.CANCELLED, State.EXPIRED)),
    State.QUEUED: frozenset((State.RUNNING, State.CANCELLED, State.EXPIRED)),
    State.RUNNING: frozenset((State.SAVING, State.FAILED, State.CRASHED, State.CANCELLED, State.QUEUED)),
    State.SAVING: frozenset((State.SUCCEEDED, State.FAILED, State.CRASHED, State.QUEUED)),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset((State.CREATED,)),
    State.CRASHED: frozenset((State.CREATED, State.QUEUED)),
    State.CANCELLED: frozenset((State.CREATED,)),
    State.EXPIRED: frozenset((State.CREATED,)),
}
_ENDS = (State.SUCCEEDED, State.FAILED, State.CRASHED, State.CANCELLED, State.EXPIRED)


def advance(job_id: int, from_state: str, to_state: str, attempt: int, **facts: Any) -> bool:
    """Moves a job from one state to another if it still is in that state and attempt; adds the line of its timeline.

    facts: columns of Job to write along (worker, error_code, ...), and `note` for the timeline. Leaving running or an end for
    created or queued begins a new attempt. False: somebody else was first, and nothing was written. ValueError: there is no such arrow.
    """
    if to_state not in NEXT[State(from_state)]:
        raise ValueError(f"A job does not go from {from_state} to {to_state}.")
    note = facts.pop("note", "")
    now = timezone.now()
    changes: dict[str, Any] = {"state": to_state, **_columns(from_state, to_state, attempt, now), **facts}
    with transaction.atomic():
        if not Job.objects.filter(pk=job_id, state=from_state, attempt=attempt).update(**changes):
            return False
        told = {k: facts[k] for k in ("worker", "error_code", "error_sentence") if facts.get(k)} | ({"note": note} if note else {})
        JobTransition.objects.create(
            job_id=job_id, from_state=from_state, to_state=to_state, attempt=changes.get("attempt", attempt), at=now, facts=told
        )
        if to_state in _ENDS:
            # After the commit: of two needs that end at once, the later one then sees both.
            from .scheduling import settle_dependents

            transaction.on_commit(partial(settle_dependents, job_id))
    return True


def _columns(from_state: str, to_state: str, attempt: int, now: Any) -> dict[str, Any]:
    """What a change of state does to the other columns."""
    columns: dict[str, Any] = {}
    if to_state in (State.CREATED, State.QUEUED) and from_state not in (State.CREATED, State.QUEUED):
        columns |= {"attempt": attempt + 1, "started_at": None, "finished_at": None, "heartbeat_at": None, "worker": ""}
        columns |= {"error_code": "", "error_sentence": "", "error_hint": "", "traceback": "", "cancel_requested": False}
        columns |= {"progress": 0.0, "progress_text": ""}
    if to_state == State.QUEUED:
        columns |= {"queued_at": now, "dispatched_at": None}
    elif to_state == State.RUNNING:
        columns |= {"started_at": now, "heartbeat_at": now}
    elif to_state == State.SUCCEEDED:
        columns |= {"finished_at": now, "progress": 1.0}
    elif to_state in _ENDS:
        columns |= {"finished_at": now}
    return columns
