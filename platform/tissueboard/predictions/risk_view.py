"""What a page may say of a patient's risk, or the sentence why it says nothing (DESIGNS 5 and 9)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tissueboard.cohorts.models import Endpoint, Patient
from tissueboard.model_registry.models import ModelVersion
from tissueboard.model_registry.selectors import current_version, versions_for

from .models import Prediction
from .selectors import RISK_FAMILIES, risk_predictions

# Above this share of tiles unlike the training tiles, no risk is shown (the model abstains outside its range).
MOST_OUT_OF_RANGE = 0.5


@dataclass(frozen=True)
class RiskView:
    """An absolute risk with everything it stands on; probability None means that none is shown, why_none says why.

    probability, lower, upper: of the endpoint's event within horizon_days (0..1, 95% patient bootstrap). group: "higher" or
    "lower" than the median of the reference's out-of-fold scores (cut), declared beforehand. c_index: Harrell, out-of-fold.
    gain_over_stage: c_index - stage_c, None where stage is not known of every reference patient. permutation_p: None where the model was
    not held against shuffled outcomes. others: further risk models that give this patient a risk.
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
    others: tuple[ModelVersion, ...] = ()

    @property
    def gain_over_stage(self) -> float | None:
        return None if self.stage_c is None or self.c_index is None else self.c_index - self.stage_c

    @property
    def held_out(self) -> bool:
        """True where the patient belongs to the reference and her risk comes from the fit without her."""
        return self.prediction is not None and self.prediction.fold is not None


def risk_of_patient(user: Any, patient: Patient, version_id: int | None = None) -> RiskView:
    """The risk to show for a patient that the user may see: of the newest model that gives her one, or of the version asked for."""
    visible = versions_for(user)
    found = risk_predictions(user, patient)
    if not found:
        return RiskView(None, None, why_none=_why_none(user, patient))
    seen = set(visible.filter(pk__in=[p.version_id for p in found]).values_list("pk", flat=True))
    usable = [p for p in found if p.version_id in seen]
    if not usable:
        return RiskView(None, None, why_none="The risk comes from a model that stands on a cohort that you are not a member of.")
    chosen = next((p for p in usable if p.version_id == version_id), usable[0])
    others = tuple(p.version for p in usable if p is not chosen)
    return replace(_shown(chosen), others=others)


def _shown(found: Prediction) -> RiskView:
    """What may be said of one risk."""
    base = _reference_facts(found.version)
    if found.in_sample:
        return RiskView(found, found.version, **base, why_none="In-sample: the model's weights saw this patient, so no risk is shown.")
    share = found.facts["out_of_range_share"]
    if share is None:
        why = "The protein model does not know which tissue it was trained on, so no risk is shown."
        return RiskView(found, found.version, **base, why_none=why)
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
    version = next((v for v in (current_version(family, patient.cohort) for family in RISK_FAMILIES) if v is not None), None)
    if version is None:
        n = Endpoint.objects.visible_to(user).filter(patient__cohort=patient.cohort, name="OS").count()
        return f"No risk model was fitted on the cohort {patient.cohort.name} ({n} of its patients have an overall survival)."
    left_out = ", ".join(f"{why}: {count}" for why, count in version.metrics.get("left_out", {}).items() if count)
    return "No risk was computed for this patient" + (
        f" (left out of the reference: {left_out})." if left_out else "; run the case pipeline."
    )
