"""A real worker on a real Redis: killed with -9 in the middle, the work is found done, once."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from django.test import Client
from live_worker import wait_for

from tissueboard.jobs import services, sweeper
from tissueboard.jobs.models import Job, State
from tissueboard.jobs.scheduling import dispatch

pytestmark = pytest.mark.django_db(transaction=True)

QUICK = {"JOBS_HEARTBEAT_SECONDS": "0.3"}


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def ended(job: Job) -> bool:
    job.refresh_from_db()
    return job.state in (State.SUCCEEDED, State.FAILED, State.CRASHED, State.CANCELLED)


@pytest.mark.parametrize("whom", ["the whole worker", "the process of the pool"])
def test_killed_in_the_middle_the_work_is_done_once(whom, start_worker, tmp_path, settings):
    log = tmp_path / "effects"
    worker = start_worker(**QUICK)
    job = services.enqueue(None, "tests.blocks", {"log": str(log), "n": 6, "hold": 4})
    wait_for(lambda: any(line.startswith("holding") for line in lines(log)), 30, lambda: worker.log.read_text()[-3000:])
    if whom == "the whole worker":
        worker.kill()
        worker = start_worker(**QUICK)
    else:
        os.kill(next(int(line.split()[1]) for line in lines(log) if line.startswith("holding")), signal.SIGKILL)
    settings.JOBS_SILENT_SECONDS = 1.5
    wait_for(lambda: sweeper.sweep()["revived"] == 1, 30)
    wait_for(lambda: ended(job), 30, lambda: worker.log.read_text()[-3000:])
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    assert job.outputs.count() == 1
    effects = Counter(line for line in lines(log) if not line.startswith(("start", "holding")))
    assert effects == {**{f"block {n}": 1 for n in range(6)}, "published": 1}
    assert [t.to_state for t in job.transitions.all()] == ["queued", "running", "crashed", "queued", "running", "saving", "succeeded"]

    # A message that Redis delivers again, late, finds nothing to do.
    for attempt in (1, 2):
        worker_task(job.pk, attempt)
    marker = services.enqueue(None, "tests.echo", {"text": "after"})
    wait_for(lambda: ended(marker), 30)
    assert Counter(lines(log))["published"] == 1
    assert job.outputs.count() == 1


def worker_task(job_id: int, attempt: int) -> None:
    from tissueboard.jobs.tasks import run_job

    run_job.apply_async(args=[job_id, attempt], queue="cpu")


def test_a_running_job_stops_when_it_is_cancelled(start_worker, tmp_path):
    log = tmp_path / "effects"
    start_worker(**QUICK)
    job = services.enqueue(None, "tests.blocks", {"log": str(log), "n": 3, "hold": 1})
    wait_for(lambda: any(line.startswith("holding") for line in lines(log)), 30)
    Job.objects.filter(pk=job.pk).update(cancel_requested=True)
    wait_for(lambda: ended(job), 30)
    assert job.state == State.CANCELLED
    assert not job.outputs.exists()


def test_health_needs_the_worker(start_worker, clean_redis):
    client = Client()
    sick = client.get("/healthz")
    assert sick.status_code == 503
    assert sick.json()["database"]["ok"] and sick.json()["queue"]["ok"] and not sick.json()["worker"]["ok"]
    start_worker(queues=("io",))
    assert client.get("/healthz").json()["worker"]["sentence"] == "No worker answers for: cpu, gpu."
    start_worker(queues=("cpu", "gpu"))
    well = client.get("/healthz")
    assert well.status_code == 200 and well.json()["ok"]
    assert dispatch(0, 1) is None


def test_health_needs_the_queue(db, settings):
    settings.REDIS_CLIENT_URL = "unix:///tmp/there-is-no-such-socket"
    answer = Client().get("/healthz")
    assert answer.status_code == 503
    assert not answer.json()["queue"]["ok"]
