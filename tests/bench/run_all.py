"""Runs every bench_*.py of this folder, one after the other, and writes what they print to docs/results/bench.md."""

import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPORT = HERE.parents[1] / "docs" / "results" / "bench.md"
HEAD = """# Benchmarks

Written by `make bench`: our path beside the tool that one would otherwise take, same data, same threads, results checked equal in the
same run. A figure counts as a ratio on one machine: {machine}.
"""


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> int:
    parts, failed = [HEAD.format(machine=machine())], []
    for script in sorted(HERE.glob("bench_*.py")):
        print(f"--- {script.name}", flush=True)
        done = subprocess.run([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, flush=True)
        if done.returncode:
            failed.append(script.name)
        note = "" if done.returncode == 0 else f"\nEnded with exit code {done.returncode}: the figures above are incomplete.\n"
        parts.append(f"## {script.stem.removeprefix('bench_').replace('_', ' ')}\n\n```\n{done.stdout.rstrip()}\n```\n{note}")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join(parts))
    print(f"Written: {REPORT.relative_to(HERE.parents[1])}")
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
