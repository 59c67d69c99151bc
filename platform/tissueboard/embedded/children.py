"""The processes of `manage.py run`, as command lines; and one of them while it lives, dies and is started again."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tissueboard.embedded.urls import digest

ROOT = Path(__file__).resolve().parents[3]
BACKOFF_SECONDS = (0.2, 1, 2, 5, 10, 30)
STEADY_SECONDS = 60
LOG_BYTES = 10 * 2**20
# One thread per process: the workers already fill the cores. Threads that a job asks for all the same must not spin while they wait.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1") | {
    "OMP_WAIT_POLICY": "passive"
}


def worker_suffix(home: Path) -> str:
    """Part of every worker's name that tells the workers of this home folder from all others."""
    return f"-{digest(home)[:8]}@"


def has_gpu() -> bool:
    """Without importing torch, which takes seconds."""
    return Path("/dev/nvidiactl").exists()


def commands(home: Path, host: str, port: int) -> dict[str, tuple[list[str], dict[str, str]]]:
    """{name: (command, environment)} in the order of starting. The queue `gpu` has a worker of its own only where there is a GPU."""
    python, suffix = sys.executable, worker_suffix(home)
    cores = len(os.sched_getaffinity(0))
    celery = [python, "-m", "celery", "-A", "tissueboard.celery"]

    def worker(name: str, queues: str, processes: int) -> tuple[list[str], dict[str, str]]:
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "-O", "fair", "-l", "INFO"]
        # `run` itself made the checks; made again by each worker they would load every page.
        return [*celery, "worker", "-n", f"{name}{suffix}%h", "-Q", queues, "-c", str(processes), *quiet], ONE_THREAD | {
            "CELERY_SKIP_CHECKS": "1"
        }

    gunicorn = ["--worker-class", "gthread", "--workers", "2", "--threads", "4", "--timeout", "120", "--graceful-timeout", "3", "--preload"]
    web = [python, "-m", "gunicorn", "tissueboard.wsgi:application", "--bind", f"{host}:{port}", *gunicorn, "--access-logfile", "-"]
    found = {
        "web": (web, ONE_THREAD),
        "worker-io": worker("io", "io", 2),
        "worker-cpu": worker("cpu", "cpu" if has_gpu() else "cpu,gpu", int(os.environ.get("TISSUEBOARD_CPU_PROCESSES", cores))),
    }
    if has_gpu():
        found["worker-gpu"] = worker("gpu", "gpu", 1)
    # The schedule needs no memory: a sweep too many does no harm.
    found["beat"] = ([*celery, "beat", "-S", "celery.beat.Scheduler", "--pidfile=", "-l", "WARNING"], {})
    return found


@dataclass
class Child:
    """A process in a session of its own, with its log file. It is told to stop when we die, even by kill -9."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path | None
    process: subprocess.Popen | None = None
    started: float = 0.0
    deaths: int = 0
    due: float = field(default=0.0)

    def start(self) -> None:
        environment = os.environ | self.environment
        paths = [str(ROOT / "platform"), str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        environment |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        environment.setdefault("DJANGO_SETTINGS_MODULE", "tissueboard.settings")
        out = self._open_log()
        try:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT if out else None,
                start_new_session=True, preexec_fn=_die_with_parent,  # noqa: PLW1509 - the supervisor has one thread
            )  # fmt: skip
        finally:
            if out:
                out.close()
        self.started = time.monotonic()

    def _open_log(self):
        if self.log is None:
            return None
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        return self.log.open("ab")

    def exit_code(self) -> int | None:
        """None while it runs (or was never started)."""
        return self.process.poll() if self.process else None

    def plan_restart(self) -> float:
        """After a death: seconds to wait before the next start, longer each time unless it had lived steadily."""
        if time.monotonic() - self.started > STEADY_SECONDS:
            self.deaths = 0
        wait = BACKOFF_SECONDS[min(self.deaths, len(BACKOFF_SECONDS) - 1)]
        self.deaths += 1
        self.due, self.process = time.monotonic() + wait, None
        return wait

    def signal(self, number: int) -> None:
        """To the process itself; its own children follow it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9 of the whole session: nothing that it started outlives it."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _die_with_parent() -> None:
    """Linux: the kernel sends SIGTERM when our parent is gone. Elsewhere there is no such thing, and a leftover shows as a port in use."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def stop_all(children: list[Child], seconds: float) -> None:
    """Asks all to stop, waits until they did, kills those that did not."""
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    for child in children:
        while child.process and child.exit_code() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        child.kill()
