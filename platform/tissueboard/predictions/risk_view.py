"""What a page may say of a patient's risk, or the sentence why it says nothing (DESIGNS 5 and 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tissueboard.cohorts.models import Endpoint, Patient
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.selectors import current_version, versions_for

from .models import Prediction
from .selectors import risk_prediction

# Above this share of tiles unlike the training tiles, no risk is shown (the model abstains outside its range).
MOST_OUT_OF_RANGE = 0.5


@dataclass(frozen=True)
class RiskView:
    """An absolute risk with everything it stands on; probability None means that none is shown, why_none says why.

    probability, lower, upper: of the endpoint's event within horizon_days (0..1, 95% patient bootstrap). group: "higher" or
    "lower" than the median of the reference's out-of-fold scores (cut), declared beforehand. c_index: Harrell, out-of-fold.
    gain_over_stage: c_index - stage_c, None where stage is not known of every reference patient.
    """

    prediction: Prediction | None
    version: ModelVersion | None
    endpoint: str = "OS"
    probability: float | None = None
    lower: float | None = None
    upper: float | None = None
    horizon_days: float | None = None
    score: float | None = None
    group: str = ""
    cut: float | None = None
    reference_n: int | None = None
    reference_events: int | None = None
    c_index: float | None = None
    c_lower: float | None = None
    c_upper: float | None = None
    permutation_p: float | None = None
    stage_c: float | None = None
    why_none: str = ""

    @property
    def gain_over_stage(self) -> float | None:
        return None if self.stage_c is None or self.c_index is None else self.c_index - self.stage_c

    @property
    def held_out(self) -> bool:
        """True where the patient belongs to the reference and her risk comes from the fit without her."""
        return self.prediction is not None and self.prediction.fold is not None


def risk_of_patient(user: Any, patient: Patient) -> RiskView:
    """The risk to show for a patient that the user may see."""
    found = risk_prediction(user, patient)
    if found is None:
        return RiskView(None, None, why_none=_why_none(user, patient))
    if not versions_for(user).filter(pk=found.version_id).exists():
        return RiskView(None, None, why_none="The risk comes from a model that stands on a cohort that you are not a member of.")
    base = _reference_facts(found.version)
    if found.in_sample:
        return RiskView(found, found.version, **base, why_none="In-sample: the model's weights saw this patient, so no risk is shown.")
    share = found.facts["out_of_range_share"]
    if share > MOST_OUT_OF_RANGE:
        why = f"{share:.0%} of the tissue is unlike what the protein model was trained on, so no risk is shown."
        return RiskView(found, found.version, **base, why_none=why)
    facts = found.facts
    shown = {name: facts[name] for name in ("probability", "lower", "upper", "horizon_days", "score", "group", "endpoint")}
    return RiskView(found, found.version, **{**base, **shown})


def _reference_facts(version: ModelVersion) -> dict[str, Any]:
    m = version.metrics
    return {
        "endpoint": m["endpoint"],
        "horizon_days": m["horizon_days"],
        "cut": m["cut"],
        "reference_n": m["n"],
        "reference_events": m["events"],
        "c_index": m["c"],
        "c_lower": m["c_lower"],
        "c_upper": m["c_upper"],
        "permutation_p": m["permutation_p"],
        "stage_c": m["stage_c"],
    }


def _why_none(user: Any, patient: Patient) -> str:
    version = current_version("cox_summary", patient.cohort)
    if version is None:
        n = Endpoint.objects.visible_to(user).filter(patient__cohort=patient.cohort, name="OS").count()
        return f"No risk model was fitted on the cohort {patient.cohort.name} ({n} of its patients have an overall survival)."
    left_out = ", ".join(f"{why}: {count}" for why, count in version.metrics.get("left_out", {}).items() if count)
    return "No risk was computed for this patient" + (
        f" (left out of the reference: {left_out})." if left_out else "; run the case pipeline."
    )
