"""What all tests share: reference folders, embedded services of their own, running jobs here or in a real worker."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

# The same examples on every run, however slow the machine: a suite that fails one time in three says nothing.
hypothesis_settings.register_profile("house", deadline=None, derandomize=True)
hypothesis_settings.load_profile("house")

ROOT = Path(__file__).resolve().parents[1]
PARITY = "parity: "


def pytest_unconfigure() -> None:
    """Removes the home folder that tissueboard_test_settings made for this run."""
    home = os.environ.get("TISSUEBOARD_TEST_HOME", "")
    if f"tissueboard-test-{os.getpid()}-" in home:
        shutil.rmtree(home, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The run ends with how many golden and real-data tests did not run."""
    skipped = [r for r in terminalreporter.stats.get("skipped", []) if isinstance(r.longrepr, tuple) and PARITY in r.longrepr[2]]
    terminalreporter.write_line(f"Golden and real-data tests skipped: {len(skipped)}.")


def _folder(variable: str, default: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not folder.is_dir():
        reason = f"{PARITY}{variable} names no folder ({folder.name} not found)"
        if os.environ.get("REQUIRE_PARITY") == "1":
            pytest.fail(reason + ", and REQUIRE_PARITY=1 asks for it.")
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of reference values made by the authors' own code."""
    return _folder("TISSUEBOARD_GOLDEN", "golden")


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real slides, assays, cohorts and hostile files."""
    return _folder("TISSUEBOARD_DATA", "data")


# --- embedded services, started by the first test that needs one


@pytest.fixture(scope="session")
def test_home() -> Path:
    """The home folder of this run: settings, files, services."""
    from leftovers import remove_leftovers

    remove_leftovers()
    return Path(os.environ["TISSUEBOARD_TEST_HOME"])


@pytest.fixture(scope="session")
def postgres_server(test_home: Path) -> Iterator[None]:
    if os.environ.get("DATABASE_URL"):
        yield
        return
    from tissueboard.embedded import postgres

    postgres.start(test_home)
    yield
    postgres.stop(test_home)


@pytest.fixture(scope="session")
def redis_server(test_home: Path) -> Iterator[str]:
    """A real Redis; gives its URL for redis-py."""
    from django.conf import settings

    if os.environ.get("REDIS_URL"):
        yield settings.REDIS_CLIENT_URL
        return
    from tissueboard.embedded import redis

    redis.start(test_home)
    yield settings.REDIS_CLIENT_URL
    redis.stop(test_home)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(postgres_server: None) -> None:
    """pytest-django asks for this before it makes the test database: the server runs by then."""


@pytest.fixture
def clean_redis(redis_server: str) -> Iterator[str]:
    """A real Redis that holds nothing yet."""
    import redis

    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    yield redis_server


# --- jobs


@pytest.fixture
def run_jobs(db: None) -> Callable[[], list[int]]:
    """Call it to do all queued work here, in order, until nothing is due; gives the ids of the jobs it ran. No Redis, no worker."""
    from tissueboard.jobs import execution, sweeper
    from tissueboard.jobs.models import Job, State

    def run() -> list[int]:
        ran: list[int] = []
        while True:
            sweeper._settle_created()
            job = Job.objects.filter(state=State.QUEUED).order_by("queued_at", "pk").first()
            if job is None:
                return ran
            execution.execute(job.pk, job.attempt, worker="test")
            ran.append(job.pk)

    return run


@pytest.fixture
def start_worker(transactional_db: None, clean_redis: str, tmp_path: Path) -> Iterator[Callable]:
    """Starts real Celery workers on the test database: `start_worker(queues=("io", "cpu", "gpu"), processes=1, **environment)`."""
    from live_worker import LiveWorker

    workers: list[LiveWorker] = []

    def start(queues: tuple[str, ...] = ("io", "cpu", "gpu"), processes: int = 1, **environment: str) -> LiveWorker:
        worker = LiveWorker(queues, processes, tmp_path / f"worker-{len(workers)}.log", environment)
        workers.append(worker)
        worker.wait_until_ready()
        return worker

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture
def live_stack(start_worker: Callable) -> object:
    """Database, Redis and one real worker for all queues, for a test that follows work from a page to its result."""
    return start_worker()


@pytest.fixture(scope="session")
def site() -> Iterator[object]:
    """The whole product, started as a person starts it, with six simulated patients (see live_site.LiveSite)."""
    from live_site import start_with_reference

    running = start_with_reference()
    yield running
    running.stop()
