"""The tables of the simulated cohorts from the study's cells: every figure and every judgement in words comes from them.

`virtues_worlds_documents` puts them into the documents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.studies.report import interval, table, verdict
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
PANEL = f"same panel in top {TOP}, times chance"
RETRIEVED = (RHO, OVERLAP, DIAGNOSIS, SITE, PANEL)


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
    count = f"{_span(people)} patients with {_span(given)} fields" + (f" in each of {len(cohorts)} cohorts" if len(cohorts) > 1 else "")
    return f"{count}, {sites} sites, panels: {', '.join(panels)}."


def _span(counts: Sequence[int]) -> str:
    return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


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
    return table(["", *(column for column, (part, _) in COUNTED.items() if part in cohorts[0][first])], rows)


def counted_answers(cohorts: Sequence[dict[str, Any]], world: str) -> str:
    """Verdicts in words on the first row of `counted`."""
    figures = {name: _counted(cohorts, name) for name in NAMES if name in cohorts[0]}
    first, *rest = figures
    columns = [column for column, (part, _) in COUNTED.items() if part in cohorts[0][first]]
    return "\n".join(
        f"- {verdict(first, name, a - b, x - y, f'{column} ({world})')}"
        for i, column in enumerate(columns)
        for name in rest
        for (a, x), (b, y) in [(figures[first][i], figures[name][i])]
    )


def _counted(cohorts: Sequence[dict[str, Any]], name: str) -> list[Figure]:
    """Of the columns that were computed."""
    there = [(part, figure) for part, figure in COUNTED.values() if part in cohorts[0][name]]
    return [pooled([_redrawn(h[name][part], figure, i) for i, h in enumerate(cohorts)]) for part, figure in there]


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
    diagnosis, pulls = np.array(cohort["diagnosis"]), {SITE: np.array(cohort["site"])}
    if len(set(cohort["panel"])) > 1:
        pulls[PANEL] = np.array(cohort["panel"])
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
            **{c: figure(precision(hits, label) / np.maximum(chance(label, allowed), 1e-9)) for c, label in pulls.items()},
        }
    random, ones = chance(diagnosis, allowed), figure(np.ones(len(patient)))
    answer["random draw"] = {DIAGNOSIS: figure(random), OVERLAP: figure(TOP / allowed.sum(axis=1)), **dict.fromkeys(pulls, ones)}
    return answer


def _pooled_retrieval(cohorts: Sequence[dict[str, Any]]) -> dict[str, dict[str, Figure]]:
    each = [retrieval_figures(h, 90 + i) for i, h in enumerate(cohorts)]
    return {row: {col: pooled([e[row][col] for e in each]) for col in each[0][row]} for row in each[0]}


def retrieved(cohorts: Sequence[dict[str, Any]]) -> str:
    """What each distance finds among other patients' fields."""
    figures = _pooled_retrieval(cohorts)
    columns = [c for c in RETRIEVED if c in figures[TRUTH]]
    rows = [[name, *(interval(*cols[c]) if c in cols else "-" for c in columns)] for name, cols in figures.items()]
    return table(["", *columns], rows)


def differences(cohorts: Sequence[dict[str, Any]]) -> str:
    """Paired differences of each transport distance from what it has to beat."""
    figures, rows = _pooled_retrieval(cohorts), []
    columns = [c for c in RETRIEVED if c in figures[TRUTH]]
    for name in SEARCHED:
        mine = f"{name}, 2-Wasserstein"
        for against in _rivals(name, figures):
            pairs = [(figures[mine][c], figures[against][c]) for c in columns]
            rows.append([f"{mine}, less {against}", *(interval(a[0] - b[0], a[1] - b[1], sign=True) for a, b in pairs)])
    return table(["", *columns], rows)


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
    for column, what in ((SITE, "site"), (PANEL, "panel")):
        if column in figures[mine]:
            value, draws = figures[mine][column]
            low, high = np.quantile(draws, [0.025, 0.975])
            judged = "above chance" if low > 1 else "below chance" if high < 1 else "not told apart from chance"
            told = f"{value:.2f} times, 95% {low:.2f} to {high:.2f}"
            lines.append(f"- {_sentence(mine)}: the query's own {what} is {judged} among its top {TOP}, {world} ({told}).")
    lines.append(f"- {top_three(cohorts, mine, world)}")
    return "\n".join(lines)


def headline(cohorts: Sequence[dict[str, Any]], world: str) -> str:
    """What the training did to retrieval; empty where the control was not run."""
    figures = _pooled_retrieval(cohorts)
    trained, control = (f"{name}, 2-Wasserstein" for name in LEARNED)
    if not {trained, control} <= figures.keys():
        return ""
    low, high = np.quantile(figures[trained][RHO][1] - figures[control][RHO][1], [0.025, 0.975])
    if high < 0:
        return (
            f"- **So short a training left the network's niches worse for this purpose than its random weights ({world}).** What lies in "
            "them: *Where the niches differ* in [virtues.md](virtues.md); the published one had 150 epochs of 512 crops a step."
        )
    done = "made the network's niches better for this purpose" if low > 0 else "made no difference to this purpose that can be told"
    return f"- The training {done} ({world})."


def top_three(cohorts: Sequence[dict[str, Any]], row: str, world: str) -> str:
    """As the paper judges retrieval: top-3 precision of the diagnosis, and McNemar's test of having any right one against random draws."""
    from ml.transport.metrics import against_random, mean_precision, without_own

    told = []
    for h in cohorts:
        who, diagnosis = [str(p) for p in h["cohort"]["patient"]], h["cohort"]["diagnosis"]
        ranking = without_own(distances(h)[row], who, who)
        figure = mean_precision(ranking, diagnosis, diagnosis, who, 3)
        p = ", ".join(f"{m.p:.3f}" for m in against_random(ranking, diagnosis, diagnosis, 3))
        told.append(f"{figure.value:.3f} (95% {figure.low:.3f} to {figure.high:.3f}; McNemar against three random draws: p = {p})")
    return f"{_sentence(row)}, as the paper judges, {world}: mean top-3 precision of the diagnosis {'; '.join(told)}."


def _sentence(name: str) -> str:
    return name[0].upper() + name[1:]
