"""A command starts the services it needs and stops them, unless others use them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from live_worker import ROOT, wait_for

from tissueboard.embedded import postgres, redis, services
from tissueboard.embedded.children import Child, stop_all
from tissueboard.embedded.errors import EmbeddedServiceError
from tissueboard.embedded.lock import Lease
from tissueboard.embedded.supervisor import check_port


@pytest.fixture(scope="module")
def home():
    folder = Path(tempfile.mkdtemp(prefix=f"tissueboard-test-{os.getpid()}-", dir="/tmp"))
    yield folder
    services.stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


def manage(home: Path, *arguments: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")}
    env |= {"TISSUEBOARD_HOME": str(home), "JOBS_EXTRA_HANDLERS": ""}
    return subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_commands_that_read_no_data_start_nothing(tmp_path):
    assert manage(tmp_path, "version").returncode == 0
    assert not (tmp_path / "postgres").exists()


@pytest.mark.skipif(bool(os.environ.get("DATABASE_URL")), reason="Needs the embedded services.")
def test_services_in_use_stay_and_the_last_user_stops_them(home):
    query = "from django.db import connection; print(connection.cursor().execute('SELECT 40 + 2').fetchone())"
    lease = Lease(home)
    done = manage(home, "shell", "--no-imports", "-c", query)
    assert "(42,)" in done.stdout, done.stderr
    assert (postgres.is_running(home), redis.is_running(home)) == (True, True)
    lease.release(lambda: None)
    assert "(42,)" in manage(home, "shell", "--no-imports", "-c", query).stdout
    assert (postgres.is_running(home), redis.is_running(home)) == (False, False)


def test_the_last_of_two_leases_knows_that_it_is_the_last(home):
    told = []
    first, second = Lease(home), Lease(home)
    first.release(lambda: told.append("first"))
    second.release(lambda: told.append("second"))
    assert told == ["second"]


def test_a_port_in_use_is_a_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedServiceError, match=f"Port {port} of 127.0.0.1 cannot be used") as error:
            check_port("127.0.0.1", port)
    assert f"PORT={port + 1}" in error.value.hint


def test_a_child_that_ignores_the_request_to_stop_is_killed_with_what_it_started(tmp_path):
    program = "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    program += "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid, flush=True); time.sleep(600)"
    child = Child("stubborn", [sys.executable, "-c", program], {}, tmp_path / "log")
    child.start()
    wait_for(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().strip(), 10)
    stop_all([child], 0.2)
    assert child.exit_code() == -signal.SIGKILL
    grandchild = int((tmp_path / "log").read_text())
    wait_for(lambda: not alive(grandchild), 10)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_child_that_keeps_dying_waits_longer_each_time():
    child = Child("mortal", ["false"], {}, None)
    child.start()
    assert [child.plan_restart() for _ in range(7)] == [0.2, 1, 2, 5, 10, 30, 30]
