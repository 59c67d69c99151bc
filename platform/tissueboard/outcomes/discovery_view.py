"""A discovery as pages and REST show it: the honest estimate first, and small groups hidden from viewers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tissueboard.accounts.audit import record
from tissueboard.cohorts.access import Role, role_in

from .models import Discovery
from .selectors import get_discovery

HIDDEN = ("responders", "events", "prevalence", "risk_ratio", "auroc", "observed_by_expected", "chosen_in_folds", "thresholds")


@dataclass(frozen=True)
class Shown:
    """result: what this user may see of it, rows with `suppressed`. events: None where it would give a hidden group away."""

    discovery: Discovery
    result: dict[str, Any]
    events: int | None
    notes: tuple[str, ...]
    may_download: bool

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.result["biomarkers" if self.discovery.kind == Discovery.Kind.BIOMARKERS else "groups"]

    @property
    def below_chance(self) -> bool:
        """Whether the honest estimate gives no reason to believe in it."""
        if self.discovery.kind == Discovery.Kind.BIOMARKERS:
            return self.result["nested"]["p"] > 0.05
        return self.result["out_of_fold"]["p"] > 0.05


def read_discovery(user: Any, discovery_id: int) -> Shown:
    """One discovery; reading it is logged. NotVisible."""
    found = get_discovery(user, discovery_id)
    record(user, "read discovery", found, cohort_id=found.cohort_id)
    return shown_to(user, found)


def shown_to(user: Any, found: Discovery) -> Shown:
    """What a member may see: for viewers groups of fewer patients than the cohort's limit show their number only."""
    role, limit = role_in(user, found.cohort), found.cohort.min_group_size
    may = role in Role.at_least(Role.CONTRIBUTOR)
    below = 0 if may else limit
    name = "biomarkers" if found.kind == Discovery.Kind.BIOMARKERS else "groups"
    rows = [_row(row, found.n, below) for row in found.result[name]]
    hidden = sum(row["suppressed"] for row in rows)
    few = min(found.events, found.n - found.events) < below
    # A total with a hidden group in it would give the group away by subtraction.
    events = None if few or (hidden and name == "groups") else found.events
    notes = list(found.result["notes"])
    if found.result["in_sample"]:
        n = found.result["in_sample"]
        seen = f"{n} of the {found.n} patients {'is' if n == 1 else 'are'} in-sample: the weights of {found.version} saw these images"
        notes.insert(0, f"{seen}, and their tokens say nothing of how it does on new patients.")
    if found.version.pretraining_overlap == "unknown":
        notes.append(f"Whom {found.version} saw is not known, so it cannot be called external to these patients.")
    if hidden:
        what = ("cluster" if name == "biomarkers" else "group") + ("" if hidden == 1 else "s")
        notes.append(f"{hidden} {what} with fewer than {limit} patients {'is' if hidden == 1 else 'are'} not shown to viewers.")
    total = "responders" if name == "biomarkers" else "events"
    return Shown(found, {**found.result, name: rows, total: events, "notes": notes}, events, tuple(notes), may)


def _row(row: dict[str, Any], n: int, below: int) -> dict[str, Any]:
    """A row that this user may see whole, or with its figures hidden. A cluster that all but a few patients have points to those few."""
    few = row["patients"] < below or (row.get("prevalence") is not None and 0 < n - row["patients"] < below)
    return {**row, **({name: None for name in HIDDEN if name in row} if few else {}), "suppressed": bool(few)}
