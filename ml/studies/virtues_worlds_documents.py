"""The sections on simulated cohorts of docs/results/retrieval.md and virtues.md, from the study's cells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ml.studies.report import interval, paragraphs, run_facts, table
from ml.studies.virtues_worlds import LEARNED, WORLDS, Size
from ml.studies.virtues_worlds_discovery import Discovery, uniform_p
from ml.studies.virtues_worlds_report import NAMES, answers, complete, counted, counted_answers, differences, facts, headline, retrieved

Cell = dict[str, Any]
START, END = "<!-- worlds -->", "<!-- /worlds -->"
TITLES = {
    "retrieval.md": "# Retrieval of similar tissues, measured\n",
    "virtues.md": "# VirTues: what its representations tell, measured\n",
}
DIFFERS = {
    "independent": "Diagnosis, laboratory and panel know nothing of each other; one panel of 20 markers.",
    "two panels": "As independent, but each patient has one of two panels at random (20 and 14 markers, 11 in common). Mean intensities "
    "can only compare the 11; VirTues is given each panel whole.",
    "tied": "Three in four patients are treated where their diagnosis is at home, so what finds laboratories finds diagnoses, too.",
}
LEARNED_NAME = next(iter(LEARNED))
MASKINGS = {"independent": "by channel", "marker": "one marker whole", "niche": "all markers at one place"}


def put(path: Path, text: str) -> None:
    """Writes a section between its marks; what stands around them stays. A document without them gets them at its end."""
    before = path.read_text() if path.exists() else TITLES[path.name]
    marked = f"{START}\n{text}\n{END}"
    if START in before and END in before:
        after = before.split(START, 1)[0] + marked + before.split(END, 1)[1]
    else:
        after = before.rstrip() + "\n\n" + marked + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(after)


def sections(cells: Sequence[Cell], size: Size) -> dict[str, str]:
    """Name of a document -> its section."""
    mine = [c for c in cells if c["key"]["task"] == "virtues-worlds"]
    cohorts = {world: found for world in WORLDS if (found := complete(mine, world)) and not found[0].keys().isdisjoint(NAMES)}
    if not cohorts:
        nothing = "## Simulated cohorts\n\nNothing is computed yet."
        return dict.fromkeys(TITLES, nothing)
    return {"retrieval.md": _retrieval(mine, cohorts, size), "virtues.md": _virtues(cells, cohorts, size)}


def _retrieval(mine: Sequence[Cell], cohorts: dict[str, Any], size: Size) -> str:
    head = f"""## Do similar niches mean similar tissue? Simulated cohorts

Written by `python -m ml.studies.virtues_worlds` (`--quick` tries it). {run_facts(mine)}

Each field of {size.size_px} x {size.size_px} um asks for the fields of other patients; a tissue is the set of its central 4 x 4 boxes of
128 um (those with 30% of tissue), and its distance to another the exact 2-Wasserstein distance with uniform weights. True is the same
distance between what the boxes really are: shares of cell types and of niches. A query's figures: Spearman of its distances with the true
ones, the share of the true ten nearest among the ten found, the share of those ten with its diagnosis, and of those from its own
laboratory over what a random draw gives (1 = no pull; more: it finds who measured). "Cosine of means" is the same representation without
its niches: one minus the cosine of the tissues' mean vectors, centred. Colours are histograms of the H&E picture (8 x 8 x 8, half the
absolute difference). "VirTues" is the small network of [virtues.md](virtues.md), trained on other patients of these laboratories;
"not trained" is the same network with the weights that its training began with. Differences are paired by patient, 95% by bootstrap over
the patients that ask (the candidates stay), not adjusted for their number."""
    short = [line for world, c in cohorts.items() for line in (headline(c, world), answers(c, world)) if line]
    parts = [paragraphs(head), "### In short", "\n".join(short)]
    for world, found in cohorts.items():
        parts += [f"### {world.capitalize()}", paragraphs(f"{DIFFERS[world]} {facts(found)}"), retrieved(found), differences(found)]
    limits = """### What this does not say

Tissue, laboratories and their strengths are simulated and chosen by us: six niches, textbook cell types, four diagnoses that differ in
their niches and in nothing else. That a distance finds them here says nothing of any real tumour. Cells are known exactly here; retrieval
does not use them, but the truth does. The network is a small one that was trained for minutes on two dozen fields, and no released weights
were run: its rank beside mean intensities is that of such a network. Intervals redraw the patients that ask and keep the candidates; one
cohort per world, one network, so neither the chance of another cohort nor of another training is in them."""
    return "\n\n".join([*parts, _not_run(cohorts, size), paragraphs(limits)])


def _not_run(cohorts: dict[str, Any], size: Size) -> str:
    """Worlds that are not there, or only in part."""
    lacking = [w for w in size.worlds if w not in cohorts or LEARNED_NAME not in cohorts[w][0]]
    return f"Not run with the network: {', '.join(lacking)}." if lacking else "Every world was run."


def _virtues(cells: Sequence[Cell], cohorts: dict[str, Any], size: Size) -> str:
    by_task = {task: [c for c in cells if c["key"]["task"] == task] for task in {c["key"]["task"] for c in cells}}
    first = [next(h[0][n] for n in NAMES if n in h[0]) for h in cohorts.values()]
    typed = max(sum(bool(np.sum(t)) for t in found.get("typing", ())) for found in first)
    head = f"""## Simulated cohorts: niches, cell types, reconstruction, discovery

Written by `python -m ml.studies.virtues_worlds` (`--quick` tries it). {run_facts(list(cells))} Retrieval on the same cohorts is in
[retrieval.md](retrieval.md).

Means, deviations and the network come from other patients of the same laboratories (simulated for that purpose), so nobody below was
trained on and no fold is needed; k-means and Leiden look at the cohort itself, as in use. Labels enter in one place, the cell types, by a
probe fitted on the other folds' patients ({size.folds} folds)."""
    parts = [paragraphs(head), "### In short", _short(by_task, cohorts)]
    if by_task.get("virtues-training"):
        parts.append(trained(by_task["virtues-training"], size))
    told = f"""### Niches and cell types

Niches and patches: k-means with as many clusters as there are true niches, on standardised vectors, against the niche that covers most
(adjusted Rand index: 0 chance, 1 equal). Cell types: macro-F1 of a multinomial logistic regression over 15 types, {size.cells} cells of
every {_ordinal(size.cell_every)} field ({typed} patients) of the world {" and ".join(size.typed)}, because cells cost VirTues most: crops
at a stride of {size.training.cell_stride} px (published: 42) with {size.training.cell_pad} px of zeros around the image. "Surroundings"
appends the mean of a Gaussian neighbourhood (sd 12 um), without which a mean over a patch of 8 um cannot know a niche: a network that looks
around should beat that row, not only the plain means. 95% by bootstrap over patients."""
    parts.append(paragraphs(told))
    for world, found in cohorts.items():
        parts += [f"#### {world.capitalize()}", paragraphs(f"{DIFFERS[world]} {facts(found)}"), counted(found)]
    if by_task.get("virtues-spread"):
        parts.append(directions(by_task["virtues-spread"]))
    if by_task.get("virtues-reconstruct"):
        parts.append(reconstructed(by_task["virtues-reconstruct"]))
    if by_task.get("virtues-discovery"):
        parts.append(discovered(by_task["virtues-discovery"], size.discovery))
    limits = """### What this does not say

Simulated tissue has six niches and textbook cell types, and its cell masks are exact: no segmentation error, no doublet, no cell that
belongs to no type. The strengths of laboratories and noise were chosen by us. The markers' vectors are random, so nothing of the protein
language model, on which VirTues rests for panels it never saw, is measured here. The network is far smaller and far less trained than the
published one; that it wins or loses here says nothing of the released weights. One cohort per world and one network: their chance is not
in the intervals, and differences are not adjusted for their number."""
    return "\n\n".join([*parts, paragraphs(limits)])


def _short(by_task: dict[str, list[Cell]], cohorts: dict[str, Any]) -> str:
    lines = [counted_answers(c, w) for w, c in cohorts.items() if len(c[0]) > 2]
    for c in by_task.get("virtues-discovery", []):
        null, true = c["result"]["nulls"], c["result"]["true"]
        nested, printed = (float(np.mean([n[k] for n in null])) for k in ("nested", "printed"))
        lines.append(
            f"- Discovery: on shuffled outcomes the nested AUROC is {nested:.3f} on average and the printed one {printed:.3f}; with the "
            f"true outcomes {true['nested']:.3f} (p = {true['p']:.3f}) and {true['printed']:.3f}."
        )
    return "\n".join(lines)


def _ordinal(n: int) -> str:
    return {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}.get(n, f"{n}th")


def trained(cells: Sequence[Cell], size: Size) -> str:
    """What the network is and what its training cost."""
    t, found = size.training, cells[0]["result"]
    rows = [
        [
            f"{s['crop']} px",
            str(s["epochs"]),
            str(s["batch"]),
            f"{s['lr']:g}",
            str(s["steps"]),
            f"{s['curve'][0][1]:.3f}",
            f"{s['loss']:.3f}",
            f"{s['seconds'] / 60:.0f} min",
        ]
        for s in found["stages"]
    ]
    text = f"""### The network

Width {t.width}, encoder blocks {t.pattern}, decoder {t.decoder}, {found["parameters"]:,} parameters (published: width 512, 16 encoder and 4
decoder blocks). Trained at 1 um per px on {found["patients"]} fields of as many patients with the panels {" and ".join(t.panels)}
({found["proteins"]} proteins), by masked reconstruction as published (60 to 100% of a channel's patches masked), in two stages: crops of
{t.first_crop} px for most steps, then of 128 px, the size of a niche, because a crop of the full size costs about seven times as
much. Markers are told apart by random, nearly orthogonal vectors of length {t.embedding} drawn by accession. The time is that of one core
that other work shared; the loss the mean squared error of standardised, blurred counts over visible and masked pixels alike.

A training of a sixth of this length was measured first on the same cohorts: its niches were worse than random weights (Spearman with the
truth 0.49 against 0.61, own site 1.57 times chance). Only its length was changed after that look, so the figures below are those of the
second of two trainings."""
    head = ["crop", "epochs", "batch", "lr", "steps", "first loss", "last loss", "clock"]
    return "\n\n".join([paragraphs(text), table(head, rows)])


def reconstructed(cells: Sequence[Cell]) -> str:
    """r per masking beside the baselines."""
    found, rows = cells[0]["result"], []
    for masking, label in MASKINGS.items():
        if masking in found:
            r = found[masking]["r"]
            rows.append([label, *(interval(r[m]["mean"], r[m]["draws"]) for m in r)])
            within = found[masking]["within"]
            rows.append([f"{label}, within crops", *(interval(within[m]["mean"], within[m]["draws"]) for m in within)])
    methods = list(found[next(iter(found))]["r"])
    n = found[next(iter(found))]["units"]
    text = f"""### Reconstruction

Mean over markers of Pearson's r over masked pixels, one crop of 128 px of each of {n} patients that the network never saw; "within crops"
takes out each crop's own mean. The correlated marker (partner) of each was learnt on as many fields of other patients. Where a marker is
masked whole nothing of it is visible, so its visible mean and nearest patch are constants (r = 0). 95% by bootstrap over patients."""
    return "\n\n".join([paragraphs(text), table(["masked", *methods], rows)])


def directions(cells: Sequence[Cell]) -> str:
    """Where the variance of the niches lies, and what they tell linearly."""
    found = cells[0]["result"]
    rows = [[name, f"{f['first']:.0%}", f"{f['directions']:.1f}", f"{f['linear']:.3f}"] for name, f in found.items()]
    text = f"""### Where the niches differ

A Euclidean distance, and so the transport between tissues, weighs a direction by its variance. Below, for niches of the world
{cells[0]["key"]["world"]}: the share of their variance along its first direction, how many directions there are in effect, and how well a
ridge regression on the standardised niches tells the true composition (mean r over its columns, fields held out in turn): what is in them,
whatever the distance makes of it."""
    return "\n\n".join([paragraphs(text), table(["", "variance in the first direction", "directions", "composition, mean r"], rows)])


def discovered(cells: Sequence[Cell], size: Discovery) -> str:
    """Shuffled outcomes, and once the true ones."""
    found = cells[0]["result"]
    nested, printed, p = (np.array([n[k] for n in found["nulls"]]) for k in ("nested", "printed", "p"))
    distance, ks = uniform_p(p, size.permutations)
    rows = [
        ["nested AUROC", f"{nested.mean():.3f}", _mean_interval(nested), _range(nested), f"{found['true']['nested']:.3f}"],
        ["printed AUROC", f"{printed.mean():.3f}", _mean_interval(printed), _range(printed), f"{found['true']['printed']:.3f}"],
        ["p of the nested AUROC", f"{p.mean():.3f}", _mean_interval(p), _range(p), f"{found['true']['p']:.3f}"],
    ]
    told = "is not told apart from the uniform law" if ks > 0.05 else "**is not uniform**"
    low, high = _bounds(nested)
    half = "covers 1/2" if low <= 0.5 <= high else "**does not cover 1/2**"
    small = [f"{(p <= a + 1e-9).mean():.0%} at or below {a:g}" for a in (0.05, 0.1, 0.5)]
    text = f"""### Discovery on shuffled outcomes

The recipe of biomarker discovery (Leiden clusters of cells, ranks by tertiles, a screen, the best two clusters of each direction, one
logistic regression) on {found["cells"]:,} cells of {found["patients"]} patients ({found["responders"]} responders), each cell by the mean
intensities of itself and its surroundings; {found["clusters"]} clusters, found once. Responses were shuffled {len(nested)} times, and each
shuffling went through everything with {size.permutations} permutations of its own. The repeats are fewer than the paper's so that this
takes minutes: {size.screen_repeats} splits of the screen (10), {size.joint_repeats} of the joint model (25), {size.outer_repeats} outer
split of {size.folds} folds, resolutions from 4 to 5 by {size.step:g} (0.05).

On shuffled outcomes the mean nested AUROC is {nested.mean():.3f} (its 95% interval {half}), while the printed one, which chooses and
measures on the same patients, is {printed.mean():.3f} on average and above 0.6 in {(printed > 0.6).mean():.0%} of the shufflings: **that
much is its optimism, for there is nothing to find**. The permutation p {told} (Kolmogorov-Smirnov distance {distance:.3f}, p = {ks:.2f};
each p spread over its step of 1/{size.permutations + 1}): {", ".join(small)}. With the true responses ({size.true_permutations}
permutations) the recipe reaches {found["true"]["nested"]:.3f} nested, p = {found["true"]["p"]:.3f}; a reader of the true odds that the
responses were drawn from, who knows the whole tissue, would reach {found["ceiling"]:.3f}."""
    head = ["", "shuffled: mean", "95% of the mean", "5% to 95%", "true responses"]
    return "\n\n".join([paragraphs(text), table(head, rows)])


def _bounds(values: Any) -> tuple[float, float]:
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _mean_interval(values: Any) -> str:
    low, high = _bounds(values)
    return f"{low:.3f} to {high:.3f}"


def _range(values: Any) -> str:
    low, high = np.quantile(values, [0.05, 0.95])
    return f"{low:.3f} to {high:.3f}"
