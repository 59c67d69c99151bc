"""The declared chains: which steps make a case. Each step is a job kind of an app, with the family whose version it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """kind: a job kind. family: whose current version it takes. needs: kinds of this pipeline that come first.

    per: "slide" or "patient". of_cohort: the version must have been fitted on the patient's own cohort.
    """

    kind: str
    title: str
    family: str
    needs: tuple[str, ...] = ()
    per: str = "slide"
    of_cohort: bool = False


PIPELINES: dict[str, tuple[Step, ...]] = {
    "case": (
        Step("predictions.virtual_map", "Features and virtual protein map", "hex"),
        Step("retrieval.niches", "Niches for similar cases", "niche", needs=("predictions.virtual_map",)),
        Step("predictions.risk", "Risk", "cox_summary", needs=("predictions.virtual_map",), per="patient", of_cohort=True),
    )
}
