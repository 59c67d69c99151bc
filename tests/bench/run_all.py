"""Runs every bench_*.py of this folder, one after the other, and writes what they print to docs/results/bench.md and slides.md.

With names (`run_all.py slide_tiles memory`) only those run, and nothing is written.
"""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPORT = HERE.parents[1] / "docs" / "results" / "bench.md"
SLIDES = REPORT.with_name("slides.md")
HEAD = """# Benchmarks

Written by `make bench`: our path beside the tool that one would otherwise take, same data, same threads, results checked equal in the
same run. A figure counts as a ratio on one machine: {machine}.
"""

SLIDES_HEAD = """# Slides: from file to vector, measured

Written by `make bench`: the rows that the benches print, in one run on one machine: {machine}. One thread each unless a row says otherwise;
the equality in the last column was checked in the same run, on the same data. Longer output of each bench: bench.md.

| hot path | beside | theirs | ours | ratio | aim | equality |
| --- | --- | --- | --- | --- | --- | --- |
"""


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def judged(row: str) -> str:
    """The row with "missed" beside an aim that its figure (the ratio, or else our own) does not reach."""
    *cells, aim, equality = row.strip("| ").split(" | ")
    limit = re.fullmatch(r"(>=|<=) ([\d.]+)(x|%)", aim)
    figure = re.fullmatch(r"([\d.]+)(x|%)", cells[-1] if cells[-1] != "-" else cells[-2])
    if limit and figure:
        reached = float(figure[1]) >= float(limit[2]) if limit[1] == ">=" else float(figure[1]) <= float(limit[2])
        aim = aim if reached else f"{aim}, **missed**"
    return "| " + " | ".join((*cells, aim, equality)) + " |"


def main() -> int:
    parts, rows, failed = [HEAD.format(machine=machine())], [], []
    wanted = sys.argv[1:]
    for script in sorted(HERE.glob("bench_*.py")):
        if wanted and script.stem.removeprefix("bench_") not in wanted:
            continue
        print(f"--- {script.name}", flush=True)
        done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, flush=True)
        if done.returncode:
            failed.append(script.name)
        lines = done.stdout.splitlines()
        rows += [judged(line) for line in lines if line.startswith("| ")]
        told = "\n".join(line for line in lines if not line.startswith("| "))
        note = "" if done.returncode == 0 else f"\nEnded with exit code {done.returncode}: the figures above are incomplete.\n"
        parts.append(f"## {script.stem.removeprefix('bench_').replace('_', ' ')}\n\n```\n{told.rstrip()}\n```\n{note}")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    if wanted:
        print("\n".join(rows))
        return 1 if failed else 0
    REPORT.write_text("\n".join(parts))
    SLIDES.write_text(SLIDES_HEAD.format(machine=machine()) + "\n".join(rows) + "\n")
    print(f"Written: {REPORT.relative_to(HERE.parents[1])}")
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
