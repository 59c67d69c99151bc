"""Splits by patient: the one function of the whole house, and the hashed ids by which weights remember whom they saw."""

from __future__ import annotations

import hmac
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256

from ml.types import Split


class SplitError(ValueError):
    """A split cannot be made. code: stable name; sentence; hint."""

    def __init__(self, code: str, sentence: str, hint: str = "") -> None:
        super().__init__(f"{sentence} {hint}".strip())
        self.code, self.sentence, self.hint = code, sentence, hint


def patient_folds(patients: Iterable[str], k: int, seed: int, strata: Mapping[str, str] | None = None) -> dict[str, int]:
    """Fold (0..k-1) of each patient: patient -> fold.

    patients: ids, repeats allowed (one per tile, say). strata: patient -> stratum (a site, a site and an event state), so that each fold
    gets its share of each stratum. Fold sizes differ by at most one, within a stratum too. The answer depends on the set of ids, k,
    seed and strata alone: not on the order of the ids, not on the platform's hash or random generator.

    Raises SplitError where k < 2 or there are fewer patients than folds.
    """
    unique = sorted(set(patients))
    if k < 2:
        raise SplitError("folds_too_few", f"A split into {k} folds holds nobody out.", "Ask for two or more.")
    if len(unique) < k:
        raise SplitError("patients_too_few", f"{len(unique)} patients cannot be split into {k} folds.", "Use fewer folds or add patients.")
    groups: dict[str, list[str]] = defaultdict(list)
    for patient in unique:
        groups[strata[patient] if strata is not None else ""].append(patient)
    shuffled = [p for stratum in sorted(groups) for p in sorted(groups[stratum], key=lambda p: sha256(f"{seed}\x1f{p}".encode()).digest())]
    return {patient: i % k for i, patient in enumerate(shuffled)}


def split_of(folds: Mapping[str, int], fold: int) -> Split:
    """The split in which patients of `fold` are held out and all others are fit on."""
    held_out = tuple(sorted(p for p, f in folds.items() if f == fold))
    return Split(
        fit=tuple(sorted(p for p, f in folds.items() if f != fold)), held_out=held_out, fold=fold, facts={"folds": len(set(folds.values()))}
    )


def patient_hash(code: str, salt: str) -> str:
    """Hex HMAC-SHA-256 of a patient's code: what weights keep of whom they saw. Without the salt, trying codes finds nobody."""
    return hmac.new(salt.encode(), code.encode(), sha256).hexdigest()


def membership(folds: Mapping[str, int], salt: str) -> list[list[str]]:
    """Per fold, the sorted hashes of the patients that its weights were fit on."""
    count = max(folds.values()) + 1
    return [sorted(patient_hash(p, salt) for p in split_of(folds, fold).fit) for fold in range(count)]


def fold_without(patient: str, lists: Sequence[Iterable[str]]) -> int | None:
    """The fold whose weights never saw this patient hash; None where no fold saw her (all folds may be used).

    Raises SplitError("in_sample") where every fold saw her: nothing out-of-sample can be said of her with these weights.
    """
    seen = [patient in set(hashes) for hashes in lists]
    if not any(seen):
        return None
    if all(seen):
        raise SplitError("in_sample", "Every fold of these weights was fit on this patient.", "Use weights that did not see her.")
    return seen.index(False)
