"""Block 4: her absolute risk, in the context of the reference cohort's curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from frontend.figures.risk import RiskStrip, draw_strip
from frontend.figures.survival import DAYS_PER_MONTH, SurvivalFigure, survival_figure
from frontend.figures.svg_km import draw
from tissueboard.errors import TissueboardError
from tissueboard.predictions.risk_view import RiskView

from .explanation import told_markers
from .source import Source, source_of

WIDE, PHONE = 620.0, 340.0
MOST_TOLD = 5
# An interval wider than this, or a model whose own test does not exclude chance, is said beside the number, not in the small print.
WIDE_INTERVAL, CHANCE = 0.5, 0.05


@dataclass(frozen=True)
class RiskBlock:
    """view: the numbers. doubts: sentences on how little the number may be worth. km_wide, km_phone, strip: SVG, "" where
    nothing is drawn. no_curves: why there are no curves. raising, lowering: virtual markers that move the score most, strongest first."""

    view: RiskView
    horizon: str
    doubts: list[str]
    strip: str
    figure: SurvivalFigure | None
    km_wide: str
    km_phone: str
    no_curves: str
    source: Source | None
    raising: list[tuple[str, float]]
    lowering: list[tuple[str, float]]


def risk_block(user: Any, patient: Any, version_id: int | None = None) -> RiskBlock:
    """The risk of a patient that the user may see, with the two risk groups of its reference cohort. version_id: of a risk model."""
    from tissueboard.predictions.risk_view import risk_of_patient

    view = risk_of_patient(user, patient, version_id)
    horizon = f"{view.horizon_days / DAYS_PER_MONTH:.0f} months" if view.horizon_days else ""
    strip = ""
    if view.probability is not None and view.lower is not None and view.upper is not None:
        strip = draw_strip(RiskStrip(view.probability, view.lower, view.upper, horizon))
    figure, no_curves = _context(user, patient, view)
    told = told_markers(view)
    return RiskBlock(
        view=view,
        horizon=horizon,
        doubts=doubts(view),
        strip=strip,
        figure=figure,
        km_wide=draw(figure, WIDE) if figure else "",
        km_phone=draw(figure, PHONE) if figure else "",
        no_curves=no_curves,
        source=source_of(view.prediction, *_more(view)) if view.prediction is not None else None,
        raising=[(name, value) for name, value in told if value > 0][:MOST_TOLD],
        lowering=[(name, value) for name, value in reversed(told) if value < 0][:MOST_TOLD],
    )


def doubts(view: RiskView) -> list[str]:
    """What weakens a risk that is shown: a wide interval, or a model that chance explains as well."""
    if view.probability is None or view.lower is None or view.upper is None:
        return []
    said = []
    if view.upper - view.lower > WIDE_INTERVAL:
        said.append(
            f"The interval spans {view.upper - view.lower:.0%}: with {view.reference_n} reference patients the estimate says little."
        )
    if view.permutation_p is None:
        said.append("The model was not held against shuffled outcomes, so how often chance does as well is not known.")
    elif view.permutation_p >= CHANCE:
        said.append(f"In its own cohort the model is not distinguishable from chance (permutation p = {view.permutation_p:.2f}).")
    return said


def _context(user: Any, patient: Any, view: RiskView) -> tuple[SurvivalFigure | None, str]:
    """The reference cohort's curves by risk group; her group is marked only where her risk is shown."""
    from tissueboard.outcomes.services import survival

    if view.version is None:
        return None, ""
    try:
        result = survival(user, patient.cohort, view.endpoint, f"risk:{view.version.pk}")
    except TissueboardError as error:
        return None, error.sentence
    marked = f"{view.group} risk" if view.probability is not None else None
    figure = survival_figure(result, marked=marked, horizon_days=view.horizon_days)
    if not figure.drawn:
        return None, "The curves of the reference are not drawn: " + " ".join(result.notes)
    return figure, ""


def _more(view: RiskView) -> list[tuple[str, str]]:
    facts = view.prediction.facts if view.prediction is not None else {}
    told = [("Reference", str(facts.get("reference", ""))), ("Protein map by", str(facts.get("map_version", "")))]
    if view.cut is not None:
        told.append(("Cut between the groups", f"{view.cut:.3f} on the score, declared beforehand"))
    if view.score is not None:
        told.append(("Score", f"{view.score:.3f}"))
    return [(name, value) for name, value in told if value]
