"""Folds by patient for time-to-event data: the one split of the house, with events shared out among the folds."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ml.training.splits import patient_folds


def patient_hash(patient: str, seed: int) -> str:
    """32 hex digits that stand for a patient inside a model file (membership can be checked, the id is not in the file)."""
    return blake2b(f"{seed}:{patient}".encode(), digest_size=16).hexdigest()


def assign_folds(patients: Sequence[str], event: NDArray[np.bool_], folds: int, seed: int) -> NDArray[np.intp]:
    """(n,) fold of each patient, 0..folds-1, from `ml.training.splits.patient_folds`; each fold gets its share of the events."""
    strata = {p: "0 event" if e else "1 censored" for p, e in zip(patients, event)}
    fold = patient_folds(patients, folds, seed, strata)
    return np.array([fold[p] for p in patients], dtype=np.intp)
