"""A fitted "cox_summary" model: what it keeps, and how it becomes JSON (never a pickle) and comes back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ml.survival.config import CoxSummaryConfig
from ml.survival.folds import patient_hash
from ml.survival.ridge import RidgeFit
from ml.types import Risk

SCHEMA = "tissueboard-cox-summary-1"
ARRAYS = ("mean", "scale", "coefficients", "boot_coefficients", "boot_hazards")


@dataclass(frozen=True)
class RiskModel:
    """whole: the fit on all patients. by_fold: fold k's fit saw every patient but those of fold k.

    names: summaries that enter, in order; given: all summary names in the order that fit() saw. membership: hashed
    patient id -> fold. reference: out-of-fold risks of the reference cohort, in the order of the outcomes given to fit.
    cut: median of the out-of-fold scores, declared before any curve is drawn. metrics: n, events, c and its interval, ...
    """

    config: CoxSummaryConfig
    endpoint: str
    names: tuple[str, ...]
    given: tuple[str, ...]
    whole: RidgeFit
    by_fold: tuple[RidgeFit, ...]
    membership: dict[str, int]
    reference: tuple[Risk, ...]
    cut: float
    metrics: dict[str, Any] = field(default_factory=dict)

    def fold_of(self, patient: str) -> int | None:
        """The fold that held this patient out, None where the model never saw her."""
        return self.membership.get(patient_hash(patient, self.config.seed))

    @property
    def folds(self) -> dict[str, int]:
        """Fold index per reference patient."""
        return {r.patient: self.membership[patient_hash(r.patient, self.config.seed)] for r in self.reference}

    def group(self, risk: Risk) -> str:
        """ "high" or "low": above the reference's median score or not."""
        return "high" if risk.score > self.cut else "low"

    def to_json(self, with_reference: bool = True) -> str:
        """The whole model as JSON text. with_reference=False leaves out the rows that name patients."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "config": self.config.model_dump(mode="json"),
                "endpoint": self.endpoint,
                "names": self.names,
                "given": self.given,
                "whole": _fit_out(self.whole),
                "by_fold": [_fit_out(f) for f in self.by_fold],
                "membership": self.membership,
                "reference": [asdict(r) for r in self.reference] if with_reference else [],
                "cut": self.cut,
                "metrics": self.metrics,
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> RiskModel:
        """The model that to_json wrote; ValueError names a text that is not one."""
        raw = json.loads(text)
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            raise ValueError(f"This is not a risk model of the schema {SCHEMA}.")
        return cls(
            config=CoxSummaryConfig(**raw["config"]),
            endpoint=raw["endpoint"],
            names=tuple(raw["names"]),
            given=tuple(raw["given"]),
            whole=_fit_in(raw["whole"]),
            by_fold=tuple(_fit_in(f) for f in raw["by_fold"]),
            membership=raw["membership"],
            reference=tuple(Risk(**r) for r in raw["reference"]),
            cut=raw["cut"],
            metrics=raw["metrics"],
        )


def _fit_out(fit: RidgeFit) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(fit).items()}


def _fit_in(raw: dict[str, Any]) -> RidgeFit:
    return RidgeFit(**{k: np.array(v, dtype=np.float64) if k in ARRAYS else v for k, v in raw.items()})
