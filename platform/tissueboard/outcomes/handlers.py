"""Job kinds of outcomes."""

from tissueboard.jobs.context import Done, JobContext
from tissueboard.jobs.registry import handler


@handler("outcomes.discover", queue="cpu", title="Discovery on cells", soft_seconds=6 * 3600)
def discover(ctx: JobContext) -> Done:
    from . import discovery_jobs

    return discovery_jobs.discover(ctx)
