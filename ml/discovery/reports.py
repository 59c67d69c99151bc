"""A discovery as plain values and tables: what is frozen, printed and downloaded. No infinite number: where one would be, None."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.discovery.biomarkers import SHARED
from ml.discovery.cell_typing import CellTyping
from ml.discovery.fingerprints import RESPONSE
from ml.discovery.leiden import Cluster
from ml.discovery.risk_groups import SIDES
from ml.discovery.runs import BiomarkerRun, RiskRun

OPTIMISTIC = "The printed estimate is too good: its clusters were chosen and measured on the same patients."
OPTIMISTIC_GROUPS = "The groups were merged by looking at these outcomes, so the log-rank p of the merged two is too good."
FOUND_WITHOUT = "Clusters of cells and groups of patients were found without any outcome."


def name_of(cluster: Cluster) -> str:
    """A cluster's name: its resolution and number, "4.25-31"."""
    return f"{cluster.resolution:g}-{cluster.label}"


def biomarker_report(run: BiomarkerRun) -> dict[str, Any]:
    """Everything that was found. nested before printed; biomarkers: response first, best first, with the patients that have them.

    risk_ratio None: of those with little of the cluster nobody responded.
    """
    found, chosen = run.found, run.found.selection
    null = found.null
    markers = []
    for i, column in enumerate(chosen.columns.tolist()):
        has = run.shares[:, column] > 0
        markers.append({
            "name": name_of(run.clusters[column]), "resolution": run.clusters[column].resolution, "cells": len(run.clusters[column]),
            "direction": "response" if chosen.direction[i] == RESPONSE else "non-response",
            "patients": int(has.sum()), "responders": int((has & run.response).sum()),
            "prevalence": float(has.mean()), "risk_ratio": plain(chosen.risk_ratio[i]), "auroc": plain(chosen.auroc[i]),
            "chosen_in_folds": float(found.nested.chosen[column]), "thresholds": [plain(t) for t in chosen.thresholds[:, i]],
        })  # fmt: skip
    return {
        "kind": "biomarkers",
        "n": len(run.patients),
        "responders": int(run.response.sum()),
        "cells": int(run.rows.sum()),
        "clusters": len(run.clusters),
        "left_out": len(run.left_out),
        "nested": {
            "auroc": found.nested.auroc, "lowest": float(found.nested.by_fold.min()), "highest": float(found.nested.by_fold.max()),
            "p": found.p, "permutations": len(null.nested), "shuffled": float(np.mean(null.nested)),
        },
        "printed": {"auroc": found.printed, "shuffled": float(np.mean(null.printed))},
        "biomarkers": markers,
        "notes": [OPTIMISTIC, SHARED],
    }  # fmt: skip


def biomarker_patients(run: BiomarkerRun) -> dict[str, list[Any]]:
    """Columns, one row per patient: response, probability of response out of fold, and share and rank of each biomarker."""
    chosen = run.found.selection
    rank = chosen.ranks(run.shares)
    table: dict[str, list[Any]] = {
        "patient": list(run.patients),
        "response": run.response.astype(int).tolist(),
        "probability_out_of_fold": run.found.nested.out_of_fold.round(6).tolist(),
    }
    for i, column in enumerate(chosen.columns.tolist()):
        name = name_of(run.clusters[column])
        table |= {f"share {name}": run.shares[:, column].round(8).tolist(), f"rank {name}": rank[:, i].tolist()}
    return table


def biomarker_cells(run: BiomarkerRun) -> dict[str, NDArray[Any]]:
    """Columns, one row per cell as it was given: took_part, and whether it belongs to each biomarker's cluster."""
    took = np.flatnonzero(run.rows)
    table: dict[str, NDArray[Any]] = {"took_part": run.rows}
    for column in run.found.selection.columns.tolist():
        member = np.zeros(len(run.rows), dtype=np.bool_)
        member[took[run.clusters[column].cells]] = True
        table[f"cluster {name_of(run.clusters[column])}"] = member
    return table


def risk_report(run: RiskRun) -> dict[str, Any]:
    """Everything that was found. out_of_fold before printed; groups by number, 0 the largest. c_index: of the merged two, printed too."""
    found = run.found
    event = dict(zip(run.outcomes.patients, run.outcomes.event.tolist()))
    has = np.array([event[p] for p in found.patients], dtype=np.bool_)
    groups = []
    for number, ratio in enumerate(found.ratio.tolist()):
        mine = found.group == number
        groups.append({
            "name": f"group {number}", "patients": int(mine.sum()), "events": int((mine & has).sum()),
            "observed_by_expected": plain(ratio), "side": SIDES[number in found.high_groups],
        })  # fmt: skip
    return {
        "kind": "risk groups",
        "endpoint": run.outcomes.endpoint,
        "n": len(found.patients),
        "events": int(has.sum()),
        "cells": len(run.groups.kind),
        "clusters": run.groups.shares.shape[1],
        "left_out": len(found.survival.left_out),
        "out_of_fold": {"z": found.z_out_of_fold, "p": found.p_out_of_fold},
        "whole": {"p": found.p},
        "printed": {"p": plain(found.p_printed), "c_index": plain(found.survival.c.c)},
        "groups": groups,
        "notes": [OPTIMISTIC_GROUPS, FOUND_WITHOUT],
    }  # fmt: skip


def risk_patients(run: RiskRun) -> dict[str, list[Any]]:
    """Columns, one row per patient with an outcome: group, side by all outcomes, and side by a merge without hers."""
    found = run.found
    return {
        "patient": list(found.patients),
        "group": found.group.tolist(),
        "side": [SIDES[int(high)] for high in found.high.tolist()],
        "side_out_of_fold": [SIDES[int(high)] for high in found.out_of_fold.tolist()],
    }


def risk_cells(run: RiskRun) -> dict[str, NDArray[Any]]:
    """Columns, one row per cell as it was given: the number of its cluster."""
    return {"cluster": run.groups.kind}


def typing_report(found: CellTyping) -> dict[str, Any]:
    """The probe's F1 on held-out patients, by class with 95% limits, and what cannot be read off it."""
    scores = found.scores
    notes = [] if found.converged else ["The probe reached its most iterations before it converged."]
    notes += [f"{name}: no fitted patient has it." for name in found.only_held_out]
    classes = zip(scores.classes, scores.cells.tolist(), scores.f1, scores.lower, scores.upper)
    return {
        "kind": "typing",
        "fitted": len(found.fitted),
        "held_out": len(found.held_out),
        "macro_f1": [plain(v) for v in scores.macro],
        "classes": [{"name": n, "cells": c, "f1": plain(f), "lower": plain(lo), "upper": plain(up)} for n, c, f, lo, up in classes],
        "notes": notes,
    }


def plain(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def rows_of(table: Mapping[str, Iterable[Any]]) -> list[list[Any]]:
    """A table of columns as rows, the names first."""
    return [list(table), *map(list, zip(*table.values()))]
