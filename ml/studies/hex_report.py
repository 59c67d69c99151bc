"""docs/results/hex.md from the cells of the study: every figure and every judgement in words comes from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.hex.panel import HEX_PANEL
from ml.simulate.worlds import World, hidden_markers
from ml.studies import hex_her2st, hex_worlds
from ml.studies.her2st import LEAST_COUNTS
from ml.studies.report import interval, limits, paragraphs, run_facts, table, verdict

Cell = dict[str, Any]
Array = NDArray[np.float64]
DRAWS = 1000
TASKS = (("C2", "C3"), ("C2", "C4"), ("C", "A1"), ("C shrunk", "A1"))
NAMES = {("C2", "C3"): "C2 → C3", ("C2", "C4"): "C2 → C4", ("C", "A1"): "C → A1", ("C shrunk", "A1"): "C shrunk → A1"}
RIDGE = "ridge, same features"
# What the rows that read the section's own expression know of it.
OWN = {
    "ridge within the section": " (same features, fitted on its other blocks)",
    "coordinates": " (nearest spots of its other blocks)",
    "section mean": " (constant: r = 0 by definition)",
}

HEAD = """# HEX: what it tells, measured

Written by `python -m ml.studies.hex write` from cells that `python -m ml.studies.hex` computes; a stopped run goes on where it was.
{facts}

What was not run: MUSK, UNI, CONCH, Virchow2, H-optimus and the other pathology encoders need weights behind their owners' terms, and
none are here. So nothing below says how good HEX is on its own backbone; it says what head, FDS and ALF add to what can be run by
anybody, beside predictors that cost nothing. Sizes are reduced to one core: they are stated with each table.
"""


def report(cells: Sequence[Cell]) -> str:
    """The document. Sections without cells say so."""
    return (
        "\n\n".join([paragraphs(HEAD.format(facts=run_facts(cells))), _short(cells), *_her2st(cells), *_worlds(cells), *_backbones(cells)])
        + "\n"
    )


def _short(cells: Sequence[Cell]) -> str:
    """The judgements of the sections below, without their tables."""
    lines = []
    spots, worlds = ([c for c in cells if c["key"]["task"] == task] for task in ("her2st", "worlds"))
    if spots:
        lines.append(f"- her2st. {_against_ridge(spots).splitlines()[0]}")
    if worlds:
        lines.append(f"- Three worlds. {_hidden_told(worlds)}")
        lines += [line for line in _effects(worlds).splitlines() if "visible world" in line]
    return "\n".join(["## In short", "", *(lines or ["Nothing is computed yet."])])


# --- her2st


def _her2st(cells: Sequence[Cell]) -> list[str]:
    mine = [c for c in cells if c["key"]["task"] == "her2st"]
    if not mine:
        return ["## her2st\n\nNot computed."]
    size = hex_her2st.Size()
    spots = {s: f["spots"] for c in mine for s, f in c["result"]["sections"].items()}
    told = ", ".join(f"{s} {n}" for s, n in sorted(spots.items()))
    config = hex_her2st.head_config(("a gene",), "head, MSE", 0, size.epochs)
    text = paragraphs(f"""## her2st: 785 genes at spots of real sections

Spots of 100 um with a tile of 112 um (fixed H&E descriptors, 32 values, nothing trained), expression log(1 + counts per 10,000),
spots with under {LEAST_COUNTS} counts left out, which leaves {told}. The head (256, 128, 785) was trained on all spots of the fitting
sections for {config.epochs:g} epochs (the paper: 120), batch {config.batch}, AdamW, cosine from {config.lr:g}; FDS acts for the same
share of the epochs as released. Nothing was tuned on these sections. C2 → C3 and C2 → C4: **sections of one patient**; what holds there may
hold for her alone. C → A1: fitted on C2, C3 and C4, predicted on another patient, of whom there is only a picture of 2,000 px (3.2 um per
px): **a stress test, one section**. "Shrunk": the pictures of C were brought to that resolution first. FDS was not run on C at its own
resolution, and the fits on C have one seed (C2: two, averaged).

Median over genes of Pearson's r within the section (a gene that does not vary in it is left out), with a 95% bootstrap over blocks of
4 x 4 spots, and the share of genes with r > 0.3. The bootstrap redraws places in the section: it is no interval over patients.""")
    rows, shares = [], []
    for variant in (*hex_her2st.LOSSES, *hex_her2st.SIMPLE):
        found = [_task(mine, fit, variant, section) for fit, section in TASKS]
        rows.append([variant, *("not run" if f is None else interval(f[0], f[1]) for f in found)])
        shares.append([variant, *("not run" if f is None else f"{100 * f[2]:.0f}%" for f in found)])
    for variant in hex_her2st.WITHIN:
        found = [_task(mine, "itself", variant, section) for _, section in TASKS]
        label = f"{variant}{OWN[variant]}"
        rows.append([label, *("not run" if f is None else interval(f[0], f[1]) for f in found)])
        shares.append([label, *("not run" if f is None else f"{100 * f[2]:.0f}%" for f in found)])
    heads = [NAMES[t] for t in TASKS]
    return [
        text,
        table(["median r", *heads], rows),
        table(["genes with r > 0.3", *heads], shares),
        "The last three rows read the measured expression of the very section, so they cannot be carried to another one and compete with\n"
        "nothing. Ridge within the section shows how much of the expression these features tell at all; coordinates, the mean of the six\n"
        "nearest spots of other blocks, what smoothness in space is worth at the distance of a block.",
        _against_ridge(mine),
        _losses(mine),
    ]


def _task(cells: Sequence[Cell], fit: str, variant: str, section: str) -> tuple[float, Array, float] | None:
    """(median r, its draws, share of genes above 0.3), means over seeds."""
    found = list(hex_her2st.of_task(list(cells), fit, variant, section))
    if not found:
        return None
    draws = np.mean([f["draws_median_r"] for f in found], axis=0)
    return float(np.mean([f["median_r"] for f in found])), draws, float(np.mean([f["share_good"] for f in found]))


def _against_ridge(cells: Sequence[Cell]) -> str:
    """A sentence per head and task, and one that counts them: does anything trained beat ridge on the same features?"""
    lines, above, below, other = [], 0, 0, 0
    for fit, section in TASKS:
        ridge = _task(cells, fit, RIDGE, section)
        for variant in hex_her2st.LOSSES:
            head = _task(cells, fit, variant, section)
            if head is None or ridge is None:
                continue
            difference, draws = head[0] - ridge[0], head[1] - ridge[1]
            low, high = limits(draws)
            above, below, other = above + (low > 0), below + (high < 0), other + (low <= 0 <= high)
            lines.append(f"- {NAMES[fit, section]}: {verdict(variant, 'ridge', difference, draws, 'median r')}")
    total = above + below + other
    told = f"Against ridge on the same features, {total} heads and tasks: {above} above it, {below} below it, {other} not to be told apart"
    if above == 0:
        told = f"**Ridge wins or draws everywhere.** {told}"
    elif below > above:
        told = f"**Ridge wins more often than it loses.** {told}"
    return "\n".join([f"{told} (paired draws of blocks, not adjusted for their number). {_highest(cells)}", "", *lines])


def _highest(cells: Sequence[Cell]) -> str:
    """Which row that can be carried to another section has the highest median r, per task."""
    told = []
    for fit, section in TASKS:
        found = {v: f[0] for v in (*hex_her2st.LOSSES, *hex_her2st.SIMPLE) if (f := _task(cells, fit, v, section)) is not None}
        if found:
            best = max(found, key=lambda v: found[v])
            told.append(f"{NAMES[fit, section]} {best} ({found[best]:.3f})")
    return f"Highest median r: {'; '.join(told)}."


def _losses(cells: Sequence[Cell]) -> str:
    lines = []
    for fit, section in TASKS:
        plain = _task(cells, fit, "head, MSE", section)
        for variant in hex_her2st.LOSSES:
            mine = _task(cells, fit, variant, section)
            if plain is not None and mine is not None and variant != "head, MSE":
                told = verdict(variant, "head, MSE", mine[0] - plain[0], mine[1] - plain[1], "median r")
                lines.append(f"- {NAMES[fit, section]}: {told}")
    return "\n".join(["What FDS and ALF add to the head:", "", *lines])


# --- three worlds


def _worlds(cells: Sequence[Cell]) -> list[str]:
    mine = [c for c in cells if c["key"]["task"] == "worlds"]
    if not mine:
        return ["## Three worlds\n\nNot computed."]
    size, any_cell = hex_worlds.Size(), next(c["result"] for c in mine if "r" in c["result"])
    parts = [
        paragraphs(f"""## Three worlds: known truth

Simulated slides of two sites, the same pictures in every world; only the assay's labels differ. Visible: all 40 proteins are those
that the simulator painted. Mixed: every second one ({", ".join(hidden_markers("mixed")[:4])}, ...) has the law and the smoothness of its
protein but nothing of its place or amount. Invisible: all 40. {size.patients} patients of {size.size_px} px at 0.5 um per px per cohort,
about {any_cell["tiles"] // any_cell["slides"]} tiles of 56 um each, {len(size.seeds)} cohorts; two folds by patient (the paper: five folds,
75,000 tiles a slide); compact-resnet-48 trained end to end for {size.epochs} epochs, FDS for the same share of them as released. Figures
are on held-out patients: median over markers of the median over slides of r within the slide, mean over cohorts, with a 95% bootstrap over
patients. Locked: within-slide R2 below 0.10, or unmeasured, so that a page may not show the marker.""")
    ]
    parts.append(_world_table(mine))
    parts.append(_locks(mine))
    parts.append(_effects(mine))
    parts.append(_proteins(mine))
    return parts


def _result(cells: Sequence[Cell], world: World, variant: str) -> list[Cell]:
    """Figures of a variant, one per seed in order."""
    simple = variant in hex_worlds.BASELINES
    found = [c for c in cells if c["key"]["world"] == world and c["key"]["variant"] == ("baselines" if simple else variant)]
    found.sort(key=lambda c: c["key"]["seed"])
    return [c["result"][variant] if simple else c["result"] for c in found]


def _columns(world: World, hidden: bool) -> list[int]:
    absent = set(hidden_markers(world))
    return [i for i, m in enumerate(HEX_PANEL) if (m in absent) == hidden]


def _median_r(results: Sequence[Cell], columns: Sequence[int]) -> tuple[float, Array]:
    """Value and draws (the same patients are drawn whatever the variant)."""
    values, draws = [], []
    for seed, result in enumerate(results):
        r = np.array(result["r"], float)[:, columns]
        rng = np.random.default_rng(1000 + seed)
        rows = rng.integers(0, len(r), (DRAWS, len(r)))
        values.append(np.nanmedian(np.nanmedian(r, axis=0)))
        draws.append(np.nanmedian(np.nanmedian(r[rows], axis=1), axis=1))
    return float(np.mean(values)), np.mean(draws, axis=0)


def _world_table(cells: Sequence[Cell]) -> str:
    rows = []
    for variant in (*hex_worlds.LOSSES, *hex_worlds.BASELINES):
        row = [variant + (" (oracle)" if variant == "slide mean" else "")]
        for world, hidden in (("visible", False), ("mixed", False), ("mixed", True), ("invisible", True)):
            results = _result(cells, world, variant)
            row.append(interval(*_median_r(results, _columns(world, hidden)), digits=2) if results else "not run")
        rows.append(row)
    return table(["median r within slides", "visible world", "mixed: shown half", "mixed: hidden half", "invisible world"], rows)


def _locks(cells: Sequence[Cell]) -> str:
    """How many markers are locked, and whether every hidden one is."""
    rows = []
    for variant in (*hex_worlds.LOSSES, "ridge on colour and texture"):
        row = [variant]
        for world, hidden in (("visible", False), ("mixed", False), ("mixed", True), ("invisible", True)):
            names = {HEX_PANEL[i] for i in _columns(world, hidden)}
            found = [names & set(result["locked"]) for result in _result(cells, world, variant)]
            row.append(", ".join(f"{len(f)} of {len(names)}" for f in found) or "not run")
        rows.append(row)
    head = ["locked, per cohort", "visible world", "mixed: shown half", "mixed: hidden half", "invisible world"]
    return f"{table(head, rows)}\n\n{_hidden_told(cells)}"


def _hidden_told(cells: Sequence[Cell]) -> str:
    """Whether every marker that H&E does not show is locked, with every loss and in every cohort; else which are not."""
    still_open = []
    for variant in (*hex_worlds.LOSSES, "ridge on colour and texture"):
        for world in ("mixed", "invisible"):
            for result in _result(cells, world, variant):
                gone = sorted(set(hidden_markers(world)) - set(result["locked"]))
                still_open += [f"{m} ({variant}, {world} world)" for m in gone]
    if not still_open:
        return "Every hidden marker is locked by its card, in every cohort and with every loss."
    return f"**{len(still_open)} hidden markers are not locked: {', '.join(still_open[:12])}.**"


def _effects(cells: Sequence[Cell]) -> str:
    """FDS and ALF against plain MSE, and HEX against ridge, on the proteins that H&E shows."""
    lines = []
    for world in ("visible", "mixed"):
        plain, ridge = (_result(cells, world, v) for v in ("HEX, MSE", "ridge on colour and texture"))
        pairs = [("HEX, MSE", plain, "ridge on colour and texture", ridge)]
        pairs += [(v, _result(cells, world, v), "HEX, MSE", plain) for v in hex_worlds.LOSSES if v != "HEX, MSE"]
        for name, mine, against, other in pairs:
            if mine and other:
                difference, draws = _mean_difference(mine, other, _columns(world, False))
                lines.append(f"- {verdict(name, against, difference, draws, f'mean r, {world} world')}")
    head = paragraphs(
        "What HEX adds to ridge, and the losses to HEX: differences of r on the same slide and marker, mean over the markers that H&E "
        "shows and over slides, patients redrawn. Not adjusted for their number; training noise is in them through the cohorts alone."
    )
    return "\n".join([head, "", *lines])


def _mean_difference(mine: Sequence[Cell], other: Sequence[Cell], columns: Sequence[int]) -> tuple[float, Array]:
    """Mean over cohorts of the mean paired difference of r, and its draws."""
    values, draws = [], []
    for seed, (a, b) in enumerate(zip(mine, other)):
        per_slide = np.nanmean((np.array(a["r"], float) - np.array(b["r"], float))[:, columns], axis=1)
        rows = np.random.default_rng(1000 + seed).integers(0, len(per_slide), (DRAWS, len(per_slide)))
        values.append(per_slide.mean())
        draws.append(per_slide[rows].mean(axis=1))
    return float(np.mean(values)), np.mean(draws, axis=0)


def _proteins(cells: Sequence[Cell]) -> str:
    """Per protein: r within slides, median over slides, mean over cohorts."""
    columns = [("visible", v) for v in (*hex_worlds.LOSSES, "ridge on colour and texture")]
    columns += [("mixed", "HEX, MSE"), ("mixed", "HEX, ALF + FDS"), ("invisible", "HEX, MSE"), ("invisible", "HEX, ALF + FDS")]
    means = []
    for world, variant in columns:
        found = [np.nanmedian(np.array(r["r"], float), axis=0) for r in _result(cells, world, variant)]
        means.append(np.mean(found, axis=0) if found else np.full(len(HEX_PANEL), np.nan))
    hidden = set(hidden_markers("mixed"))
    rows = [
        [m, "hidden" if m in hidden else "shown", *("-" if np.isnan(values[i]) else f"{values[i]:z.2f}" for values in means)]
        for i, m in enumerate(HEX_PANEL)
    ]
    head = ["protein", "in the mixed world", *(f"{world}: {variant}" for world, variant in columns)]
    return "Per protein, r within slides of held-out patients (median over slides, mean over cohorts):\n\n" + table(head, rows)


# --- backbones


def _backbones(cells: Sequence[Cell]) -> list[str]:
    mine = [c["result"] for c in sorted(cells, key=lambda c: c["key"].get("seed", 0)) if c["key"]["task"] == "backbones"]
    if not mine:
        return ["## Backbones\n\nNot computed."]
    columns, worlds = _columns("visible", False), [c for c in cells if c["key"]["task"] == "worlds"]
    rows = [
        ["compact-resnet-48, trained end to end", interval(*_median_r(_result(worlds, "visible", "HEX, MSE"), columns), digits=2)],
        ["he-descriptors (fixed), the same head", interval(*_median_r([m["head"] for m in mine], columns), digits=2)],
        ["he-descriptors (fixed), ridge", interval(*_median_r([m["ridge"] for m in mine], columns), digits=2)],
    ]
    text = paragraphs("""## Backbones that need nobody's weights

The paper compares MUSK, CONCH, UNI, Virchow2 and H-optimus-1. Here stand those of the catalogue that can be run without weights, on the
slides and folds of the visible world, MSE. The compact encoder starts from random weights on some 700 tiles per fold; the head on fixed
descriptors, which are standardised over all tiles, has three times the epochs, since nothing is augmented.""")
    compact, lines = _result(worlds, "visible", "HEX, MSE"), []
    for name in ("head", "ridge"):
        if compact:
            difference, draws = _mean_difference([m[name] for m in mine], compact, columns)
            label = f"he-descriptors with {'the same head' if name == 'head' else 'ridge'}"
            lines.append(f"- {verdict(label, 'compact-resnet-48 end to end', difference, draws, 'mean r, visible world')}")
    return [text, table(["encoder", "median r within slides"], rows), "\n".join(lines)]
