"""`manage.py run` as people use it: starts, heals what is killed, stops cleanly, and goes on where it stopped."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import psycopg
import pytest
from live_worker import ROOT, wait_for

from tissueboard.embedded import postgres, redis, services, urls

pytestmark = pytest.mark.skipif(bool(os.environ.get("DATABASE_URL") or os.environ.get("REDIS_URL")), reason="Needs the embedded services.")
STOP_SECONDS = 15


class Run:
    """One `manage.py run` on a home folder of its own."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.output = home / "terminal"
        with self.output.open("ab") as out:
            command = [sys.executable, "manage.py", "run", "--port", str(self.port)]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment(home), stdout=out, stderr=out, start_new_session=True)

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5) as answer:
                return json.load(answer)["ok"]
        except (urllib.error.URLError, OSError):
            return False

    def wait_until_healthy(self) -> None:
        wait_for(self.healthy, 90, self.output.read_text, self.process)

    def kill(self, *words: str) -> None:
        """kill -9 of each child whose command line holds one of the words."""
        chosen = [c for c in psutil.Process(self.process.pid).children() if any(word in " ".join(c.cmdline()) for word in words)]
        assert len(chosen) == len(words)
        for child in chosen:
            child.kill()

    def stop(self) -> list[psutil.Process]:
        """Ctrl-C; gives all processes that it had."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=STOP_SECONDS) == 0, self.output.read_text()
        return family


def environment(home: Path) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TISSUEBOARD_") and k != "DJANGO_SETTINGS_MODULE"}
    env |= {"TISSUEBOARD_HOME": str(home), "TISSUEBOARD_DEMO": "0", "TISSUEBOARD_CPU_PROCESSES": "1"}
    return env | {"JOBS_EXTRA_HANDLERS": "handlers_for_tests", "PYTHONPATH": str(ROOT / "tests" / "support")}


@pytest.fixture
def home():
    folder = Path(tempfile.mkdtemp(prefix=f"tissueboard-test-{os.getpid()}-", dir="/tmp"))
    yield folder
    services.stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


def test_what_is_killed_comes_back_and_what_was_stopped_goes_on(home):
    log = home / "effects"
    first = Run(home)
    try:
        first.wait_until_healthy()
        ask = f"from tissueboard.jobs.services import enqueue; enqueue(None, 'tests.blocks', dict(log={str(log)!r}, n=3, hold=1))"
        subprocess.run([sys.executable, "manage.py", "shell", "--no-imports", "-c", ask], cwd=ROOT, env=environment(home), check=True)
        wait_for(lambda: log.exists() and "holding" in log.read_text(), 60, first.output.read_text)

        first.kill("gunicorn", "-Q io")
        wait_for(lambda: not first.healthy(), 30)
        first.wait_until_healthy()
        assert "web ended (killed by signal 9)" in first.output.read_text()

        family = first.stop()
    finally:
        first.process.kill()
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert not postgres.is_running(home) and not redis.is_running(home)
    assert "1 unfinished jobs go back to the queue" in first.output.read_text()

    second = Run(home)
    try:
        second.wait_until_healthy()
        wait_for(lambda: "published" in log.read_text(), 60, second.output.read_text)
        wait_for(lambda: state_of_jobs(home) == ["succeeded"], 10)
        second.stop()
    finally:
        second.process.kill()
    assert sorted(line for line in log.read_text().splitlines() if not line.startswith(("start", "holding"))) == [
        "block 0",
        "block 1",
        "block 2",
        "published",
    ]


def state_of_jobs(home: Path) -> list[str]:
    with psycopg.connect(urls.database_url(home)) as connection:
        return [state for (state,) in connection.execute("SELECT state FROM jobs_job")]
