"""The whole product as a person starts it: `manage.py run` with a home folder of its own, real services and real workers."""

from __future__ import annotations

import json
import os
import shutil
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
PASSWORD = "six-patients-for-tests"
SECONDS = 420


class LiveSite:
    """base_url, home and password of a running product; `manage(...)` runs a command on the same data."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix=f"tissueboard-test-{os.getpid()}-site-", dir="/tmp"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.base_url, self.password = f"http://127.0.0.1:{self.port}", PASSWORD
        self.environment = {
            **{
                k: v
                for k, v in os.environ.items()
                if k not in ("DJANGO_SETTINGS_MODULE", "TISSUEBOARD_TEST_DATABASE", "JOBS_EXTRA_HANDLERS")
            },
            "TISSUEBOARD_HOME": str(self.home),
            "TISSUEBOARD_DEMO": "0",
            "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}:{ROOT / 'tests' / 'support'}",
            "LOG_LEVEL": "WARNING",
        }
        self.log = self.home / "run.log"
        command = [sys.executable, str(ROOT / "manage.py"), "run", "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT, start_new_session=True
        )

    def manage(self, *arguments: str) -> str:
        """What a management command prints; a failing one raises with its output."""
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            raise AssertionError(
                f"manage.py {' '.join(arguments)[:80]} ended with {done.returncode}:\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
            )
        return done.stdout

    def shell(self, code: str) -> str:
        return self.manage("shell", "-v", "0", "-c", code)

    def wait_until_healthy(self) -> None:
        self._wait(self._healthy, "answer on /healthz")

    def wait_for_jobs(self) -> None:
        """Until no job is open. An undone job is an AssertionError that names it and its sentence."""
        self._wait(lambda: self._open_jobs() == 0, "finish its jobs")
        undone = self.shell(
            "from tissueboard.jobs.models import Job; "
            "print([(j.kind, j.state, j.error_sentence, j.traceback[-800:]) for j in Job.objects.exclude(state='succeeded')])"
        )
        assert undone.strip() == "[]", undone

    def _open_jobs(self) -> int:
        code = (
            "from tissueboard.jobs.models import Job; print(Job.objects.filter(state__in=['created','queued','running','saving']).count())"
        )
        return int(self.shell(code).strip().splitlines()[-1])

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.base_url}/healthz", timeout=5) as answer:
                return bool(json.loads(answer.read()))
        except (urllib.error.URLError, OSError, ValueError):
            return False

    def _wait(self, ready, what: str) -> None:
        end = time.monotonic() + SECONDS
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"The product did not {what}:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.5)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)


def start_with_reference() -> LiveSite:
    """A running product whose six simulated patients went through the whole chain in its own workers."""
    site = LiveSite()
    try:
        site.wait_until_healthy()
        site.shell(f"from reference_six import enqueue_reference; enqueue_reference({PASSWORD!r})")
        site.wait_for_jobs()
    except BaseException:
        site.stop()
        raise
    return site
