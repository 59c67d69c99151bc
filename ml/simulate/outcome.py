"""Outcome: survival whose hazard depends on named niches. Sees a summary of the tissue, never the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ml.simulate.clinical import STAGES, Clinical
from ml.simulate.config import SimulatorConfig

HAZARD_NICHES: tuple[str, ...] = ("tls", "necrosis", "invasive_margin")


@dataclass(frozen=True)
class Outcome:
    """Days from surgery.

    time_days, event: overall survival, event = death seen. linear_predictor: true log hazard ratio against the
    reference patient. true_time_days: death without censoring. progression_days: day of progression seen, or None.
    pfs_days, pfs_event: progression or death, whichever first.
    """

    time_days: float
    event: bool
    linear_predictor: float
    true_time_days: float
    progression_days: float | None

    @property
    def pfs_days(self) -> float:
        """Time to progression or death or the end of follow-up, days."""
        return self.time_days if self.progression_days is None else self.progression_days

    @property
    def pfs_event(self) -> bool:
        """True where progression or death was seen."""
        return self.event or self.progression_days is not None


def linear_predictor(tissue_summary: Mapping[str, float], clinical: Clinical, config: SimulatorConfig) -> float:
    """True log hazard ratio: linear in the fractions of TLS, necrosis and invasive margin, in age and in stage."""
    h = config.hazard
    return float(
        h.tls * (tissue_summary["tls"] - h.reference_tls)
        + h.necrosis * (tissue_summary["necrosis"] - h.reference_necrosis)
        + h.invasive_margin * (tissue_summary["invasive_margin"] - h.reference_margin)
        + h.age_per_decade * (clinical.age - 66) / 10
        + h.stage * (STAGES.index(clinical.stage) - 1)
    )


def simulate_outcome(tissue_summary: Mapping[str, float], clinical: Clinical, rng: np.random.Generator, config: SimulatorConfig) -> Outcome:
    """Weibull proportional hazards, S(t) = exp(-log 2 (t/median)^shape exp(lp)), with independent censoring.

    tissue_summary: niche fractions by name (see assay.niche_fractions); KeyError where tls, necrosis or
    invasive_margin is missing. Censoring: end of follow-up (staggered over the last year) or dropout.
    """
    h = config.hazard
    lp = linear_predictor(tissue_summary, clinical, config)
    death = h.baseline_median_days * (rng.exponential() / (np.log(2) * np.exp(lp))) ** (1 / h.weibull_shape)
    death = max(float(death), 1.0)
    dropout = rng.exponential(365.25 / h.dropout_per_year) if h.dropout_per_year else np.inf
    end = h.administrative_days - rng.uniform(0, 365.25)
    censored = max(float(min(dropout, end)), 1.0)
    progresses, share = rng.random() < 0.75, rng.beta(3, 2)
    time = float(round(min(death, censored)))
    progression = float(round(death * share))
    seen = progresses and 1 <= progression < time
    return Outcome(max(time, 1.0), bool(death <= censored), lp, death, progression if seen else None)
