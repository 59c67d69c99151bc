"""Where a risk comes from: the map of contributions over the slide, and the markers that raise and lower it most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from frontend.figures.palette import SIGNED_COLOURS, colour_stops
from frontend.templatetags.ui import short

from .viewer import Marker, overlay


@dataclass(frozen=True)
class ExplanationView:
    """The overlay of contributions of the risk that is shown. high: the colour limit on both sides of zero, fixed by the reference."""

    prediction: Any
    title: str
    high: float
    data: dict[str, Any]
    stops: list[tuple[str, str]] = field(default_factory=lambda: colour_stops(name=SIGNED_COLOURS))


def explanation_view(user: Any, patient_id: int, slide: Any, risk: Any) -> ExplanationView | None:
    """The contributions to a risk (RiskView) on a slide; None where no risk is shown, the model explains none, or it read another slide."""
    from tissueboard.predictions.selectors import explanation_of

    if slide is None or risk.probability is None or risk.version is None:
        return None
    found = explanation_of(user, slide, risk.version)
    if found is None or found.in_sample:
        return None
    marker = contribution(found)
    if marker.locked or marker.high is None:
        return None
    layer = overlay(patient_id, found) | {
        "pitch": short(found.facts["pitch_um"]),
        "name": marker.name,
        "low": marker.low,
        "high": marker.high,
        "interval": {"percent": None, "patients": 0, "why": "a contribution has none", "half": [None]},
    }
    return ExplanationView(found, f"Contribution to the risk ({found.version})", marker.high, layer)


def contribution(prediction: Any) -> Marker:
    """The one channel of an explanation: limits on both sides of zero from the reference patients; without them it is not drawn."""
    limit = prediction.facts.get("limit")
    known = limit is not None and limit > 0
    name = prediction.facts["names"][0]
    return Marker(0, name, None, None, -limit if known else None, limit if known else None, not known, "" if known else "no fixed limits")


def told_markers(risk: Any) -> list[tuple[str, float]]:
    """(marker, contribution) of the markers that raise the score most and lower it most, in that order; empty where none is shown."""
    if risk.prediction is None or risk.probability is None:
        return []
    return [(name, float(value)) for name, value in risk.prediction.facts.get("explanation", {}).get("markers", [])]
