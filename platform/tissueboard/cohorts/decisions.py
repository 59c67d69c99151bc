"""What a tumour board decided about a case: written as events of the kind decision, read back as one entry per meeting.

A decision has up to four parts (what was decided, who disagreed and why, who sees to it, the next test). Each part is one
event, so that it has the life of every other event; the parts of one entry share their source, which names who wrote it and when.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db import transaction
from django.utils import timezone

from tissueboard.accounts.audit import record
from tissueboard.errors import Code, TissueboardError

from .access import Role, require
from .models import Event, EventKind, EventState, Patient

PARTS = ("decision", "dissent", "owner", "next test")
MAX_CHARS = Event._meta.get_field("value").max_length


@dataclass(frozen=True)
class Decision:
    """One entry of the board. day: when it was written. by: who wrote it, and when, in words."""

    decision: str
    dissent: str
    owner: str
    next_test: str
    day: date | None
    by: str


@transaction.atomic
def record_decision(user: Any, patient: Patient, *, decision: str, dissent: str = "", owner: str = "", next_test: str = "") -> Decision:
    """Adds one entry. Needs contributor. A decision and its owner must be given; each part holds at most 120 characters.

    Raises NotVisible, RoleMissing, TissueboardError (BAD_REQUEST, `where` names the part).
    """
    require(user, patient.cohort, Role.CONTRIBUTOR)
    texts = {name: _line(text) for name, text in zip(PARTS, (decision, dissent, owner, next_test))}
    for name in ("decision", "owner"):
        if not texts[name]:
            raise TissueboardError(
                Code.BAD_REQUEST, f"The {name} is missing.", "A decision takes what was decided and who sees to it.", where=name
            )
    for name, text in texts.items():
        if len(text) > MAX_CHARS:
            sentence = f"The {name} has {len(text)} characters; it may have {MAX_CHARS}."
            raise TissueboardError(Code.BAD_REQUEST, sentence, "Say it in one sentence.", where=name)
    now = timezone.now()
    source = f"tumour board, entered by {user.get_username()[:40]} {now:%Y-%m-%d %H:%M:%S.%f} UTC"
    events = [
        Event(patient=patient, kind=EventKind.DECISION, name=name, value=text, state=EventState.DONE, date=now.date(), source=source)
        for name, text in texts.items()
        if text
    ]
    Event.objects.bulk_create(events)
    record(user, "record decision", events[0], cohort_id=patient.cohort_id, patient_code=patient.code)
    return _entry(events)


def _line(text: str) -> str:
    """One line of text without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def decisions_in(events: list[Event]) -> list[Decision]:
    """The entries among a patient's events, newest first."""
    entries: dict[str, list[Event]] = {}
    for event in events:
        if event.kind == EventKind.DECISION:
            entries.setdefault(event.source, []).append(event)
    found = [_entry(parts) for parts in entries.values()]
    return sorted(found, key=lambda entry: (entry.day or date.min, entry.by), reverse=True)


def _entry(parts: list[Event]) -> Decision:
    texts = {part.name: part.value for part in parts}
    if not set(texts) & set(PARTS):
        # An imported decision is one event whose name says what was decided.
        texts = {"decision": "; ".join(f"{p.name} {p.value}".strip() for p in parts)}
    return Decision(
        decision=texts.get("decision", ""),
        dissent=texts.get("dissent", ""),
        owner=texts.get("owner", ""),
        next_test=texts.get("next test", ""),
        day=parts[0].date,
        by=parts[0].source.split(".")[0],
    )
