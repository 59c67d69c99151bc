"""A real Celery worker as processes of their own, on the test's database and Redis."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from django.conf import settings
from django.db import connection

ROOT = Path(__file__).resolve().parents[2]
READY_SECONDS = 60


class LiveWorker:
    def __init__(self, queues: tuple[str, ...], processes: int, log: Path, environment: dict[str, str]) -> None:
        self.queues, self.log = queues, log
        self.name = f"test{time.monotonic_ns()}@localhost"
        paths = [ROOT / "platform", ROOT, ROOT / "tests" / "support", *filter(None, [os.environ.get("PYTHONPATH")])]
        env = os.environ | environment
        env |= {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE,
            "TISSUEBOARD_TEST_DATABASE": connection.settings_dict["NAME"],
            "OMP_NUM_THREADS": "1",
            "CELERY_SKIP_CHECKS": "1",  # the test process made them; they would load every page
        }
        command = [sys.executable, "-m", "celery", "-A", "tissueboard.celery", "worker", "-Q", ",".join(queues), "-c", str(processes)]
        command += ["-n", self.name, "--without-gossip", "--without-mingle", "-l", "INFO"]
        with log.open("wb") as out:
            # A session of its own, so that kill() reaches the pool's processes too.
            self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=out, stderr=out, start_new_session=True)

    def wait_until_ready(self) -> None:
        """Until the worker listens to all its queues."""
        from tissueboard.jobs.presence import served_queues

        wait_for(lambda: set(self.queues) <= served_queues(), READY_SECONDS, lambda: self.log.read_text()[-3000:], self.process)

    def pool(self) -> list[int]:
        """Process ids of the pool, without the parent."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    def kill(self) -> None:
        """kill -9 of the whole worker, as when the machine dies."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def wait_for(condition, seconds: float, explain=lambda: "", process: subprocess.Popen | None = None) -> None:
    """Polls a condition about other processes; fails with an explanation when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            raise AssertionError(f"It did not happen within {seconds} s. {explain()}")
        time.sleep(0.05)
