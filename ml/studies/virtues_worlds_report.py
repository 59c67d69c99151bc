"""The tables of the simulated cohorts from the study's cells: every figure and every judgement in words comes from them.

`virtues_worlds_documents` puts them into the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.studies.report import interval, paragraphs, table, verdict
from ml.studies.virtues_worlds import BASELINES, COLOURS, LEARNED
from ml.studies.virtues_worlds_counts import (
    TOP,
    adjusted_rand,
    by_patient,
    chance,
    macro_f1,
    nearest,
    others,
    overlap,
    precision,
    rank_agreement,
    redrawn,
)

Cell = dict[str, Any]
Array = NDArray[np.float64]
Figure = tuple[float, Array]
DRAWS = 1000
NAMES = (*LEARNED, *BASELINES)
# Niches are means over boxes: what surrounds their patches and cells plays no part in retrieval.
PLAIN, SURROUNDED = BASELINES
SEARCHED = (*LEARNED, PLAIN)
TRUTH = "true niches (ceiling)"
COUNTED: dict[str, tuple[str, Callable[[NDArray[Any]], float]]] = {
    "niches of 128 um, ARI": ("boxes", adjusted_rand),
    "patches of 8 um, ARI": ("patches", adjusted_rand),
    "cell types, macro-F1": ("typing", macro_f1),
}
RHO, OVERLAP, DIAGNOSIS, SITE = "Spearman", f"true top {TOP} found", f"same diagnosis in top {TOP}", f"same site in top {TOP}, times chance"
RETRIEVED = (RHO, OVERLAP, DIAGNOSIS, SITE)


def complete(cells: Sequence[Cell], world: str) -> list[dict[str, Any]]:
    """Per cohort of a world: variant -> result; only variants that every cohort has."""
    found: dict[int, dict[str, Any]] = {}
    for c in cells:
        if c["key"]["task"] == "virtues-worlds" and c["key"]["world"] == world:
            found.setdefault(c["key"]["seed"], {})[c["key"]["variant"]] = c["result"]
    having = [found[seed] for seed in sorted(found) if "cohort" in found[seed]]
    common = set.intersection(*(set(h) for h in having)) if having else set()
    return [{name: h[name] for name in h if name in common} for h in having]


def facts(cohorts: Sequence[dict[str, Any]]) -> str:
    """What the cohorts are."""
    people = [len(set(h["cohort"]["patient"])) for h in cohorts]
    given = [len(h["cohort"]["patient"]) for h in cohorts]
    sites, panels = len(cohorts[0]["cohort"]["sites"]), sorted(set(cohorts[0]["cohort"]["panel"]))
    return paragraphs(
        f"""{min(people)} to {max(people)} patients with {min(given)} to {max(given)} fields per cohort, {sites} sites, panels:
        {", ".join(panels)}. Intervals: 95% bootstrap over patients, mean over cohorts."""
    )


def pooled(figures: Sequence[Figure]) -> Figure:
    """Mean over cohorts; patients are redrawn within each."""
    return float(np.mean([f[0] for f in figures])), np.mean([f[1] for f in figures], axis=0)


def counted(cohorts: Sequence[dict[str, Any]]) -> str:
    """How well clusters agree with the true niches, and cells' types are told; below, paired differences from the first row."""
    figures = {name: _counted(cohorts, name) for name in NAMES if name in cohorts[0]}
    rows = [[name, *(interval(*f) for f in row)] for name, row in figures.items()]
    first, *rest = figures
    for name in rest:
        pairs = zip(figures[first], figures[name])
        rows.append([f"{first} less {name}", *(interval(a - b, x - y, sign=True) for (a, x), (b, y) in pairs)])
    return table(["", *COUNTED], rows)


def _counted(cohorts: Sequence[dict[str, Any]], name: str) -> list[Figure]:
    return [pooled([_redrawn(h[name][part], figure, i) for i, h in enumerate(cohorts)]) for part, figure in COUNTED.values()]


def _redrawn(counts: Any, figure: Callable[[NDArray[Any]], float], seed: int) -> Figure:
    """Patients of whom nothing was counted are not drawn."""
    table = np.array(counts)
    return redrawn(table[table.sum(axis=(1, 2)) > 0], figure, DRAWS, 70 + seed)


def distances(h: dict[str, Any]) -> dict[str, Array]:
    """Row of the table -> (n, n) distances of one cohort."""
    found = {TRUTH: np.array(h["cohort"]["truth"]), COLOURS: np.array(h["cohort"]["colours"])}
    for name in SEARCHED:
        if name in h:
            found |= {f"{name}, 2-Wasserstein": np.array(h[name]["sets"]), f"{name}, cosine of means": np.array(h[name]["means"])}
    return found


def retrieval_figures(h: dict[str, Any], seed: int) -> dict[str, dict[str, Figure]]:
    """Row -> column -> figure of one cohort; the draws of patients are the same for all."""
    cohort = h["cohort"]
    patient, allowed = cohort["patient"], others(cohort["patient"])
    diagnosis, site = np.array(cohort["diagnosis"]), np.array(cohort["site"])
    truth = np.array(cohort["truth"])
    wanted = nearest(truth, allowed)
    figure = partial(by_patient, patient=patient, draws=DRAWS, seed=seed)
    answer = {}
    for name, distance in distances(h).items():
        hits = nearest(distance, allowed)
        answer[name] = {
            RHO: figure(rank_agreement(distance, truth, allowed)),
            OVERLAP: figure(overlap(hits, wanted)),
            DIAGNOSIS: figure(precision(hits, diagnosis)),
            SITE: figure(precision(hits, site) / np.maximum(chance(site, allowed), 1e-9)),
        }
    random = chance(diagnosis, allowed)
    answer["random draw"] = {DIAGNOSIS: figure(random), OVERLAP: figure(TOP / allowed.sum(axis=1)), SITE: figure(np.ones(len(random)))}
    return answer


def _pooled_retrieval(cohorts: Sequence[dict[str, Any]]) -> dict[str, dict[str, Figure]]:
    each = [retrieval_figures(h, 90 + i) for i, h in enumerate(cohorts)]
    return {row: {col: pooled([e[row][col] for e in each]) for col in each[0][row]} for row in each[0]}


def retrieved(cohorts: Sequence[dict[str, Any]]) -> str:
    """What each distance finds among other patients' fields."""
    figures = _pooled_retrieval(cohorts)
    rows = [[name, *(interval(*cols[c]) if c in cols else "-" for c in RETRIEVED)] for name, cols in figures.items()]
    return table(["", *RETRIEVED], rows)


def differences(cohorts: Sequence[dict[str, Any]]) -> str:
    """Paired differences of each transport distance from what it has to beat."""
    figures, rows = _pooled_retrieval(cohorts), []
    for name in SEARCHED:
        mine = f"{name}, 2-Wasserstein"
        for against in _rivals(name, figures):
            pairs = [(figures[mine][c], figures[against][c]) for c in RETRIEVED]
            rows.append([f"{mine}, less {against}", *(interval(a[0] - b[0], a[1] - b[1], sign=True) for a, b in pairs)])
    return table(["", *RETRIEVED], rows)


def _rivals(name: str, figures: dict[str, Any]) -> list[str]:
    """The cosine of the same niches' means, colours, and for a learned one the transport of what was learned less."""
    simpler = [f"{b}, 2-Wasserstein" for b in SEARCHED[SEARCHED.index(name) + 1 :]]
    return [r for r in (f"{name}, cosine of means", COLOURS, *simpler) if f"{name}, 2-Wasserstein" in figures and r in figures]


def answers(cohorts: Sequence[dict[str, Any]], world: str) -> str:
    """Verdicts in words on the first row that is searched."""
    figures, name, lines = _pooled_retrieval(cohorts), next(n for n in SEARCHED if n in cohorts[0]), []
    mine = f"{name}, 2-Wasserstein"
    for against in _rivals(name, figures):
        for column in (RHO, DIAGNOSIS):
            (value, draws), (other, other_draws) = figures[mine][column], figures[against][column]
            lines.append(f"- {verdict(mine, against, value - other, draws - other_draws, f'{column}, {world}')}")
    value, draws = figures[mine][SITE]
    low, high = np.quantile(draws, [0.025, 0.975])
    judged = "above chance" if low > 1 else "below chance" if high < 1 else "not told apart from chance"
    lines.append(
        f"- {mine}: the query's own site is {judged} among its top {TOP}, {world} ({value:.2f} times, 95% {low:.2f} to {high:.2f})."
    )
    return "\n".join(lines)
