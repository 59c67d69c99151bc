"""Figures of a spatial prediction, headed by what it tells within a slide (DESIGNS 9). Vectorised over markers and bootstrap draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LOCK_BELOW = 0.10
MIN_TILES = 10


@dataclass(frozen=True)
class SlideFigures:
    """Per slide and marker, (slides, P) float64, NaN where a slide has under 10 tiles or the marker does not vary in it.

    r: Pearson within the slide, 0 where the prediction is constant. r2: 1 - SSE/SST after taking each side's slide mean away: the gain over
    knowing the slide's mean. r2_raw: the same with the prediction as it is, so an error of level counts too; it beats an oracle
    that knows the slide's measured mean only if above 0. means, predicted_means: slide means (for the between-slide r).
    slides, patients: names, one per row.
    """

    slides: tuple[str, ...]
    patients: tuple[str, ...]
    r: Array
    r2: Array
    r2_raw: Array
    means: Array
    predicted_means: Array


def slide_figures(values: NDArray[Any], labels: NDArray[Any], slides: Sequence[str], patients: Sequence[str]) -> SlideFigures:
    """values, labels: (n, P), a row per tile; slides, patients: n ids. One pass of sums per slide, no loop over slides or markers."""
    names, first, inverse = np.unique(np.asarray(slides, str), return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.searchsorted(inverse[order], np.arange(len(names)))
    y, p = np.asarray(labels, np.float64)[order], np.asarray(values, np.float64)[order]
    group = inverse[order]
    n = np.bincount(inverse)[:, None].astype(float)
    mean_y, mean_p = (np.add.reduceat(v, starts, axis=0) / n for v in (y, p))
    cy, cp = y - mean_y[group], p - mean_p[group]
    syy, spp, syp = (np.add.reduceat(v, starts, axis=0) for v in (cy * cy, cp * cp, cy * cp))
    scale = max(float(np.abs(y).max()), 1e-12)
    counts = (n >= MIN_TILES) & (syy / n > (1e-4 * scale) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(spp / n > 1e-14, syp / np.sqrt(syy * spp), 0.0)
        r2 = 1 - (syy + spp - 2 * syp) / syy
        r2_raw = r2 - n * (mean_p - mean_y) ** 2 / syy
    r, r2, r2_raw = (np.where(counts, v, np.nan) for v in (r, r2, r2_raw))
    return SlideFigures(tuple(names), tuple(np.asarray(patients, str)[first]), r, r2, r2_raw, mean_y, mean_p)


def bootstrap_median(values: Array, patients: Sequence[str], draws: int = 1000, seed: int = 0) -> tuple[Array, Array]:
    """95% percentile interval of the median over slides, patients redrawn with replacement: values (slides, P) -> lower, upper (P,).

    NaN entries are left out. A patient drawn twice counts twice with all her slides (a weighted lower median).
    """
    codes, which = np.unique(np.asarray(patients, str), return_inverse=True)
    rng = np.random.default_rng(seed)
    weight = rng.multinomial(len(codes), np.full(len(codes), 1 / len(codes)), size=draws)[:, which]
    lower, upper = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    for j in range(values.shape[1]):
        known = np.flatnonzero(np.isfinite(values[:, j]))
        if len(known) == 0:
            continue
        ranked = known[np.argsort(values[known, j], kind="stable")]
        heaped = weight[:, ranked].cumsum(axis=1)
        drawn = heaped[:, -1] > 0
        middle = (heaped[drawn] * 2 >= heaped[drawn, -1:]).argmax(axis=1)
        lower[j], upper[j] = np.quantile(values[ranked[middle], j], [0.025, 0.975])
    return lower, upper


@dataclass(frozen=True)
class MarkerFigures:
    """One marker's figures, each a plain float (NaN where there is nothing to measure); slides, patients: how many counted."""

    marker: str
    r_within: float
    r_within_lower: float
    r_within_upper: float
    r2_within: float
    r2_within_raw: float
    r_between: float
    r_pooled: float
    mse: float
    slides: int
    patients: int


def evaluate(
    values: NDArray[Any],
    labels: NDArray[Any],
    slides: Sequence[str],
    patients: Sequence[str],
    markers: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
) -> list[MarkerFigures]:
    """Figures per marker: median over slides of the within-slide r (with patient bootstrap) and R2; between-slide r over slide means
    (three slides or more); pooled r and MSE over all tiles (what the paper reports, shown last)."""
    f = slide_figures(values, labels, slides, patients)
    lower, upper = bootstrap_median(f.r, f.patients, draws, seed)
    y, p = np.asarray(labels, np.float64), np.asarray(values, np.float64)
    between = columns_r(f.predicted_means, f.means) if len(f.slides) >= 3 else np.full(y.shape[1], np.nan)
    pooled, mse = columns_r(p, y), ((p - y) ** 2).mean(axis=0)
    known = np.isfinite(f.r)
    people = [len({f.patients[i] for i in np.flatnonzero(known[:, j])}) for j in range(len(markers))]
    r, r2, raw = (_median(v) for v in (f.r, f.r2, f.r2_raw))
    return [
        MarkerFigures(
            *(
                m,
                float(r[j]),
                float(lower[j]),
                float(upper[j]),
                float(r2[j]),
                float(raw[j]),
                float(between[j]),
                float(pooled[j]),
                float(mse[j]),
            ),
            slides=int(known[:, j].sum()),
            patients=people[j],
        )
        for j, m in enumerate(markers)
    ]


def _median(values: Array) -> Array:
    medians = np.full(values.shape[1], np.nan)
    known = np.isfinite(values).any(axis=0)
    medians[known] = np.nanmedian(values[:, known], axis=0)
    return medians


def columns_r(a: Array, b: Array) -> Array:
    """Pearson r of each column of a with the same column of b, (n, P) and (n, P) -> (P,); 0 where a column is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    norm = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    r: Array = np.divide((a * b).sum(axis=0), norm, out=np.zeros(a.shape[1]), where=norm > 1e-12)
    return r


@dataclass(frozen=True)
class CardRow:
    """What a page may say of one virtual marker. locked: it cannot be chosen on a case page; reason: the sentence that says why."""

    marker: str
    r2_within: float
    r_within: float
    r_within_lower: float
    r_within_upper: float
    patients: int
    external_patients: int
    locked: bool
    reason: str


def predictability_card(figures: Sequence[MarkerFigures], external_patients: int = 0) -> list[CardRow]:
    """A row per marker: locked below a within-slide R2 of 0.10, or where it could not be measured (DESIGNS 9)."""
    rows = []
    for f in figures:
        measured = np.isfinite(f.r2_within)
        locked = not measured or f.r2_within < LOCK_BELOW
        reason = (
            ""
            if not locked
            else f"Within-slide R2 {f.r2_within:.2f} is below {LOCK_BELOW:.2f}."
            if measured
            else "It varied on no held-out slide."
        )
        rows.append(
            CardRow(f.marker, f.r2_within, f.r_within, f.r_within_lower, f.r_within_upper, f.patients, external_patients, locked, reason)
        )
    return rows
