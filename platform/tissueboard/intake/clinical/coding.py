"""Which values of a status column mean that the event happened. Tables differ (1 = event, 1 = censored), so this is asked, not guessed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from tissueboard.intake.errors import IntakeCode, IntakeRefused

from .table import missing, plain

# Words that mean one thing in every public table that uses them (cBioPortal, GDC, TCGA-CDR, SEER).
HAPPENED = {
    "deceased", "dead", "died", "death", "dead with tumor", "dead of disease", "recurred", "progressed", "recurred/progressed",
    "progression", "relapsed", "event", "true", "yes",
}  # fmt: skip
NOT_SEEN = {
    "living", "alive", "censored", "diseasefree", "disease free", "disease-free", "alive or dead tumor free", "no event",
    "progression free", "progression-free", "no progression", "false", "no",
}  # fmt: skip
NUMBERED = re.compile(r"([01])\s*:\s*(.+)")
MAX_PREVIEW = 6


@dataclass(frozen=True)
class Coding:
    """How a status column is read. kind: event (values are the event), censored (values are censored) or words (DECEASED, 0:LIVING)."""

    kind: str
    values: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Coding:
        """ "event=1", "event=2|3", "censored=1" or "words". IntakeRefused for anything else."""
        kind, _, values = text.strip().partition("=")
        chosen = frozenset(plain(v) for v in values.split("|") if v.strip())
        if kind == "words" and not values:
            return cls("words")
        if kind in ("event", "censored") and chosen:
            return cls(kind, chosen)
        raise IntakeRefused(
            IntakeCode.BAD_MAPPING,
            f"{text!r} does not say which values are the event.",
            'Write event=1 (1 means it happened), censored=1 (1 means it did not), several as event=1|2, or words for "DECEASED".',
        )

    def __str__(self) -> str:
        return self.kind if self.kind == "words" else f"{self.kind}={'|'.join(sorted(self.values))}"

    def read(self, cell: str) -> bool | None:
        """True = the event happened. None: the value has no meaning under this coding (a missing cell too)."""
        if missing(cell):
            return None
        if self.kind == "words":
            return meaning(cell)
        return (plain(cell) in self.values) == (self.kind == "event")


def meaning(cell: str) -> bool | None:
    """What a word says by itself; None for numbers, unknown words, and a number that contradicts its word ("0:DECEASED")."""
    text = cell.strip().casefold()
    numbered = NUMBERED.fullmatch(text)
    word = numbered.group(2).strip() if numbered else text
    happened = True if word in HAPPENED else False if word in NOT_SEEN else None
    if numbered and happened is not None and happened != (numbered.group(1) == "1"):
        return None
    return happened


def unambiguous(cells: list[str]) -> Coding | None:
    """The coding `words`, where every value present is a word that means one thing; otherwise None: a person has to say."""
    present = [cell for cell in cells if not missing(cell)]
    return Coding("words") if present and all(meaning(cell) is not None for cell in present) else None


def preview(cells: list[str]) -> dict[str, dict[str, int]]:
    """For a person to choose from: how often each value occurs, and how many events each coding would give."""
    counts = Counter(plain(cell) for cell in cells if not missing(cell))
    choices: dict[str, int] = {}
    if len(counts) <= MAX_PREVIEW:
        for value, n in counts.items():
            choices[f"event={value}"] = n
            if len(counts) > 2:
                choices[f"censored={value}"] = counts.total() - n
    if unambiguous(cells):
        choices["words"] = sum(meaning(cell) is True for cell in cells)
    return {"values": dict(counts.most_common(20)), "events_if": choices}
