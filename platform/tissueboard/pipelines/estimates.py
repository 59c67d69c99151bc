"""How long a plan takes and how much it writes, from what was measured here. What was never measured is unknown, and said so."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis
from django.db.models import Sum

from tissueboard.jobs import registry
from tissueboard.jobs.models import Job, JobOutput, State
from tissueboard.jobs.presence import Crew, crews
from tissueboard.jobs.selectors import RECENT, expected_seconds
from tissueboard.model_registry.models import ModelVersion
from tissueboard.slides.models import Slide
from tissueboard.store import store


@dataclass(frozen=True)
class Estimate:
    """seconds, disk_bytes: None where unknown; why_no_time, why_no_disk then say why. processes: what works on the plan's queues now."""

    seconds: float | None
    why_no_time: str
    disk_bytes: int | None
    why_no_disk: str
    free_bytes: int
    processes: int

    @property
    def fits(self) -> bool:
        """False only where the disk is known to be too small."""
        return self.disk_bytes is None or self.disk_bytes <= self.free_bytes


@dataclass(frozen=True)
class Cost:
    """What one job of a kind costs: seconds of one process, bytes in the store; None where unknown, then `why` may say why."""

    seconds: float | None
    bytes: float | None
    why: str = ""


def estimate(jobs: Mapping[str, int], costs: Mapping[str, Cost] | None = None) -> Estimate:
    """jobs: {kind: how many would run}. costs: what is known better than by the last jobs of the kind.

    Queues that the same worker serves share its processes; other queues work side by side, so the slowest decides.
    Work of other people in the queues is not counted.
    """
    jobs = {kind: n for kind, n in jobs.items() if n}
    known = {kind: (costs or {}).get(kind) or measured(kind) for kind in jobs}
    workers, why_no_time = _workers()
    work: dict[str, float] = {}
    for kind, n in jobs.items():
        seconds = known[kind].seconds
        if seconds is None:
            why_no_time = why_no_time or _unmeasured(kind, known[kind])
        else:
            queue = registry.get(kind).queue
            work[queue] = work.get(queue, 0.0) + n * seconds
    lanes = _lanes(work, workers)
    idle = [queue for queue, (_, processes) in lanes.items() if not processes]
    if not why_no_time and idle:
        why_no_time = f"no worker serves the queue {', '.join(sorted(idle))}"
    seconds = None if why_no_time else max((work / processes for work, processes in lanes.values()), default=0.0)
    unknown = [kind for kind in jobs if known[kind].bytes is None]
    why_no_disk = _unmeasured(unknown[0], known[unknown[0]]) if unknown else ""
    disk = None if unknown else round(sum(n * (known[kind].bytes or 0) for kind, n in jobs.items()))
    processes = sum(crew.processes for crew in workers if crew.queues & {registry.get(kind).queue for kind in jobs})
    return Estimate(seconds, why_no_time, disk, why_no_disk, free_bytes(), processes)


def _unmeasured(kind: str, cost: Cost) -> str:
    return cost.why or f"no job “{registry.title_of(kind)}” has succeeded here yet"


def cost_of(kind: str, slides: Sequence[Slide], version: ModelVersion) -> Cost:
    """The mean over these slides, where the cost of a step is known slide by slide; else by the last jobs of the kind."""
    if kind != "predictions.features" or not slides:
        return measured(kind)
    from tissueboard.predictions.feature_jobs import estimate_many

    found = estimate_many(slides, version).values()
    seconds = [one.seconds for one in found if one.seconds is not None]
    written = sum(one.bytes for one in found) / len(found)
    if len(seconds) < len(found):
        return Cost(None, written, f"no features were made here yet with {version}")
    return Cost(sum(seconds) / len(found), written)


def measured(kind: str) -> Cost:
    """Median seconds and mean bytes of the last succeeded jobs of a kind."""
    recent = list(Job.objects.filter(kind=kind, state=State.SUCCEEDED).order_by("-finished_at").values_list("pk", flat=True)[:RECENT])
    if not recent:
        return Cost(None, None)
    written = JobOutput.objects.filter(job__in=recent).aggregate(total=Sum("size"))["total"] or 0
    return Cost(expected_seconds(kind), written / len(recent))


def free_bytes() -> int:
    """What is free on the disk that holds the store."""
    store.root.mkdir(parents=True, exist_ok=True)
    return shutil.disk_usage(store.root).free


def _workers() -> tuple[list[Crew], str]:
    try:
        return crews(), ""
    except redis.RedisError:
        return [], "the queue does not answer"


def _lanes(work: Mapping[str, float], workers: list[Crew]) -> dict[str, tuple[float, int]]:
    """By the first queue of each group of queues that share a worker: (seconds of work, processes)."""
    groups: list[set[str]] = [{queue} for queue in work]
    for crew in workers:
        shared = [group for group in groups if group & crew.queues]
        if len(shared) > 1:
            groups = [group for group in groups if group not in shared] + [set().union(*shared)]
    return {
        min(group): (sum(work[queue] for queue in group), sum(crew.processes for crew in workers if crew.queues & group))
        for group in groups
    }
