"""The section on scale of docs/results/retrieval.md from the cells of `ml.studies.retrieval_scale`: every figure comes from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ml.studies.report import paragraphs, run_facts, table
from ml.studies.retrieval_scale import DIM, KINDS, NICHES, K

Cell = dict[str, Any]
START, END = "<!-- scale -->", "<!-- /scale -->"
TITLE = "# Retrieval of similar tissues, measured\n"


def put(path: Path, text: str) -> None:
    """Writes the section between its marks; what stands around them stays. A document without them gets them at its end."""
    before = path.read_text() if path.exists() else TITLE
    marked = f"{START}\n{text}\n{END}"
    if START in before and END in before:
        head, rest = before.split(START, 1)
        after = head + marked + rest.split(END, 1)[1]
    else:
        after = before.rstrip() + "\n\n" + marked + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(after)


def section(cells: Sequence[Cell]) -> str:
    """The section."""
    mine = sorted((c for c in cells if c["key"].get("task") == "scale"), key=lambda c: (c["key"]["n"], list(KINDS).index(c["key"]["kind"])))
    if not mine:
        return "## How many tissues can be searched\n\nNothing is computed yet."
    return "\n\n".join((_head(mine), _searches(mine), _verdicts(mine), _folder_table(mine), _limits()))


def _head(cells: Sequence[Cell]) -> str:
    kinds = [name for name in KINDS if any(c["key"]["kind"] == name for c in cells)]
    lines = "\n".join(f"- *{name}*: {KINDS[name].title}." for name in kinds)
    text = f"""## How many tissues can be searched

Written by `python -m ml.studies.retrieval_scale`. {run_facts(cells)}

Simulated tissues of {NICHES} niches x {DIM} dimensions, two per patient; the exact {K} nearest in 2-Wasserstein distance among the
tissues of other patients, by the set index (`ml/transport/index.py`) and by a loop of POT's `emd2` over all of them. One core; processor
time, because the machine did other work, too, with the time by the clock in brackets. Each query is asked twice and the second time is
given: the first may find parts of the files not in memory, which the loop has then read. Kinds of tissues:"""
    return paragraphs(text) + "\n\n" + lines


def _mean(cell: Cell, name: str) -> float:
    return float(np.mean([q[name] for q in cell["result"]["queries"]]))


def _searches(cells: Sequence[Cell]) -> str:
    rows = []
    for c in cells:
        q = c["result"]["queries"]
        ours, theirs = _mean(c, "ours_cpu"), _mean(c, "theirs_cpu")
        rows.append(
            [
                f"{c['key']['n']:,}",
                c["key"]["kind"],
                f"{theirs:.2f} s ({_mean(c, 'theirs'):.2f})",
                f"{ours * 1e3:.0f} ms ({_mean(c, 'ours') * 1e3:.0f})",
                f"{theirs / ours:.0f}x",
                f"{_mean(c, 'after_first'):,.0f} ({100 * _mean(c, 'after_first') / _mean(c, 'searched'):.1f}%)",
                f"{_mean(c, 'transported'):,.0f}",
                f"{sum(one['same'] for one in q)} of {len(q)}",
                f"{max(one['apart'] for one in q):.1g}",
            ]
        )
    head = (
        "tissues",
        "kind",
        "POT loop",
        "index",
        "ratio",
        "left by the first stage",
        "transported",
        f"same {K}, same order",
        "largest gap",
    )
    return table(head, rows)


def _verdicts(cells: Sequence[Cell]) -> str:
    """What the figures say of the aims, in words made of them."""
    told = []
    for c in cells:
        n, kind = c["key"]["n"], c["key"]["kind"]
        ratio, slowest = _mean(c, "theirs_cpu") / _mean(c, "ours_cpu"), max(q["ours_cpu"] for q in c["result"]["queries"])
        if n == 20_000:
            told.append(f"{n:,} *{kind}*: {ratio:.0f}x, the aim of 25x is {'met' if ratio >= 25 else 'missed'}.")
        else:
            told.append(
                f"{n:,} *{kind}*: slowest query {slowest:.2f} s of processor time, the aim of 1 s is {'met' if slowest <= 1 else 'missed'}."
            )
    same = all(q["same"] for c in cells for q in (*c["result"]["queries"], c["result"]["after_update"]))
    told.append("Every answer was that of the loop." if same else "Not every answer was that of the loop: see the table.")
    return paragraphs(" ".join(told))


def _folder_table(cells: Sequence[Cell]) -> str:
    rows = []
    for c in cells:
        r = c["result"]
        rows.append(
            [
                f"{c['key']['n']:,}",
                c["key"]["kind"],
                f"{r['build_cpu']:.1f} s ({r['build']:.1f})",
                f"{r['bytes'] / 1e9:.2f} GB, of it {r['points_bytes'] / 1e9:.2f} the points",
                f"{r['open'] * 1e3:.0f} ms",
                f"{r['update_cpu']:.2f} s ({r['update']:.2f})" + (f", {r['refitted']}" if r["refitted"] else ""),
                f"{r['update_bytes'] / 1e6:.1f} MB",
                "yes" if r["after_update"]["same"] else "no",
                f"{100 * r['left_out']:.0f}%",
            ]
        )
    head = ("tissues", "kind", "build", "on the disk", "open", "update", "written by it", f"same {K} after it", "variance outside the axes")
    text = """The index itself. Build: from sets in memory to a complete folder, synced to the disk. Update: 100 tissues added and 100
removed; unchanged files are linked, not copied."""
    return paragraphs(text) + "\n\n" + table(head, rows)


def _limits() -> str:
    text = """What this does not show. The tissues are drawn, not real: how many the first stage leaves depends on how much of the niches'
variance lies in few directions and on how far tissues are apart, so a cohort of one's own should be measured
(`TopK.n_after_first_stage` comes with every answer). Where every niche is drawn by itself, no coarse bound can tell tissues apart in 512
dimensions, and every tissue is bounded in full; the answer stays exact and only the gain shrinks. Pages that are not in memory come from
the disk at its speed: the first search after a restart reads the coarse coordinates and the means whole."""
    return paragraphs(text)
