"""docs/results/mica.md from the cells of the study: every figure and every judgement in words comes from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.panel import HEX_PANEL
from ml.mica.evaluate import bootstrap_c, within_folds
from ml.simulate.bags import DRIVERS, HAZARD_SD
from ml.simulate.worlds import WORLDS, World, hidden_markers
from ml.studies import mica_worlds
from ml.studies.mica_worlds import LINEAR, NETWORKS, TRUTH
from ml.studies.report import interval, paragraphs, run_facts, table, verdict
from ml.types import Outcomes

Cell = dict[str, Any]
Array = NDArray[np.float64]
DRAWS = 1000
ROWS = (*NETWORKS, *LINEAR, TRUTH)
PAIRS = (
    ("MICA, virtual proteins", "H&E alone"),
    ("virtual proteins alone", "H&E alone"),
    ("MICA, measured proteins", "H&E alone"),
    ("ridge Cox, H&E and virtual means", "ridge Cox, H&E means"),
    ("MICA, virtual proteins", "ridge Cox, virtual means"),
)

HEAD = """# MICA: what virtual proteins add to H&E, measured

Written by `python -m ml.studies.mica write` from cells that `python -m ml.studies.mica` computes; a stopped run goes on where it was.
{facts}

No patients are in this document. Every cohort is simulated, so that the true hazard is known and the question has an answer: do
virtual proteins, which are a function of the H&E, tell more of the prognosis than the H&E itself? No published MICA weights or clinical
tables exist to compare with."""


def report(cells: Sequence[Cell]) -> str:
    """The document."""
    mine = [c for c in cells if c["key"]["task"] == "mica"]
    if not mine:
        return HEAD.format(facts="Nothing is computed yet.") + "\n"
    found = {world: scores for world in WORLDS if (scores := _scores(mine, world))}
    parts = [
        HEAD.format(facts=run_facts(mine)),
        _short(found),
        _design(mine, found),
        _c_table(found),
        _answers(found),
        _cards(mine),
        _limits(),
    ]
    return "\n\n".join(parts) + "\n"


def _scores(cells: Sequence[Cell], world: World) -> list[tuple[Outcomes, Array, dict[str, Array]]]:
    """Per cohort that is complete: outcomes, folds, and the risk of each row that is there."""
    answer: list[tuple[Outcomes, Array, dict[str, Array]]] = []
    for seed in sorted({c["key"]["seed"] for c in cells}):
        here = {c["key"]["variant"]: c["result"] for c in cells if c["key"]["world"] == world and c["key"]["seed"] == seed}
        if "cohort" not in here:
            continue
        facts = here["cohort"]
        outcomes = Outcomes(tuple(facts["patients"]), np.array(facts["time"]), np.array(facts["event"], bool), "OS")
        risks = {name: np.array(here[name]["risk"]) for name in NETWORKS if name in here}
        risks |= {name: np.array(values) for name, values in here.get("linear", {}).items()}
        answer.append((outcomes, np.array(facts["fold"], np.intp), {**risks, TRUTH: np.array(facts["hazard"])}))
    most = max((len(risks) for _, _, risks in answer), default=0)
    return [cohort for cohort in answer if len(cohort[2]) == most]


def _c(cohorts: Sequence[tuple[Outcomes, Array, dict[str, Array]]]) -> dict[str, tuple[float, Array]]:
    """Row -> (C, mean over cohorts; its draws, patients redrawn within each cohort, the same for every row)."""
    names = [n for n in ROWS if all(n in risks for _, _, risks in cohorts)]
    values, drawn = [], []
    for seed, (outcomes, fold, risks) in enumerate(cohorts):
        values.append([within_folds(outcomes, fold, risks[n]) for n in names])
        drawn.append(bootstrap_c(outcomes, fold, [risks[n] for n in names], DRAWS, 50 + seed))
    value, draws = np.mean(values, axis=0), np.mean(drawn, axis=0)
    return {n: (float(value[i]), draws[i]) for i, n in enumerate(names)}


def _short(found: dict[World, list[tuple[Outcomes, Array, dict[str, Array]]]]) -> str:
    """A line per world: what virtual proteins add to H&E, what measured ones do, and how far it is to the truth."""
    lines = []
    for world, cohorts in found.items():
        each = _c(cohorts)
        known = [
            f"{name} {each[name][0]:.3f}"
            for name in ("H&E alone", "MICA, virtual proteins", "MICA, measured proteins", TRUTH)
            if name in each
        ]
        lines.append(f"- {world.capitalize()} world: C of {'; '.join(known)}. {_adds(each)}".rstrip())
    return "\n".join(["## In short", "", *lines])


def _adds(each: dict[str, tuple[float, Array]]) -> str:
    name, against = PAIRS[0]
    if name not in each or against not in each:
        return ""
    return verdict(name, against, each[name][0] - each[against][0], each[name][1] - each[against][1], "C")


def _design(cells: Sequence[Cell], found: dict[World, list[tuple[Outcomes, Array, dict[str, Array]]]]) -> str:
    size = mica_worlds.Size()
    cohorts = [c["result"] for c in cells if c["key"]["variant"] == "cohort"]
    tiles = [t for c in cohorts for t in c["tiles"]]
    events = [np.mean(c["event"]) for c in cohorts]
    drivers = ", ".join(("+ " if sign > 0 else "- ") + " x ".join(names) for names, sign in DRIVERS)
    config = mica_worlds.fit_config("MICA, virtual proteins", size, 0)
    counts = ", ".join(f"{len(cohorts)} in the {world} world" for world, cohorts in found.items())
    return paragraphs(f"""## How

Cohorts of {size.patients} patients ({counts}), {min(tiles)} to {max(tiles)} tiles of 56 um each,
{100 * min(events):.0f}% to {100 * max(events):.0f}% events. Tissue and proteins are the simulator's. H&E features (64 per tile) are a
fixed random network over what a picture shows (nuclei by look, not by type), moved by stain and noise: no pictures were rendered here.
Virtual proteins are a ridge on the features and measured proteins of {size.reference} other patients, so an out-of-sample prediction. The
log hazard (sd {HAZARD_SD}) is made of {drivers} (means over the tiles, x: within a tile; logs). In the mixed world the first three are
shown by H&E and the others hidden; in the invisible one all are hidden.

Networks: MICA's architecture with width {config.width} (released: 256), {config.layers} transformer layer (2), {config.epochs} epochs (20),
learning rate {config.lr:g}, a step per {config.accumulate} slides; {size.folds} folds by patient, the same for every row. Learning rate and
epochs come from a short trial on a cohort that is not in the table, and from the time at hand.
Tokens: nine numbers of each marker's map in the marker's own slot,
since DINOv2's weights are not here. C is Harrell's over pairs that the same fold held out; mean over cohorts; 95% bootstrap over patients
within each cohort. Training noise is in it through the cohorts alone.""")


def _c_table(found: dict[World, list[tuple[Outcomes, Array, dict[str, Array]]]]) -> str:
    each = {world: _c(cohorts) for world, cohorts in found.items()}
    rows = [[name, *(interval(*each[w][name]) if name in each[w] else "not run" for w in each)] for name in ROWS]
    return "## C on held-out patients\n\n" + table(["", *(f"{world} world" for world in each)], rows)


def _answers(found: dict[World, list[tuple[Outcomes, Array, dict[str, Array]]]]) -> str:
    """Paired differences in words; in the invisible world, whether the virtual proteins add nothing, as they must."""
    lines = []
    for world, cohorts in found.items():
        each = _c(cohorts)
        lines.append(f"\n{world.capitalize()} world:\n")
        for name, against in PAIRS:
            if name in each and against in each:
                difference, draws = each[name][0] - each[against][0], each[name][1] - each[against][1]
                lines.append(f"- {verdict(name, against, difference, draws, 'C')}")
        if world == "invisible" and all(p in each for p in PAIRS[0]):
            low, high = np.nanquantile(each[PAIRS[0][0]][1] - each[PAIRS[0][1]][1], [0.025, 0.975])
            lines.append(
                "- The check of the method: virtual proteins add nothing where H&E shows nothing. It holds."
                if low <= 0 <= high
                else "- **The check of the method fails: the interval of MICA minus H&E alone does not cover 0 in the invisible world.**"
            )
    return "## What virtual proteins add\n\nDifferences of C on the same draws of patients, not adjusted for their number.\n" + "\n".join(
        lines
    )


def _cards(cells: Sequence[Cell]) -> str:
    rows = []
    for world in WORLDS:
        hidden = set(hidden_markers(world))
        for c in cells:
            if c["key"]["world"] == world and c["key"]["variant"] == "cohort":
                locked, r = set(c["result"]["locked"]), np.array(c["result"]["r_within"], float)
                shown = [i for i, m in enumerate(HEX_PANEL) if m not in hidden]
                gone = [i for i, m in enumerate(HEX_PANEL) if m in hidden]
                rows.append(
                    [
                        f"{world}, cohort {c['key']['seed']}",
                        f"{np.median(r[shown]):z.2f}" if shown else "none",
                        f"{len(locked - hidden)} of {len(shown)}",
                        f"{np.median(r[gone]):z.2f}" if gone else "none",
                        f"{len(locked & hidden)} of {len(gone)}",
                    ]
                )
    head = ["", "median r, shown proteins", "locked", "median r, hidden proteins", "locked "]
    return "## The virtual proteins themselves\n\nWithin slides, against the measured ones of the same patients.\n\n" + table(head, rows)


def _limits() -> str:
    return """## What this does not say

Virtual proteins are made of the same features that H&E alone reads, so with enough patients they cannot hold more. Whether they help a
smaller cohort, by what was learned about proteins on other tissue, was not measured. How much any of it is worth on real patients depends
on real encoders, assays and hazards, none of which are in here. A token of nine numbers is no DINOv2 vector, and a random network is no
pathology encoder; the networks are smaller and trained for less long than the released ones."""
