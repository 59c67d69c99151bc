"""A fitted HEX: one model per fold, whom each fold saw, and the unit of its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml.hex.config import HexFitConfig
from ml.hex.data import LabelScale
from ml.hex.model import HexModel
from ml.hex.ranges import FeatureRange
from ml.training.splits import fold_without


@dataclass(frozen=True)
class HexFold:
    """One fold's model (eval mode), the range of tiles that it was fitted on (None: not known, as of released weights), facts of its
    training."""

    model: HexModel
    range: FeatureRange | None
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class HexWeights:
    """All folds. membership[k]: hashed ids of the patients that fold k was fitted on (empty before it is saved: hashing needs a salt).

    provenance: what `ml.hex.checkpoint.save` wrote; label: e.g. "trained on simulated tissue", shown wherever a number of this model shows.
    """

    config: HexFitConfig
    scale: LabelScale
    folds: tuple[HexFold, ...]
    membership: tuple[tuple[str, ...], ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def markers(self) -> tuple[str, ...]:
        """Names of the P predicted proteins."""
        return self.config.markers

    @property
    def label(self) -> str:
        """Where the weights come from, in the words of the one who saved them."""
        return str(self.provenance.get("label", ""))

    def fold_for(self, patient_hash: str) -> int | None:
        """The fold that never saw this patient; None where no fold did (then all folds are averaged).

        patient_hash: `ml.training.splits.patient_hash` with the salt that the weights were saved with. Raises SplitError("in_sample") where
        every fold saw her.
        """
        return fold_without(patient_hash, self.membership)
