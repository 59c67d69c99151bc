"""What neighbours' outcomes may claim (DESIGNS 9)."""

from __future__ import annotations

from typing import Any


def outcome_value_note(user: Any, cohort: Any) -> str:
    """Why no outcome is predicted from neighbours here (DESIGNS 9)."""
    return (
        "No outcome value shown in this cohort: a curve of the neighbours takes 30 of them, 10 events, and a gain over age and stage "
        "that was shown by leaving each patient out. Treatments and outcomes below are single histories, not a prediction."
    )
