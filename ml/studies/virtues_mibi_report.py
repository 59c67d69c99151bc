"""The section of docs/results/virtues.md on the MIBI field, between its two marks: every figure and judgement comes from the cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ml.studies.report import interval, limits, paragraphs, run_facts, table

Cell = dict[str, Any]
OPEN, CLOSE = "<!-- mibi -->", "<!-- /mibi -->"
TITLE = "# VirTues: what its representations tell, measured\n"
NAMES = {"independent": "patches of each channel", "marker": "a whole marker", "niche": "a niche"}
METHODS = {"network": "network", "visible mean": "visible mean", "partner": "most correlated marker", "nearest patch": "nearest patch"}
FIGURES = {"r": "r", "within": "r within a square", "f1": "F1 of positivity"}


def written(document: str, text: str) -> str:
    """The document with this section in its place; the rest, other studies' among it, stays as it is."""
    new = f"{OPEN}\n{text.strip()}\n{CLOSE}\n"
    if OPEN in document and CLOSE in document:
        return re.sub(re.escape(OPEN) + ".*" + re.escape(CLOSE) + "\n?", lambda _: new, document, flags=re.DOTALL)
    return f"{document.rstrip() or TITLE.rstrip()}\n\n{new}"


def section(cells: Sequence[Cell]) -> str:
    """The section. What is not computed says so."""
    of = {c["key"]["task"]: c["result"] for c in cells if c["key"]["task"] != "reconstruct"}
    found = {c["result"]["masking"]: c["result"] for c in cells if c["key"]["task"] == "reconstruct"}
    parts = ["## One real field: MIBI-TOF, breast DCIS", _told(cells, of, found)]
    if found:
        parts += [_figures(found), _judged(found)]
        if "marker" in found:
            parts.append(_markers(found, of["fit"]))
    return "\n\n".join(parts)


def _told(cells: Sequence[Cell], of: dict[str, Any], found: dict[str, Any]) -> str:
    pitch, fit = of.get("pitch"), of.get("fit")
    text = f"""Written by `python -m ml.studies.virtues_mibi write` from cells that `python -m ml.studies.virtues_mibi` computes.
{run_facts(cells)} A training that was stopped
and went on is counted from there; all of it is told below.

One field of one patient (Risom et al. 2022; 1,024 x 1,024 px, 0.39 um per px, 41 channels). So nothing here is about patients: the held-out
parts are squares of the same field, and the intervals are over squares. It says that pretraining, masking, baselines and files work on real
counts, and how far a small network comes in minutes of one core; it is not the published model, whose weights are not here.
"""
    if pitch:
        shared = set.intersection(*(set(p["reliability"]) for p in pitch.values()))
        each = "; ".join(
            f"{0.39 * int(k):.2f} um: {len(p['empty'])} of 41 channels empty (99th percentile 0 in the tissue), reliability of a pixel "
            f"{np.median([p['reliability'][m] for m in shared]):.3f}"
            for k, p in pitch.items()
        )
        text += f"""
**Pitch.** {each} (median of the {len(shared)} markers that carry something at every pitch; two halves of the ions, stepped up). At 0.78 um
cells are still told apart (a patch of 8 px is 6.2 um) and a crop costs a quarter, so that is what is used. Ions are taken as
independent: in a file that was denoised, as such files mostly are, a reliability near 1 does not say that the assay repeats so well.
"""
    if fit:
        minutes = fit["cpu_seconds_per_step"] * fit["steps"] / 60
        real, random = len(fit["markers"]) - len(fit["random"]), len(fit["random"])
        ended = "steps" if fit["stopped_by"] == "steps" else "time limit, before its learning rate had come down"
        squares = next(iter(found.values()))["crops"] if found else "?"
        reasons = {why: [n for n, w in fit["dropped"] if w == why] for _, why in fit["dropped"]}
        left = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        text += f"""
**Network.** {fit["parameters"]:,} parameters (published: 42 million): width 96, four encoder blocks, one decoder block; crops of 64 px
(50 um; published: 128 um), 4 per step, {fit["steps"]:,} steps, {minutes:.0f} minutes of one core; AdamW, cosine from 0.001; masks and
channel dropout as published. Training ended by its {ended}. The held-out squares were looked at after a shorter training of the same
recipe (1,530 steps; a whole marker: 0.349, below the most correlated one by 0.090) and it was made longer then; nothing else was
changed after a look. Loss at the end {fit["loss"]:.3f} (mean squared error in deviations, visible patches included). A channel is
wholly masked in about 4% of the draws (a ratio above 63/64), so painting a whole marker is what so short a training has seen least of.

**Markers.** {len(fit["markers"])} of 41; left out: {left}. Embeddings: {real} markers have their published ESM-2 vector; for the other
{random} ({", ".join(fit["random"])}) no protein model was to be had, so **their vectors are random**, orthogonal to each other and to the
published ones, of the same length, from a fixed seed. They name a channel; they say nothing of its protein, and no transfer to another
panel can be read from this. Phosphorus and "Nuc" (a sum of nuclear channels, r = 0.99 with HH3) are no proteins and would have given
markers away.

**Held out.** A grid of 4 x 4 cells of 100 um; four of them, one per row and column, chosen by counts alone (least different from the
field). Training crops keep 12 um off them, so no cell of the tissue is on both sides. Percentiles, means and deviations are of the training
part. Measured on squares of 50 um with at least 5% tissue, as training crops have: {squares} of 16
(the others hold less).
"""
    return paragraphs(text)


def _figures(found: dict[str, Any]) -> str:
    head = ["masked", "figure", *METHODS.values()]
    rows = []
    for masking, label in NAMES.items():
        for figure, name in FIGURES.items():
            if masking in found:
                cells = [interval(found[masking][figure][m]["mean"], found[masking][figure][m]["draws"]) for m in METHODS]
                rows.append([label, name, *cells])
    legend = """Means over markers, with 95% intervals over squares; masked pixels only. r: all squares together, as published. Within a
square: every square's own mean taken out, so that how bright a square is counts for nothing. Positive: above the marker's mean in the
training tissue. Visible mean: of the channel's visible pixels in the square; with a whole marker masked there are none, its training mean
stands in, which has r = 0 by definition and calls nothing positive. Most correlated marker: at every patch the one most correlated
with it (learnt on the training part, by regression) among those visible there; in a niche none is visible, and what is left is the visible
mean. No baseline reads a pixel that the network may not see. Nearest patch: mean of the channel's nearest visible patch; not among the
published baselines, and a harder one."""
    return f"{table(head, rows)}\n\n{paragraphs(legend)}"


def _judged(found: dict[str, Any]) -> str:
    """A sentence per masking on r, then every difference."""
    short, lines = [], []
    for masking, label in NAMES.items():
        if masking not in found:
            continue
        methods = [m for m in METHODS if m != "network" and (masking, m) != ("marker", "nearest patch")]
        for figure, name in FIGURES.items():
            mine, told = found[masking][figure]["network"], {"above": [], "below": [], "not told apart from": []}
            for method in methods:
                other = found[masking][figure][method]
                draws = np.subtract(mine["draws"], other["draws"])
                low, high = limits(draws)
                where = "above" if low > 0 else "below" if high < 0 else "not told apart from"
                told[where].append(f"{METHODS[method]} ({interval(mine['mean'] - other['mean'], draws, sign=True)})")
            line = "; ".join(f"{where} {', '.join(them)}" for where, them in told.items() if them)
            lines.append(f"- {label} masked, {name}: the network is {line}.")
            if figure == "r":
                names = [f"{where} {', '.join(t.split(' (')[0] for t in them)}" for where, them in told.items() if them]
                short.append(f"{label} masked: {'; '.join(names)}")
    return "\n".join(
        [
            paragraphs(f"**In short** (r, against each baseline). {'. '.join(s[0].upper() + s[1:] for s in short)}."),
            "",
            "Differences on the same draws of squares, not adjusted for their number:",
            "",
            *lines,
        ]
    )


def _markers(found: dict[str, Any], fit: dict[str, Any]) -> str:
    one = found["marker"]
    order = np.argsort([-1 if v is None else -v for v in one["r"]["network"]["markers"]])
    show = lambda v: "-" if v is None else f"{v:.2f}"  # noqa: E731
    rows = []
    for i in order:
        name = one["markers"][i]
        cells = [show(found[m]["r"][k]["markers"][i]) for m in NAMES if m in found for k in ("network", "visible mean", "partner")]
        rows.append([f"{name}{' (random vector)' if name in fit['random'] else ''}", *cells])
    head = ["marker", *(f"{m}: {k}" for m in NAMES if m in found for k in ("network", "visible mean", "partner"))]
    tell = "r of each marker, by what the network tells of it when it is masked whole (a dash: it does not vary in the squares)."
    return f"{tell}\n\n{table(head, rows)}"
