"""Blocks 2 and 5: whether the slide lies inside the model's range, and the slide with one overlay."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from django.urls import reverse

from frontend.figures.palette import colour_stops
from frontend.templatetags.ui import short
from tissueboard.predictions.intervals import interval_facts

LOCK_BELOW = 0.10
# A stain of every nucleus is the best predicted channel and the least telling one: never the first that a board sees.
NOT_FIRST = {"DAPI"}
# Up to this share of out-of-range tissue a slide counts as inside: single folds and pen marks are on every slide.
INSIDE = 0.05


@dataclass(frozen=True)
class Marker:
    """One channel of the map. low, high: fixed colour limits of the reference, None where the version gives none.
    locked: cannot be chosen, `reason` says why. r2: within-slide R2 on held-out patients."""

    channel: int
    name: str
    r2: float | None
    n: int | None
    low: float | None
    high: float | None
    locked: bool
    reason: str


@dataclass(frozen=True)
class MapView:
    """What the viewer needs to draw one virtual map over its slide."""

    prediction: Any
    markers: list[Marker]
    first: Marker | None
    unit: str
    pitch_um: float
    resolution_um: float | None
    out_of_range_share: float | None
    # Choices of pitch in words, the map itself first; a finer one where it was made.
    pitches: list[str]
    # What the intervals under the pointer stand on, or why there are none.
    interval: str
    tile_um: float
    data: str
    stops: list[tuple[str, str]] = field(default_factory=colour_stops)

    @property
    def n_open(self) -> int:
        return sum(not m.locked for m in self.markers)

    @property
    def n_locked(self) -> int:
        return len(self.markers) - self.n_open


def map_view(patient_id: int, prediction: Any, dense: Any = None) -> MapView:
    """Describes a virtual map for the page; the picture itself is fetched per marker. dense: the map of overlapping tiles beside it."""
    from tissueboard.predictions.maps import card, limits

    facts, layers = prediction.facts, [p for p in (prediction, dense) if p is not None]
    cards, bounds = card(prediction.version), limits(prediction.version)
    markers = [_marker(i, name, cards.get(name), bounds.get(name)) for i, name in enumerate(facts["names"])]
    choice = [m for m in markers if not m.locked]
    first = max(choice, key=lambda m: (m.name not in NOT_FIRST, m.r2 or 0.0)) if choice else None
    return MapView(
        prediction=prediction,
        markers=markers,
        first=first,
        unit=facts.get("unit", ""),
        pitch_um=facts["pitch_um"],
        resolution_um=facts.get("effective_resolution_um"),
        out_of_range_share=facts.get("out_of_range_share"),
        pitches=[_pitch_text(p, prediction) for p in layers],
        interval=interval_statement(interval_facts(prediction)),
        tile_um=facts.get("tile_um", facts["pitch_um"]),
        data=json.dumps({"layers": [_layer(patient_id, p) for p in layers], "markers": [_for_script(m) for m in markers]}),
    )


def _layer(patient_id: int, prediction: Any) -> dict[str, Any]:
    """One pitch for the script: where its pictures lie, and its intervals {percent, patients, why, half (by channel)}."""
    told = interval_facts(prediction)
    half = [told["half_width"].get(name) for name in prediction.facts["names"]]
    interval = {"percent": told["percent"], "patients": told["patients"], "why": told["why_none"], "half": half}
    return overlay(patient_id, prediction) | {"pitch": short(prediction.facts["pitch_um"]), "interval": interval}


def _pitch_text(prediction: Any, virtual_map: Any) -> str:
    """A choice of pitch in words; a finer map of other regions than the map's says so."""
    text = f"{short(prediction.facts['pitch_um'])} µm, "
    if prediction is virtual_map:
        return text + "tiles side by side"
    same = prediction.inputs.get("regions", "") == virtual_map.inputs.get("regions", "")
    return text + "overlapping tiles averaged" + ("" if same else ", made with other regions")


def interval_statement(told: dict[str, Any]) -> str:
    """What the intervals of a map stand on, with the coverage that was measured; or why there are none."""
    if told["why_none"]:
        return f"No intervals: {told['why_none']}."
    shares = sorted(v for v in told["coverage"].values() if v is not None)
    text = f"Intervals of {told['percent']}% are calibrated on {told['patients']} held-out patients, each counting once"
    if not shares:
        return f"{text}; how much they cover could not be measured on so few."
    covered = f"{shares[0]:.0%} to {shares[-1]:.0%}"
    return f"{text}. Leaving out one patient at a time they covered {covered} of her tiles (lowest and highest marker)."


def overlay(patient_id: int, prediction: Any) -> dict[str, Any]:
    """Where a map lies on its slide (px0) and where its pictures are, for the script; "{channel}" stands for a channel's number."""
    facts = prediction.facts
    ids = {"patient_id": patient_id, "prediction_id": prediction.pk}
    picture = reverse("map_png", kwargs={**ids, "channel": 0})
    values = reverse("map_values", kwargs={**ids, "channel": 0})
    return {
        "prediction": prediction.pk,
        "origin": facts["origin_px0"],
        "step": facts["step_px0"],
        "rows": facts["rows"],
        "cols": facts["cols"],
        "unit": facts.get("unit", ""),
        "png": picture.replace("/0.png", "/{channel}.png"),
        "values": values.replace("/0.json", "/{channel}.json"),
        "range": reverse("map_range", kwargs=ids) if facts.get("out_of_range_share") is not None else None,
    }


def _marker(channel: int, name: str, row: dict[str, Any] | None, bounds: tuple[float, float] | None) -> Marker:
    r2 = row.get("r2") if row else None
    low, high = bounds or (None, None)
    reason = ""
    if row is None or r2 is None:
        reason = "no card: how well it is predicted is not known"
    elif row.get("locked") or r2 < LOCK_BELOW:
        reason = row.get("reason") or f"within-slide R² {r2:.2f} is below {LOCK_BELOW:.2f}"
    elif low is None or high is None or not high > low:
        reason = "no fixed colour limits in this version"
    return Marker(channel, name, r2, row.get("n") if row else None, low, high, bool(reason), reason)


def _for_script(marker: Marker) -> dict[str, Any]:
    return {
        "channel": marker.channel,
        "name": marker.name,
        "r2": marker.r2,
        "low": marker.low,
        "high": marker.high,
        "locked": marker.locked,
    }


def range_statement(share: float | None) -> tuple[str, str]:
    """(tone, sentence) about the share of tissue outside what the model was trained on."""
    from tissueboard.predictions.risk_view import MOST_OUT_OF_RANGE

    if share is None:
        return "warn", "Unknown: this map does not say how far the tissue is from what the model was trained on."
    text = f"{share:.0%}" if share >= 0.01 or share == 0 else "less than 1%"
    if share <= INSIDE:
        return "ok", f"Inside: {text} of the tissue lies outside what the model was trained on."
    if share <= MOST_OUT_OF_RANGE:
        return (
            "warn",
            f"Partly outside: {text} of the tissue does not resemble what the model was trained on. These cells are hatched in the viewer.",
        )
    return "bad", (
        f"Outside: {text} of the tissue does not resemble what the model was trained on. "
        "Do not read the map as this patient's proteins; no risk is shown."
    )
