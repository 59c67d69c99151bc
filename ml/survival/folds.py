"""Folds by patient: decided by a hash of the patient's id, so that neither row order nor a new run moves anyone."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def patient_hash(patient: str, seed: int) -> str:
    """32 hex digits that stand for a patient inside a model file (membership can be checked, the id is not in the file)."""
    return blake2b(f"{seed}:{patient}".encode(), digest_size=16).hexdigest()


def assign_folds(patients: Sequence[str], event: NDArray[np.bool_], folds: int, seed: int) -> NDArray[np.intp]:
    """(n,) fold of each patient, 0..folds-1. Patients with an event are dealt out first, so that each fold gets its share."""
    hashes = [patient_hash(p, seed) for p in patients]
    dealt = sorted(range(len(hashes)), key=lambda i: (not event[i], hashes[i]))
    fold = np.empty(len(hashes), dtype=np.intp)
    fold[dealt] = np.arange(len(dealt)) % folds
    return fold
