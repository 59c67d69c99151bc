"""Settings of the family "cox_summary" (ridge Cox on per-patient summaries of predicted proteins)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MONTHS_24 = 730.5  # 24 x 30.4375 days


class CoxSummaryConfig(BaseModel):
    """What a fit may vary. The same settings, data and seed give the same model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    penalizer: float = Field(0.1, gt=0, description="Ridge penalty as lifelines counts it: per patient, on standardised summaries.")
    markers: tuple[str, ...] = Field((), description="Names of the summaries that enter; empty takes all that are given.")
    least_scale: float = Field(
        0.0, ge=0, description="Smallest standard deviation that a summary is divided by, in its own unit; 0 takes what the data have."
    )
    non_negative: bool = Field(
        False, description="The one summary can only raise the risk (a score of risk): where it does not, it moves nothing."
    )
    folds: int = Field(5, ge=2, le=20, description="Patient-level folds for the out-of-fold risks.")
    horizon_days: float = Field(MONTHS_24, gt=0, description="Horizon of the absolute risk, days (730.5 = 24 months).")
    bootstrap: int = Field(200, ge=20, le=5000, description="Patient bootstrap refits behind every interval.")
    min_events: int = Field(5, ge=2, description="With fewer events no model is fitted.")
    seed: int = Field(0, ge=0, description="Seed of folds, bootstraps and permutations.")
