"""Intervals of virtual proteins: split-conformal, with the patient as the unit (DESIGNS 9).

Tiles of one patient are no independent witnesses, so a patient counts once: her score is the error that the share 1 - alpha of her tiles
stays within, and the half-width is the ceil((n + 1)(1 - alpha))-th smallest score of n calibration patients. For a new patient who is
exchangeable with them, the chance that at least 1 - alpha of her tiles lie in their intervals is then at least 1 - alpha.

Vovk V, Gammerman A, Shafer G. Algorithmic Learning in a Random World, 2005; Lei J et al. J Am Stat Assoc 2018 (split conformal);
Dunn R, Wasserman L, Ramdas A. J Am Stat Assoc 2023 (groups as the unit). The calibration predictions are out of fold: each comes from
one model, where a new patient gets the mean of all, a little better as a rule. So intervals err to the wide side; that is not proven.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.errors import HexDataError

Array = NDArray[np.float64]
NO_CALIBRATION = "this version was never calibrated"
OUTSIDE = "outside the model's range"


@dataclass(frozen=True)
class Conformal:
    """Half-widths of the intervals of P markers at level 1 - alpha.

    half_width: (P,) float64 in the unit of the labels, NaN where there is none; why_none then says why, "" otherwise. patients: how many
    calibrated it. coverage, coverage_patients: (P,), leaving out one patient at a time: the share of her tiles that lie in the intervals
    of the others, mean over patients; and the share of patients of whom at least 1 - alpha do. NaN where the others are too few.
    """

    markers: tuple[str, ...]
    alpha: float
    half_width: Array
    patients: int
    coverage: Array
    coverage_patients: Array
    why_none: str = ""

    @property
    def percent(self) -> int:
        """The level as people say it: 90 for alpha 0.1."""
        return round(100 * (1 - self.alpha))

    def spread(self, out_of_range: NDArray[Any]) -> NDArray[np.float32]:
        """(n,) distances -> (n, P) float32 half-widths; NaN where the tile is outside the model's range (above 1, or unknown)."""
        inside = np.asarray(out_of_range) <= 1
        return np.where(inside[:, None], self.half_width, np.nan).astype(np.float32)

    def interval(self, values: NDArray[Any], out_of_range: NDArray[Any]) -> tuple[Array, Array]:
        """values (n, P) -> lower, upper (n, P), NaN where it abstains. No lower end is below 0: intensities are not."""
        half = self.spread(out_of_range).astype(float)
        return np.where(np.isnan(half), np.nan, np.maximum(values - half, 0)), values + half

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN as None, so that JSON takes it."""

        def plain(numbers: Array) -> list[float | None]:
            return [float(v) if math.isfinite(v) else None for v in numbers]

        return {
            "markers": list(self.markers),
            "alpha": self.alpha,
            "half_width": plain(self.half_width),
            "patients": self.patients,
            "coverage": plain(self.coverage),
            "coverage_patients": plain(self.coverage_patients),
            "why_none": self.why_none,
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Conformal:
        """What `to_dict` gave."""
        half, tiles, people = (
            np.array([np.nan if v is None else v for v in told[name]], float) for name in ("half_width", "coverage", "coverage_patients")
        )
        return cls(tuple(told["markers"]), float(told["alpha"]), half, int(told["patients"]), tiles, people, str(told["why_none"]))


def least_patients(alpha: float) -> int:
    """The fewest calibration patients that give an interval: 9 for alpha 0.1."""
    return math.ceil(1 / alpha - 1e-9) - 1


def calibrate(
    held_out: NDArray[Any], labels: NDArray[Any], patients: Sequence[str], markers: Sequence[str], alpha: float = 0.1
) -> Conformal:
    """held_out, labels: (n, P), prediction of a model that never saw the tile's patient, and measurement, same unit; patients: n ids.

    Too few patients give no interval and the reason in words. Raises HexDataError: shapes, missing numbers, an alpha not in (0, 1).
    """
    p, y = np.asarray(held_out, float), np.asarray(labels, float)
    _check(p, y, patients, markers, alpha)
    scores, errors = _scores(np.abs(y - p), np.asarray(patients, str), alpha)
    n, least = len(scores), least_patients(alpha)
    nothing = np.full(len(markers), np.nan)
    if n < least:
        why = f"fewer than {least} calibration patients"
        return Conformal(tuple(markers), alpha, nothing, n, nothing, nothing, why)
    tiles, people = _left_out(scores, errors, alpha) if n > least else (nothing, nothing)
    return Conformal(tuple(markers), alpha, np.sort(scores, axis=0)[_rank(n, alpha) - 1], n, tiles, people)


def _rank(n: int, alpha: float) -> int:
    """Which of n sorted scores is the half-width, from 1. The tiny step is for floats such as 1 - 0.1."""
    return math.ceil((n + 1) * (1 - alpha) - 1e-9)


def _scores(errors: Array, patients: NDArray[np.str_], alpha: float) -> tuple[Array, list[Array]]:
    """(patients, P): the smallest error that at least 1 - alpha of each patient's tiles stay within; and her errors (tiles, P)."""
    _, which = np.unique(patients, return_inverse=True)
    order = np.argsort(which, kind="stable")
    parts = np.split(errors[order], np.searchsorted(which[order], np.arange(1, which.max() + 1)))
    return np.array([np.sort(e, axis=0)[math.ceil(len(e) * (1 - alpha) - 1e-9) - 1] for e in parts]), parts


def _left_out(scores: Array, errors: list[Array], alpha: float) -> tuple[Array, Array]:
    """Coverage of each patient by the half-widths of all others, over tiles and over patients."""
    n = len(scores)
    rank = _rank(n - 1, alpha)
    ranked = np.sort(scores, axis=0)
    # Without a patient, the rank-th of the others is one further where she is among the first.
    widths = np.where(scores <= ranked[rank - 1], ranked[rank], ranked[rank - 1])
    tiles = np.mean([(e <= w).mean(axis=0) for e, w in zip(errors, widths)], axis=0)
    return tiles, (scores <= widths).mean(axis=0)


def _check(p: Array, y: Array, patients: Sequence[str], markers: Sequence[str], alpha: float) -> None:
    if p.shape != (len(patients), len(markers)) or y.shape != p.shape or not p.size:
        raise HexDataError(
            "calibration_shape",
            f"Predictions are {p.shape} and labels {y.shape} for {len(patients)} patient ids and {len(markers)} markers.",
            "Give one row of each per tile.",
            "held_out",
        )
    if not (np.isfinite(p).all() and np.isfinite(y).all()):
        raise HexDataError("calibration_not_finite", "A prediction or label is missing.", "Leave such tiles out.", "labels")
    if not 0 < alpha < 1:
        raise HexDataError("alpha_invalid", f"alpha is {alpha}; a share between 0 and 1 was expected.", "0.1 gives 90%.", "alpha")
