"""From a fresh clone to a case page: writes docs/results/first-run.md. `make first-run` (about ten minutes, longer with --tests).

Clones the committed state, makes its environment, starts it with an empty home, waits for the demo, asks for case pages, stops it and
starts it again. Every figure is wall clock on this machine; nothing is asserted.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "docs" / "results" / "first-run.md"
CASES = 40
COST = """
import json, statistics, time
from django.conf import settings
from django.db import connection, reset_queries
from django.test import Client
from django.test.utils import CaptureQueriesContext
from tissueboard.accounts.models import User
from tissueboard.cohorts.models import Patient
client = Client()
client.force_login(User.objects.get(username="manager"))
times, queries, sizes = [], [], []
for patient in list(Patient.objects.filter(cohort__simulated=True).order_by("pk"))[:%d]:
    client.get(f"/cases/{patient.pk}/")
    with CaptureQueriesContext(connection) as seen:
        began = time.perf_counter()
        answer = client.get(f"/cases/{patient.pk}/")
        times.append(1000 * (time.perf_counter() - began))
    assert answer.status_code == 200, answer.status_code
    queries.append(len(seen)); sizes.append(len(answer.content) / 1024)
times.sort()
print("COST " + json.dumps(dict(n=len(times), median_ms=statistics.median(times), p95_ms=times[int(0.95 * (len(times) - 1))],
      queries_max=max(queries), queries_median=statistics.median(queries), kib=statistics.median(sizes))))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def folder_mib(folder: Path) -> float:
    return int(subprocess.run(["du", "-sk", str(folder)], capture_output=True, text=True, check=True).stdout.split()[0]) / 1024


class Run:
    """`make run` of the clone, with its output in a file."""

    def __init__(self, clone: Path, home: Path):
        self.port, self.log, self.began = free_port(), home.parent / "run.log", time.monotonic()
        environment = {**os.environ, "TISSUEBOARD_HOME": str(home)}
        command = ["make", "run", f"PORT={self.port}"]
        self.process = subprocess.Popen(
            command, cwd=clone, env=environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT, start_new_session=True
        )

    def wait(self, ready, limit: float) -> float:
        """Seconds from the start until ready() holds."""
        while not ready():
            if self.process.poll() is not None or time.monotonic() - self.began > limit:
                raise SystemExit(f"`make run` did not get there:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.2)
        return time.monotonic() - self.began

    def stop(self) -> float:
        began = time.monotonic()
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(60)
        return time.monotonic() - began


def measure(with_tests: bool) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="tissueboard-first-run-") as folder:
        clone, home = Path(folder) / "clone", Path(folder) / "home"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        began = time.monotonic()
        subprocess.run(["make", "setup"], cwd=clone, check=True, stdout=subprocess.DEVNULL)
        rows.append(("`make setup` in a fresh clone (packages may come from a local cache)", f"{time.monotonic() - began:.0f} s"))
        rows.append(("size of the environment (.venv)", f"{folder_mib(clone / '.venv') / 1024:.1f} GiB"))
        run = Run(clone, home)
        rows.append(("first start to /healthz 200 (initdb, migrations, web, workers)", f"{run.wait(lambda: healthy(run.port), 300):.1f} s"))
        ready = run.wait(lambda: "The demo is ready" in run.log.read_text(), 1800)
        rows.append(("first start to the whole demo (40 patients, models trained and applied)", f"{ready:.0f} s"))
        rows.append(("home folder after the demo", f"{folder_mib(home):.0f} MiB"))
        rows += case_cost(clone, home)
        rows.append(("Ctrl-C to everything stopped", f"{run.stop():.1f} s"))
        again = Run(clone, home)
        rows.append(("second start to /healthz 200", f"{again.wait(lambda: healthy(again.port), 120):.1f} s"))
        again.stop()
        if with_tests:
            began = time.monotonic()
            done = subprocess.run(["make", "test"], check=False, cwd=clone, capture_output=True, text=True)
            last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
            rows.append(("`make test`", f"{time.monotonic() - began:.0f} s: {last.strip('= ')}"))
            rows += [("", line) for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return rows


def case_cost(clone: Path, home: Path) -> list[tuple[str, str]]:
    """Server time and queries of case pages, second visit, in one process without the web server."""
    import json

    environment = {**os.environ, "TISSUEBOARD_HOME": str(home), "LOG_LEVEL": "ERROR"}
    command = [".venv/bin/python", "manage.py", "shell", "-v", "0", "-c", COST % CASES]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("COST ")), None)
    if line is None:
        raise SystemExit(f"The case pages could not be measured:\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    cost = json.loads(line[5:])
    return [
        (f"case page, server time, median / p95 of {cost['n']} cases", f"{cost['median_ms']:.0f} / {cost['p95_ms']:.0f} ms"),
        ("case page, database queries, median / most", f"{cost['queries_median']:.0f} / {cost['queries_max']}"),
        ("case page, size of the HTML", f"{cost['kib']:.0f} KiB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", action="store_true", help="Also run and time `make test` in the clone.")
    options = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    rows = measure(options.tests)
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}, no GPU used"
    lines = [
        "# First run",
        "",
        f"Made by `make first-run` at {commit} on {machine}. Wall clock, one run.",
        "",
        "| what | measured |",
        "| --- | --- |",
    ]
    lines += [f"| {what} | {figure} |" for what, figure in rows]
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text("\n".join(lines) + "\n")
    sys.stdout.write(RESULT.read_text())


if __name__ == "__main__":
    main()
