"""How well a pretrained VirTues paints what it did not see, on patients held out, beside what costs nothing (spec 9, Reconstruction)."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

# Crops of a data set that are measured on, and learnt the correlated markers from: a whole marker masked costs a pass per marker.
MOST_CROPS = 32
DRAWS = 200


def reconstruction(result: Any, seen: Collection[str], progress: Callable[[float, str], None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(figures, checks). result: ml.virtues.train.PretrainResult. seen: patients that the start of the training saw, who tell nothing.

    figures: {"reconstruction": rows of data set, masking, method, r, lower, upper, patients, markers; "marker_masked_r": mean of the
    network's over data sets}. checks: {protein: {r, r2, patients, data_set}} of a whole marker masked, the best-measured data set of each.
    Both empty where nobody is held out or no crop has tissue.
    """
    from ml.virtues.errors import VirtuesError
    from ml.virtues.evaluate import evaluate
    from ml.virtues.pretrain_config import VirtuesEvaluateConfig

    rows: list[dict[str, Any]] = []
    checks: dict[str, dict[str, Any]] = {}
    names = sorted({panel.dataset for panel in result.held_out if panel.unit not in seen})
    for number, name in enumerate(names):
        held = [panel for panel in result.held_out if panel.dataset == name and panel.unit not in seen]
        fitted = [panel for panel in result.fitted if panel.dataset == name] or held
        crops = [_some(panels, result.config) for panels in (held, fitted)]
        config = VirtuesEvaluateConfig(bootstrap=DRAWS, seed=result.config.seed)
        try:
            found = evaluate(result.model, *crops, config, partial(_part, progress, number, len(names)))
        except VirtuesError as error:
            if error.code not in ("no_crops", "image_small"):
                raise
            continue
        proteins = {marker: protein for panel in held for marker, protein in zip(panel.names, panel.proteins)}
        for masking, figures in found.items():
            rows += _rows(name, masking, figures.summary())
        _check(checks, name, found.get("marker"), proteins)
    told = [row["r"] for row in rows if row["masking"] == "marker" and row["method"] == "network"]
    mean = sum(told) / len(told) if told else None
    return {"reconstruction": rows, "marker_masked_r": mean, "held_out_crops": MOST_CROPS if rows else 0}, checks


def _part(progress: Callable[[float, str], None], number: int, n: int, share: float, text: str) -> None:
    progress((number + share) / n, text)


def _some(panels: list[Any], config: Any) -> list[Any]:
    """At most MOST_CROPS crops, spread over the images."""
    import numpy as np

    from ml.virtues.evaluate import crops_of

    crops = crops_of(panels, config.crop, config.min_tissue)
    return [crops[i] for i in np.unique(np.linspace(0, len(crops) - 1, min(len(crops), MOST_CROPS)).astype(int))] if crops else []


def _rows(name: str, masking: str, told: dict[str, Any]) -> list[dict[str, Any]]:
    import numpy as np

    rows = []
    for method, one in told["r"].items():
        low, high = np.nanquantile(one["draws"], [0.025, 0.975]) if one["draws"] else (None, None)
        figures = {"r": one["mean"], "lower": low, "upper": high, "patients": told["units"], "markers": len(told["markers"])}
        rows.append({"data_set": name, "masking": masking, "method": method, **figures})
    return rows


def _check(checks: dict[str, dict[str, Any]], name: str, figures: Any, proteins: dict[str, str]) -> None:
    """What is known of painting each protein from the others, within crops' own brightness too: r over all masked pixels."""
    if figures is None:
        return
    told, patients = figures.r("network"), len(set(figures.units))
    for marker, r in zip(figures.markers, told.tolist()):
        protein = proteins.get(marker)
        if protein is None or math.isnan(r):
            continue
        if protein not in checks or patients > checks[protein]["patients"]:
            checks[protein] = {"r": round(r, 4), "r2": round(max(r, 0.0) ** 2, 4), "patients": patients, "data_set": name, "marker": marker}
