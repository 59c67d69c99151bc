"""A fitted MICA: one network per fold with its intervals, whom each fold saw, and what it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml.mica.config import MicaFitConfig
from ml.mica.data import MicaInputs
from ml.mica.labels import Bins
from ml.mica.model import MicaNet
from ml.training.splits import fold_without


@dataclass(frozen=True)
class MicaFold:
    """One fold's network (eval mode, on the CPU), the intervals of its outputs in days, and facts of its training."""

    model: MicaNet
    bins: Bins
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class MicaWeights:
    """All folds. membership[k]: hashed ids of the patients that fold k was fitted on (empty before it is saved: hashing needs a salt).

    provenance: what `ml.mica.checkpoint.save_fit` wrote; label: e.g. "trained on simulated tissue", shown wherever a number of it shows.
    """

    config: MicaFitConfig
    inputs: MicaInputs
    endpoint: str
    folds: tuple[MicaFold, ...]
    membership: tuple[tuple[str, ...], ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def markers(self) -> tuple[str, ...]:
        """Names of the P tokens, in order; none for H&E alone."""
        return self.inputs.markers

    @property
    def label(self) -> str:
        """Where the weights come from, in the words of the one who saved them."""
        return str(self.provenance.get("label", ""))

    @property
    def cut(self) -> float | None:
        """Median of the reference patients' out-of-fold risks, declared before any curve is drawn; None for weights of others."""
        return self.provenance.get("metrics", {}).get("cut")

    def fold_for(self, patient_hash: str) -> int | None:
        """The fold that never saw this patient; None where no fold did (then all folds are averaged).

        patient_hash: `ml.training.splits.patient_hash` with the salt that the weights were saved with. Raises SplitError("in_sample") where
        every fold saw her.
        """
        return fold_without(patient_hash, self.membership)
