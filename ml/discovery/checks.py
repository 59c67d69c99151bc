"""What every function of this room asks of its input: cell tokens of patients, and one outcome per patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.discovery.errors import DiscoveryError
from ml.training.splits import patient_folds

Floats = NDArray[np.float64]
Tokens = NDArray[np.float32]
Labels = Sequence[str] | NDArray[np.str_]


def cell_tokens(tokens: ArrayLike, where: str = "tokens") -> Tokens:
    """tokens as (n, d) float32, n and d at least 1. Raises DiscoveryError: wrong_shape, empty, not_finite."""
    x = np.asarray(tokens, dtype=np.float32)
    if x.ndim != 2:
        raise DiscoveryError("wrong_shape", f"Cell tokens have the shape {x.shape}, not (cells, width).", where=where)
    if not x.size:
        raise DiscoveryError("empty", "There are no cell tokens.", "Choose tissues that have cells.", where)
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        sentence = f"The tokens of {int(bad.sum())} cells are not finite, the first of them is row {int(bad.argmax()) + 1}."
        raise DiscoveryError("not_finite", sentence, "Compute them again, or leave those cells out and say so.", where)
    return x


def per_cell(labels: Labels, n: int, where: str) -> NDArray[np.str_]:
    """One text per cell, (n,). Raises DiscoveryError: wrong_length."""
    column = np.asarray(labels, dtype=np.str_)
    if column.shape != (n,):
        raise DiscoveryError("wrong_length", f"There are {column.size} {where} for {n} cells.", "Give one for each cell.", where)
    return column


def patient_codes(patients: Labels, n: int) -> tuple[tuple[str, ...], NDArray[np.intp]]:
    """(the distinct ids in order, code of each cell (n,)). Raises DiscoveryError: wrong_length."""
    ids, codes = np.unique(per_cell(patients, n, "patients"), return_inverse=True)
    return tuple(ids.tolist()), codes


def of_patients(response: Mapping[str, bool], ids: Sequence[str]) -> NDArray[np.bool_]:
    """The outcome of each patient in the order of ids, (n,) bool. Raises DiscoveryError: no_outcome, outcome_not_binary."""
    missing = [p for p in ids if p not in response]
    if missing:
        sentence = f"{len(missing)} patients have no outcome, e.g. {missing[0]}."
        raise DiscoveryError("no_outcome", sentence, "Leave their cells out first and say how many.", "response")
    if not all(response[p] in (0, 1) for p in ids):
        raise DiscoveryError("outcome_not_binary", "An outcome is neither true nor false.", "Response is 1, no response 0.", "response")
    return np.array([bool(response[p]) for p in ids], dtype=np.bool_)


def two_classes(response: NDArray[np.bool_], least: int, what: str) -> None:
    """Refuse an outcome that a stratified split cannot share out. Raises DiscoveryError: single_class, too_few_patients."""
    yes = int(response.sum())
    no = len(response) - yes
    if not yes or not no:
        only = "responded" if yes else "did not respond"
        raise DiscoveryError("single_class", f"All {len(response)} patients {only}, so nothing can be told apart.", where="response")
    if min(yes, no) < least:
        sentence = f"{yes} patients responded and {no} did not; {what} needs {least} of each."
        raise DiscoveryError("too_few_patients", sentence, "Use fewer folds or add patients.", "response")


def held_out_patients(ids: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """About `share` of the patients, at least one, in order; at least one other is left. Raises DiscoveryError: too_few_patients."""
    if len(ids) < 2:
        raise DiscoveryError("too_few_patients", "One patient cannot be split into those fitted and those held out.", "Add patients.")
    place = patient_folds(ids, len(ids), seed)  # a fold for each: a random order of the patients
    count = min(max(1, round(share * len(ids))), len(ids) - 1)
    return tuple(sorted(p for p, i in place.items() if i < count))
