"""What a model version is judged by: its headline figures and its figures per marker, the same words on every page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from frontend.templatetags.ui import is_number, num

COLUMNS = (
    *("marker", "r_within", "r_within_lower", "r_within_upper", "r2_within", "r2_within_raw", "r_between", "r_pooled", "mse"),
    *("r", "r_lower", "r_upper", "r2", "patients", "slides", "n", "external_n", "locked", "reason"),
)


@dataclass(frozen=True)
class MarkerRow:
    """Figures of one marker on held-out patients; None where there is none."""

    marker: str
    r: float | None
    r_lower: float | None
    r_upper: float | None
    r2: float | None
    mse: float | None
    patients: int | None


def headline(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, figure) of what a version is first judged by: within-slide figures of a protein model, C of a risk model."""
    rows = [
        ("within-slide r", num(metrics.get("median_r_within"))),
        ("R²", num(metrics.get("median_r2_within"))),
        ("MSE", num(metrics.get("median_mse"), 4)),
        ("effective resolution", f"{metrics['effective_resolution_um']:.0f} µm" if metrics.get("effective_resolution_um") else "–"),
        ("r of a marker painted from the others", num(metrics.get("marker_masked_r"))),
        ("C", _interval(metrics)),
        ("permutation p", num(metrics.get("permutation_p"), 3)),
        ("n", _whole(metrics.get("n"))),
        ("events", _whole(metrics.get("events"))),
        ("endpoint", str(metrics.get("endpoint") or "–")),
        ("tissues", _whole(metrics.get("n_tissues"))),
    ]
    return [(name, said) for name, said in rows if said != "–"]


def _interval(metrics: dict[str, Any]) -> str:
    low, high = (metrics.get(f"c_{side}", metrics.get(side)) for side in ("lower", "upper"))
    told = f" ({num(low)} to {num(high)})" if is_number(low) and is_number(high) else ""
    return f"{num(metrics.get('c'))}{told}"


def _whole(value: Any) -> str:
    return f"{value:.0f}" if is_number(value) else "–"


def marker_rows(metrics: dict[str, Any]) -> list[MarkerRow]:
    """Per marker, best first: of the full figures where the version has them, else of its predictability card."""
    measured = metrics.get("markers")
    if isinstance(measured, list) and measured and isinstance(measured[0], dict):
        keys = ("r_within", "r_within_lower", "r_within_upper", "r2_within", "mse", "patients")
        rows = [MarkerRow(str(row["marker"]), *(row.get(key) for key in keys)) for row in measured]
    else:
        keys = ("r", "r_lower", "r_upper", "r2", "mse", "n")
        rows = [MarkerRow(name, *(row.get(key) for key in keys)) for name, row in metrics.get("card", {}).items()]
    return sorted(rows, key=lambda row: -(row.r if is_number(row.r) else -math.inf))


def marker_table(metrics: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows) of everything that is known per marker, as it was measured; none where a version has no markers."""
    measured = metrics.get("markers")
    if isinstance(measured, list) and measured and isinstance(measured[0], dict):
        rows = [dict(row) for row in measured]
    else:
        rows = [{"marker": name, **row} for name, row in metrics.get("card", {}).items()]
    # The database keeps no order of keys.
    known = {key for row in rows for key in row if not isinstance(row[key], dict | list)}
    columns = [key for key in COLUMNS if key in known] + sorted(known - set(COLUMNS))
    return columns, [[row.get(column) for column in columns] for row in rows]
